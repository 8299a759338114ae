"""Ensembles, orientations and splits: the mean of opinions and how far they deviate from it."""

import numpy as np
import pytest
import torch

from smlmkit import Localizations, N2NReconstructor
from smlmkit.errors import InvalidInputError, UnfamiliarTableWarning

QUICK = {
    "max_samples": 16,
    "batch_size": 4,
    "patch_size": 16,
    "depth": 2,
    "width": 4,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def ensemble(fovs):
    return N2NReconstructor(**QUICK, n_estimators=3).fit(fovs)


def raw_outputs(model, counts):
    """Apply the networks by hand to a whole padded image."""
    multiple = model.networks_[0].multiple
    padded = np.pad(counts, [(0, -side % multiple) for side in counts.shape])
    with torch.inference_mode():
        return [
            network(torch.from_numpy(padded)[None, None])[0, 0]
            .clamp(min=0)
            .numpy()[: counts.shape[0], : counts.shape[1]]
            for network in model.networks_
        ]


def counts_of(fov):
    edges = [np.arange(0, side + 1, 10.0) for side in (2000, 3000)]
    return np.histogram2d(fov.y, fov.x, bins=edges)[0].astype(np.float32)


def test_members_differ_and_each_learns_from_a_subset(fovs, ensemble):
    first, second, third = (network.output.weight for network in ensemble.networks_)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    alone = N2NReconstructor(**QUICK, n_estimators=2, subset_share=1.0).fit(fovs)
    assert alone.histories_[0].loss != ensemble.histories_[0].loss


def test_mean_and_mean_absolute_deviation_of_an_ensemble(fovs, ensemble):
    image, deviation = ensemble.predict(fovs[0], return_deviation=True)
    outputs = np.array(raw_outputs(ensemble, counts_of(fovs[0])), np.float64)
    mean = outputs.mean(axis=0)
    factor = len(fovs[0]) / mean.sum()
    assert image.attrs["mass_factor"] == pytest.approx(factor, rel=1e-4)
    np.testing.assert_allclose(image, factor * mean, rtol=1e-3, atol=1e-5)
    expected = factor * np.abs(outputs - mean).mean(axis=0)
    np.testing.assert_allclose(deviation, expected, rtol=1e-2, atol=1e-5)
    assert deviation.max() > 0
    assert deviation.name == "deviation"


def test_the_mean_does_not_depend_on_whether_a_deviation_is_asked_for(fovs, ensemble):
    image, _ = ensemble.predict(fovs[0], return_deviation=True)
    assert ensemble.predict(fovs[0]).identical(image)


def test_averaging_over_orientations_commutes_with_a_quarter_turn(ensemble):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 64, size=(2, 500)) * 10 + 5.0
    box = (0, 0, 640, 640)
    upright = Localizations({"x": x, "y": y}, field_of_view=box)
    turned = Localizations({"x": 640 - y, "y": x}, field_of_view=box)
    model = N2NReconstructor(**QUICK, tta=True).fit(upright)
    expected = np.rot90(model.predict(upright).to_numpy(), -1)
    np.testing.assert_allclose(model.predict(turned), expected, atol=1e-5)
    model.set_params(tta=False)
    assert (
        np.abs(model.predict(turned).to_numpy() - np.rot90(model.predict(upright), -1)).max() > 1e-3
    )


def test_splits_show_what_the_noise_of_the_table_does(fovs, ensemble):
    model = N2NReconstructor(**QUICK, n_splits=4).fit(fovs)
    image, deviation = model.predict(fovs[0], return_deviation=True)
    assert float(image.sum()) == pytest.approx(len(fovs[0]), rel=1e-5)
    assert deviation.max() > 0
    assert (
        image.attrs["mass_factor"]
        > 1.5 * N2NReconstructor(**QUICK).fit(fovs).predict(fovs[0]).attrs["mass_factor"]
    )  # a half has half of the table's mass
    again, _ = model.predict(fovs[0], return_deviation=True)
    assert again.identical(image)  # random_state is an int
    assert not model.set_params(random_state=1).predict(fovs[0]).equals(image)


def test_lists_in_lists_out(fovs, ensemble):
    images, deviations = ensemble.predict(fovs, return_deviation=True)
    assert [image.shape for image in images] == [image.shape for image in deviations]
    assert len(images) == len(fovs)


def test_one_opinion_has_no_deviation(fovs):
    model = N2NReconstructor(**QUICK).fit(fovs)
    with pytest.raises(InvalidInputError, match="a single opinion has no deviation"):
        model.predict(fovs[0], return_deviation=True)


class TestFamiliarity:
    def test_a_table_of_another_density_is_named(self, fovs, ensemble):
        thin = fovs[1].thin(0.2, random_state=0)
        with pytest.warns(
            UnfamiliarTableWarning, match=r"X\[1\]: its density of .* is [4-6]\.\d times below"
        ):
            ensemble.predict([fovs[0], thin])

    def test_empty_area_is_no_other_density(self, fovs, ensemble):
        wide = Localizations({"x": fovs[0].x, "y": fovs[0].y}, field_of_view=(0, 0, 4000, 20_000))
        ensemble.predict(wide)

    def test_a_table_of_another_uncertainty(self):
        def blurred(uncertainty):
            rng = np.random.default_rng(0)
            columns = {"x": rng.uniform(0, 1000, 500), "y": rng.uniform(0, 1000, 500)}
            columns["uncertainty_x"] = columns["uncertainty_y"] = np.full(500, uncertainty)
            return Localizations(columns, field_of_view=(0, 0, 1000, 1000))

        model = N2NReconstructor(**QUICK).fit(blurred(10.0))
        model.predict(blurred(30.0))
        with pytest.warns(UnfamiliarTableWarning, match="uncertainty of 50 nm is 5.0 times above"):
            model.predict(blurred(50.0))

    def test_a_pixel_size_changed_after_training(self, fovs, ensemble):
        model = N2NReconstructor(**QUICK).fit(fovs).set_params(pixel_size=20)
        with pytest.warns(UnfamiliarTableWarning, match=r"pixel_size is 20 now, but .* with 10\.0"):
            assert model.predict(fovs[0]).pixel_size == 10
