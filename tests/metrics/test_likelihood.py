import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter
from scipy.stats import poisson

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.metrics.likelihood import poisson_log_likelihood


@pytest.fixture
def truth():
    """A sharp line of 50 localizations per pixel on a background of 0.5."""
    image = np.full((40, 60), 0.5)
    image[20] = 50
    return image


@pytest.fixture
def counts(truth):
    return np.random.default_rng(0).poisson(truth)


def test_is_the_poisson_likelihood_up_to_a_constant_of_the_counts(truth, counts):
    others = [truth, 2 * truth, gaussian_filter(truth, 1)]
    scores = [poisson_log_likelihood(counts, image, background=1e-12) for image in others]
    expected = [poisson.logpmf(counts, image).sum() / counts.sum() for image in others]
    assert_allclose(np.diff(scores), np.diff(expected), atol=1e-9)


def test_mixes_in_the_background_as_documented():
    counts, density = np.array([[2.0, 0.0, 1.0, 1.0]]), np.array([[8.0, 0.0, 0.0, 4.0]])
    mixed = 0.9 * density / 3 + 0.1
    expected = ((counts * np.log(mixed)).sum() - mixed.sum()) / 4
    assert poisson_log_likelihood(counts, density, exposure=1 / 3, background=0.1) == pytest.approx(
        expected
    )


def test_prefers_the_truth_to_a_blur_a_scale_and_a_shift(truth, counts):
    best = poisson_log_likelihood(counts, truth)
    for other in (gaussian_filter(truth, 1), 0.8 * truth, 1.25 * truth, np.roll(truth, 1, axis=0)):
        assert poisson_log_likelihood(counts, other) < best


def test_exposure_scales_the_density(truth, counts):
    assert poisson_log_likelihood(counts, truth / 4, exposure=4) == pytest.approx(
        poisson_log_likelihood(counts, truth)
    )


def test_no_density_at_all_still_has_a_likelihood(counts):
    score = poisson_log_likelihood(counts, np.zeros(counts.shape))
    assert score == pytest.approx(math.log(0.01 * counts.mean()) - 0.01)


def test_rounding_error_below_zero_counts_as_zero(truth, counts):
    empty, rounded = truth.copy(), truth.copy()
    empty[:10], rounded[:10] = 0, -1e-8
    assert poisson_log_likelihood(counts, rounded) == poisson_log_likelihood(counts, empty)


def test_inputs_stay_as_they_were(truth, counts):
    copies = truth.copy(), counts.copy()
    poisson_log_likelihood(counts, truth)
    np.testing.assert_array_equal(truth, copies[0])
    np.testing.assert_array_equal(counts, copies[1])


@pytest.mark.parametrize(
    ("counts", "density", "options", "message"),
    [
        (np.ones((2, 2)), np.ones((2, 3)), {}, r"same shape, got \(2, 2\) and \(2, 3\)"),
        (np.zeros((2, 2)), np.ones((2, 2)), {}, "nor all zero"),
        (-np.ones((2, 2)), np.ones((2, 2)), {}, "counts must not be negative"),
        (np.ones((2, 2)), np.array([[1, 1], [1, -0.01]]), {}, "density must not be negative"),
        (np.ones((2, 2)), -np.ones((2, 2)), {}, "density must not be negative"),
        (np.ones((2, 2)), np.full((2, 2), np.nan), {}, "density has 4 pixels that are nan or inf"),
        (np.full((2, 2), np.inf), np.ones((2, 2)), {}, "counts has 4 pixels that are nan or inf"),
        (np.ones((0, 2)), np.ones((0, 2)), {}, r"at least 1 pixels a side, got shape \(0, 2\)"),
        (np.ones((2, 2)), np.ones((2, 2)), {"background": 0}, "background must be in"),
        (np.ones((2, 2)), np.ones((2, 2)), {"background": 1}, "background must be in"),
        (np.ones((2, 2)), np.ones((2, 2)), {"background": math.nan}, "background must be in"),
        (np.ones((2, 2)), np.ones((2, 2)), {"background": "a"}, "background must be in .*got 'a'"),
        (np.ones((2, 2)), np.ones((2, 2)), {"exposure": 0}, "exposure must be a positive"),
        (np.ones((2, 2)), np.ones((2, 2)), {"exposure": math.inf}, "exposure must be a positive"),
        (np.ones((2, 2)), np.ones((2, 2)), {"exposure": None}, "exposure must be a pos.*got None"),
        ([1, 2], [1, 2], {}, r"counts must be two-dimensional .* got shape \(2,\)"),
        (
            np.ones((2, 2)),
            np.full((2, 2), 1e300),
            {"exposure": 1e10},
            "leaves the range of float",
        ),
        (np.ones((2, 2)), np.full((2, 2), 1e308), {}, "leaves .* a density up to 1e\\+308"),
        (np.full((2, 2), 1e308), np.ones((2, 2)), {}, "leaves .* counts up to 1e\\+308"),
    ],
)
def test_refuses_what_has_no_likelihood(counts, density, options, message):
    with pytest.raises(InvalidInputError, match=message):
        poisson_log_likelihood(counts, density, **options)


@pytest.mark.parametrize("values", [[[1j, 1]], [["a", "b"]]])
@pytest.mark.parametrize("name", ["counts", "density"])
def test_refuses_what_is_no_image_of_real_numbers(name, values):
    images = {"counts": np.ones((1, 2)), "density": np.ones((1, 2))} | {name: np.array(values)}
    with pytest.raises(InvalidTypeError, match=f"{name} must hold real numbers"):
        poisson_log_likelihood(**images)
