import pytest
import torch

from smlmkit.testing import example_fovs


@pytest.fixture(scope="package")
def fovs():
    return example_fovs()


@pytest.fixture(scope="package")
def weights_of():
    """Give a function that lists all numbers of a model's networks."""

    def list_weights(model):
        return torch.cat(
            [
                tensor.flatten().double()
                for network in model.networks_
                for tensor in network.state_dict().values()
            ]
        )

    return list_weights
