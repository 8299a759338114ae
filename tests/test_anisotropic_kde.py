"""AnisotropicKDE against the published code, slow formulas, and what it promises."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from smlmkit import AnisotropicKDE, Localizations, PixelGrid, Renderer, to_image
from smlmkit._kernels.anisotropic import _integrate_window, _sample_window
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.tiling import TilePlan

MIN_VARIANCE = 0.25


def image_of(values, pixel_size=10.0):
    values = np.asarray(values, np.float32)
    return to_image(values, PixelGrid((0, 0), pixel_size, values.shape))


def estimate(values, **parameters):
    return AnisotropicKDE(**parameters).fit_transform(image_of(values)).to_numpy()


def window_covariance(counts, i, j, half, corner):
    """Write down the covariance of the counts around (i, j) as the docstring does."""
    offsets, weights = [], []
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            y, x = i + dy, j + dx
            inside = 0 <= y < counts.shape[0] and 0 <= x < counts.shape[1]
            is_corner = abs(dy) == abs(dx) == half
            weight = (counts[y, x] if inside else 0.0) + (corner if is_corner else 0.0)
            offsets.append((dy, dx))
            weights.append(weight)
    return np.cov(np.array(offsets, float).T, aweights=weights, bias=True)


def published_formula(counts, window, scale):
    half = window // 2
    d = np.stack(np.mgrid[-half : half + 1, -half : half + 1], axis=-1).astype(float)
    density = np.zeros(counts.shape)
    for i in range(half, counts.shape[0] - half):
        for j in range(half, counts.shape[1] - half):
            if counts[i, j]:
                covariance = window_covariance(counts, i, j, half, 0.001)
                covariance *= scale / np.linalg.norm(covariance)
                kernel = np.exp(-0.5 * np.einsum("ijk,kl,ijl->ij", d, np.linalg.inv(covariance), d))
                around = density[i - half : i + half + 1, j - half : j + half + 1]
                around += counts[i, j] * kernel / kernel.sum()
    return density


def raise_variances(covariance):
    variances, axes = np.linalg.eigh(covariance)
    return axes @ np.diag(np.maximum(variances, MIN_VARIANCE)) @ axes.T


def integrated_formula(counts, window, scale, n_sub=24):
    """Sum fine samples in every pixel of the window."""
    half = window // 2
    fine = (np.arange(window * n_sub) + 0.5) / n_sub - window / 2
    d = np.stack(np.meshgrid(fine, fine, indexing="ij"), axis=-1)
    density = np.zeros(counts.shape)
    for i, j in zip(*np.nonzero(counts), strict=True):
        covariance = raise_variances(window_covariance(counts, i, j, half, 0.0))
        covariance = raise_variances(covariance * scale / np.linalg.norm(covariance))
        values = np.exp(-0.5 * np.einsum("ijk,kl,ijl->ij", d, np.linalg.inv(covariance), d))
        kernel = values.reshape(window, n_sub, window, n_sub).sum(axis=(1, 3))
        rows = slice(max(i - half, 0), min(i + half + 1, counts.shape[0]))
        columns = slice(max(j - half, 0), min(j + half + 1, counts.shape[1]))
        kernel = kernel[
            rows.start - i + half : rows.stop - i + half,
            columns.start - j + half : columns.stop - j + half,
        ]
        density[rows, columns] += counts[i, j] * kernel / kernel.sum()
    return density


def sparse_counts(shape=(24, 31), seed=0, mean=0.08):
    return np.random.default_rng(seed).poisson(mean, shape).astype(np.float32)


def digital_line(degrees, side=81, length=60):
    """Light the pixel nearest to the line in every column, or in every row if it is steep."""
    angle = np.deg2rad(degrees)
    along = np.arange(-length / 2, length / 2 + 1)
    steps = along * max(abs(np.cos(angle)), abs(np.sin(angle)))
    slope = np.tan(angle) if degrees <= 45 else 1 / np.tan(angle)
    first, second = np.round(steps).astype(int), np.round(np.round(steps) * slope).astype(int)
    rows, columns = (second, first) if degrees <= 45 else (first, second)
    image = np.zeros((side, side), np.float32)
    image[rows + side // 2, columns + side // 2] = 1
    return image


def blur_across(density, degrees):
    """Give the standard deviation across the line, away from the ends, in pixels."""
    y, x = np.mgrid[: density.shape[0], : density.shape[1]] - density.shape[0] // 2
    angle = np.deg2rad(degrees)
    across, along = np.cos(angle) * y - np.sin(angle) * x, np.cos(angle) * x + np.sin(angle) * y
    weights = density * (abs(along) < 20) * (abs(across) < 8)
    return np.sqrt(np.average(across**2, weights=weights))


def spot_on_line(degrees, mode, scale=1.0):
    """Give the share that the pixel in the middle of a line keeps of what it spreads."""
    line = digital_line(degrees, side=31, length=30)[10:21, 10:21]
    covariance = window_covariance(line, 5, 5, 5, 0.001 if mode == "berberich" else 0.0)
    shares, edges = np.zeros((11, 16)), np.empty(20)
    if mode == "berberich":
        covariance *= scale / np.linalg.norm(covariance)
        _sample_window((covariance[0, 0], covariance[0, 1], covariance[1, 1]), 5, shares)
    else:
        covariance = raise_variances(covariance)
        covariance = raise_variances(covariance * scale / np.linalg.norm(covariance))
        _integrate_window((covariance[0, 0], covariance[0, 1], covariance[1, 1]), 5, edges, shares)
    return shares[5, 5] / shares.sum()


class TestPublishedFormula:
    @pytest.mark.parametrize(("window", "scale"), [(11, 1), (11, 2), (11, 4), (7, 1)])
    def test_it_gives_what_the_published_code_gave(self, real_data, window, scale):
        oracle = np.load(real_data / "oracles" / "akde_frcnet_spot01.npz")
        expected = oracle[f"window{window}_scale{scale}"]
        density = estimate(oracle["counts"], window=window, scale=scale, mode="berberich")
        assert abs(density - expected).max() < 1e-6 * expected.max()

    @pytest.mark.parametrize(("window", "scale"), [(3, 1), (5, 0.02), (9, 30)])
    def test_it_is_the_formula(self, window, scale):
        counts = sparse_counts()
        density = estimate(counts, window=window, scale=scale, mode="berberich")
        expected = published_formula(counts, window, scale)
        np.testing.assert_allclose(density, expected, atol=1e-6 * expected.max())

    def test_what_is_near_the_border_gives_nothing(self):
        counts = np.zeros((20, 20))
        counts[4, 10] = counts[10, 15] = 1
        counts[5, 10] = 2
        assert estimate(counts, mode="berberich").sum() == pytest.approx(2)

    def test_a_window_larger_than_the_image_gives_nothing(self):
        assert not estimate(np.ones((9, 9)), window=11, mode="berberich").any()


class TestIntegratedFormula:
    @pytest.mark.parametrize(("window", "scale"), [(3, 1), (7, 0.01), (9, 1), (9, 4), (11, 60)])
    def test_it_is_the_formula(self, window, scale):
        counts = sparse_counts(shape=(16, 21))
        density = estimate(counts, window=window, scale=scale)
        expected = integrated_formula(counts, window, scale)
        np.testing.assert_allclose(density, expected, atol=5e-4 * expected.max())

    @pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90])
    def test_it_is_the_formula_on_lines(self, degrees):
        counts = digital_line(degrees, side=25, length=14)
        expected = integrated_formula(counts, 11, 4)
        np.testing.assert_allclose(estimate(counts, scale=4), expected, atol=5e-4 * expected.max())

    @pytest.mark.parametrize("scale", [1, 2, 4])
    def test_a_line_is_blurred_alike_across_at_every_angle(self, scale):
        angles = range(0, 91, 5)
        blurred = [
            blur_across(estimate(digital_line(angle), scale=scale), angle) for angle in angles
        ]
        unblurred = [blur_across(digital_line(angle), angle) for angle in angles]
        added = np.sqrt(np.square(blurred) - np.square(unblurred))
        assert added.max() < 1.03 * added.min()

    def test_a_line_is_blurred_alike_along_at_every_angle(self):
        """The published formula hardly blurs along a line whose pixel centres it misses."""
        angles = range(0, 91, 5)
        published = [spot_on_line(angle, "berberich") for angle in angles]
        ours = [spot_on_line(angle, "integrated") for angle in angles]
        assert published[0] == pytest.approx(0.40, abs=0.02)
        assert published[4] > 0.9
        assert max(ours) < 1.02 * min(ours)

    @settings(deadline=None, max_examples=60)
    @given(
        arrays(np.float32, st.tuples(*[st.integers(1, 12)] * 2), elements=st.integers(0, 9)),
        st.sampled_from([3, 5, 11]),
        st.sampled_from([0.05, 1.0, 40.0]),
    )
    def test_mass_is_kept_on_every_image(self, counts, window, scale):
        density = estimate(counts, window=window, scale=scale)
        assert density.min() >= 0
        assert density.sum(dtype=float) == pytest.approx(counts.sum(dtype=float), rel=1e-6)

    @pytest.mark.parametrize("factor", [2.0**-40, 1e-6, 1 / 3, 1e6])
    def test_scaling_the_image_scales_the_result(self, factor):
        counts = sparse_counts()
        scaled, density = estimate(counts * np.float32(factor)), estimate(counts)
        np.testing.assert_allclose(scaled, density * factor, rtol=1e-4, atol=1e-6 * scaled.max())

    def test_the_published_formula_does_not_scale(self):
        line = digital_line(0)
        scaled = estimate(line * np.float32(1e-6), mode="berberich") / 1e-6
        assert abs(scaled - estimate(line, mode="berberich")).max() > 0.1


@pytest.mark.parametrize("mode", ["integrated", "berberich"])
class TestBothModes:
    def test_a_shift_by_whole_pixels_shifts_the_result(self, mode):
        counts = np.zeros((60, 60), np.float32)
        counts[20:35, 20:35] = sparse_counts((15, 15), mean=0.4)
        shifted = np.roll(counts, (7, -4), axis=(0, 1))
        expected = np.roll(estimate(counts, mode=mode), (7, -4), axis=(0, 1))
        np.testing.assert_array_equal(estimate(shifted, mode=mode), expected)

    def test_turning_and_mirroring_the_image_turns_and_mirrors_the_result(self, mode):
        counts, density = sparse_counts(), estimate(sparse_counts(), mode=mode)
        for change in (np.flipud, np.fliplr, np.transpose, np.rot90):
            np.testing.assert_allclose(
                estimate(change(counts), mode=mode), change(density), atol=1e-6
            )

    def test_one_pixel_becomes_a_round_spot(self, mode):
        counts = np.zeros((11, 11))
        counts[5, 5] = 3
        density = estimate(counts, mode=mode)
        np.testing.assert_allclose(density, density.T, atol=1e-4)
        np.testing.assert_allclose(density, density[::-1, ::-1], atol=1e-6)
        assert density.sum() == pytest.approx(3, rel=1e-6)

    def test_an_empty_image_stays_empty(self, mode):
        assert not estimate(np.zeros((30, 20)), mode=mode).any()

    def test_the_number_of_threads_changes_nothing(self, mode):
        counts = sparse_counts((300, 80))
        one, two = (estimate(counts, mode=mode, n_threads=n) for n in (1, 2))
        np.testing.assert_array_equal(one, two)

    def test_tiles_with_their_halo_are_the_whole(self, mode):
        image = image_of(sparse_counts((90, 110)))
        kde = AnisotropicKDE(window=7, scale=3, mode=mode)
        whole, tiled = kde.transform(image), np.full(image.shape, np.nan, np.float32)
        for tile in TilePlan(image.shape, tile=32, halo=kde.window - 1):
            tiled[tile.write] = kde.transform(image[tile.read]).to_numpy()[tile.crop]
        np.testing.assert_allclose(tiled, whole, rtol=1e-6, atol=1e-7)

    def test_types_and_strides_of_the_pixels_do_not_matter(self, mode):
        counts = sparse_counts()
        expected = estimate(counts, mode=mode)
        for other in (counts.astype(np.uint8), counts.astype(float), np.asfortranarray(counts)):
            image = to_image(other, PixelGrid((0, 0), 10, other.shape))
            density = AnisotropicKDE(mode=mode).transform(image)
            assert density.dtype == np.float32
            np.testing.assert_array_equal(density, expected)

    def test_planes_of_a_stack_are_images_of_their_own(self, mode):
        planes = np.stack([sparse_counts(seed=seed) for seed in range(4)]).reshape(2, 2, 24, 31)
        grid = PixelGrid((0, 0), 10, (24, 31))
        kde = AnisotropicKDE(mode=mode)
        stack = kde.transform(to_image(planes, grid, channel=[0, 3], z=[-50, 50]))
        assert stack.dims == ("channel", "z", "y", "x")
        alone = kde.transform(to_image(planes[1, 0], grid))
        np.testing.assert_array_equal(stack.sel(channel=3, z=-50), alone)

    @pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, -np.inf])
    def test_pixels_that_are_no_counts_are_refused(self, mode, bad):
        counts = sparse_counts()
        counts[3, 4] = bad
        with pytest.raises(InvalidInputError, match="1 pixels are negative or not finite"):
            estimate(counts, mode=mode)
        with pytest.raises(InvalidInputError, match=r"X\[1\]: 1 pixels"):
            AnisotropicKDE(mode=mode).transform([image_of(sparse_counts()), image_of(counts)])


class TestEstimator:
    def test_it_follows_the_renderer_in_a_pipeline(self):
        rng = np.random.default_rng(0)
        along = rng.uniform(0, 4000, 3000)
        points = {"x": along, "y": along + rng.normal(0, 5, 3000)}
        tables = [Localizations(points, field_of_view=(-100, -100, 4100, 4100))] * 2
        pipeline = make_pipeline(Renderer(10), AnisotropicKDE(scale=2))
        first, _ = pipeline.set_params(anisotropickde__scale=4).fit_transform(tables)
        assert float(first.sum()) == pytest.approx(3000, rel=1e-6)
        counts = Renderer(10).transform(tables[0])
        xr.testing.assert_identical(first, AnisotropicKDE(scale=4).transform(counts))

    def test_clone(self):
        kde = AnisotropicKDE(window=5, scale=2.0, mode="berberich", n_threads=1)
        assert clone(kde).get_params() == kde.get_params()

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"window": 10}, "window must be odd, got 10"),
            ({"window": 1}, "window must be a whole number of at least 3"),
            ({"window": 5.0}, "window must be a whole number"),
            ({"scale": 0}, "scale must be a positive number"),
            ({"scale": np.nan}, "scale must be a positive number"),
            ({"mode": "exact"}, "mode must be 'integrated' or 'berberich'"),
            ({"n_threads": 0}, "n_threads must be a whole number"),
        ],
    )
    def test_bad_parameters_are_refused_at_fit_and_transform(self, parameters, message):
        kde = AnisotropicKDE(**parameters)
        for method in (kde.fit, kde.transform):
            with pytest.raises(InvalidInputError, match=message):
                method(image_of(np.eye(30)))

    def test_a_table_is_refused(self):
        with pytest.raises(InvalidTypeError, match="expected an image"):
            AnisotropicKDE().fit(Localizations(np.ones((3, 2))))

    def test_its_input_is_not_changed(self):
        image = image_of(sparse_counts())
        AnisotropicKDE().transform(image)
        xr.testing.assert_identical(image, image_of(sparse_counts()))
