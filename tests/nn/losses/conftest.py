import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """For images this small, threads would only wait for one another."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)
