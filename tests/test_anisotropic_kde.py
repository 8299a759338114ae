"""AnisotropicKDE and AdaptiveKDE against the published code, slow formulas and real data."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import ndtr
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from benchmarks.real_microtubules import read_counts
from smlmkit import (
    AdaptiveKDE,
    AnisotropicKDE,
    GaussianKDE,
    Localizations,
    PixelGrid,
    Renderer,
    to_image,
)
from smlmkit._kernels.anisotropic import _integrate_window, _sample_window
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.scoring import compare_held_out
from smlmkit.tiling import cover

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
    shares = np.zeros((11, 16))
    if mode == "berberich":
        covariance *= scale / np.linalg.norm(covariance)
        _sample_window((covariance[0, 0], covariance[0, 1], covariance[1, 1]), 5, shares)
    else:
        covariance = raise_variances(covariance)
        covariance = raise_variances(covariance * scale / np.linalg.norm(covariance))
        _integrate_window(
            (covariance[0, 0], covariance[0, 1], covariance[1, 1]),
            *(5, np.empty(20), shares),
        )
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

    @pytest.mark.parametrize("mode", ["integrated", "berberich"])
    @pytest.mark.parametrize("degrees", [0, 30, 45])
    def test_counts_that_drown_the_corners(self, degrees, mode):
        density = estimate(digital_line(degrees) * np.float32(1e20), mode=mode)
        assert density.sum(dtype=float) == pytest.approx(1e20 * digital_line(degrees).sum())

    def test_a_window_larger_than_the_image_is_the_image(self):
        counts = sparse_counts((9, 12))
        np.testing.assert_allclose(
            estimate(counts, window=4001), estimate(counts, window=25), rtol=1e-6
        )

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

    def test_the_number_of_threads_changes_nothing(self, mode, nine_threads):
        counts = sparse_counts((900, 40))
        one = estimate(counts, mode=mode, n_threads=1)
        for n_threads in (2, 3, 9):
            np.testing.assert_array_equal(estimate(counts, mode=mode, n_threads=n_threads), one)

    def test_tiles_with_their_halo_are_the_whole(self, mode):
        image = image_of(sparse_counts((90, 110)))
        kde = AnisotropicKDE(window=7, scale=3, mode=mode)
        whole, tiled = kde.transform(image), np.full(image.shape, np.nan, np.float32)
        for tile in cover(np.ones(image.shape, bool), 32, halo=kde.window - 1):
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
            ({"scale": 1e-200}, "scale must be from 1e-06 to 1e"),
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


def filament(n=1500, seed=0, noise=12.0, angle=0.4, n_background=100):
    """Draw blinks of a straight filament through the middle of a 3 µm field, and background."""
    rng = np.random.default_rng(seed)
    along, across = rng.uniform(-1000, 1000, n), rng.normal(0, noise, n)
    x = 1500 + along * np.cos(angle) - across * np.sin(angle)
    y = 1500 + along * np.sin(angle) + across * np.cos(angle)
    background = rng.uniform(0, 3000, (2, n_background))
    points = {"x": np.append(x, background[0]), "y": np.append(y, background[1])}
    return Localizations(points, field_of_view=(0, 0, 3000, 3000))


def by_neighbors(sample, **parameters):
    return AnisotropicKDE(support="neighbors", **parameters).fit_transform(sample)


def shapes_slowly(y, x, mass, radius, sigma, max_aspect, sharpening):
    """Follow the docstring for each point among all others: centre, covariance, share."""
    points = np.column_stack([y, x])
    for own in points:
        d = points - own

        def weigh(covariance, d=d):
            distance = np.einsum("ij,jk,ik->i", d, np.linalg.inv(covariance), d)
            return mass * (1 - distance / 8).clip(0) ** 2

        around = radius**2 * np.eye(2)
        for _ in range(3):
            w = weigh(around)
            m = w @ d / w.sum()
            scatter = (w[:, None] * (d - m)).T @ (d - m) + 8 * radius**2 * np.eye(2)
            variances, axes = np.linalg.eigh(scatter)
            aspect = min(np.sqrt(variances[1] / variances[0]), max_aspect)
            v, u = axes.T
            around = radius**2 * (aspect * np.outer(u, u) + np.outer(v, v) / aspect)
        covariance = sigma**2 * (aspect**2 * np.outer(u, u) + np.outer(v, v))
        n_neighbors = weigh(covariance).sum() - 1
        w = weigh(1.75**2 * covariance)
        center = own + sharpening * v * (v @ (w @ d / w.sum()))
        yield center, covariance, n_neighbors / (n_neighbors + 0.3)


def draw_slowly(shapes, y, x, mass, shape, pixel_size, round_sigma):
    grid = PixelGrid((0, 0), pixel_size, shape)
    image = np.zeros(shape)
    for (center, covariance, share), own, count in zip(
        shapes, np.column_stack([y, x]), mass, strict=True
    ):
        for c, C, part in (
            (center, covariance, share),
            (own, round_sigma**2 * np.eye(2), 1 - share),
        ):
            C = C + pixel_size**2 / 12 * np.eye(2)
            d = np.stack(np.meshgrid(grid.centers_y, grid.centers_x, indexing="ij"), -1) - c
            distance = np.einsum("ijk,kl,ijl->ij", d, np.linalg.inv(C), d)
            kernel = np.exp(-distance / 2) * (distance <= 16)
            image += count * part * kernel / kernel.sum()
    return image


class TestNeighbors:
    @pytest.mark.parametrize("sharpening", [0.0, 0.3])
    def test_it_is_the_formula(self, sharpening):
        table = filament(150, n_background=30)
        parameters = {"radius": 150.0, "sigma": 30.0, "max_aspect": 2.5, "sharpening": sharpening}
        image = by_neighbors(table, pixel_size=15, **parameters)
        mass = np.ones(len(table))
        shapes = shapes_slowly(table.y, table.x, mass, **parameters)
        expected = draw_slowly(shapes, table.y, table.x, mass, image.shape, 15, 75)
        # The round Gaussians are integrated here and sampled in the expectation.
        np.testing.assert_allclose(image, expected, atol=2e-3 * expected.max())

    def test_an_image_is_counts_at_pixel_centres(self):
        image = Renderer(10).transform(filament())
        row, column = np.nonzero(image.to_numpy())
        counts = image.to_numpy()[row, column].astype(int)
        points = np.column_stack([column, row]).repeat(counts, axis=0) * 10.0 + 5
        table = Localizations(points, field_of_view=(0, 0, 3000, 3000))
        np.testing.assert_allclose(by_neighbors(table), by_neighbors(image), atol=1e-5)

    def test_it_smooths_along_a_filament_more_than_across(self):
        table = filament(angle=0.0, n_background=0)
        image = by_neighbors(table, sharpening=0.0).to_numpy()
        middle = image[:, 75:225]
        y = np.arange(300) * 10 + 5 - 1500.0
        across = np.sqrt((middle.sum(axis=1) * y**2).sum() / middle.sum())
        assert across == pytest.approx(np.hypot(25, 12), rel=0.05)
        on_line = middle[150]
        gauss = GaussianKDE(25).transform(Renderer(10).transform(table)).to_numpy()[150, 75:225]
        assert on_line.std() / on_line.mean() < 0.75 * gauss.std() / gauss.mean()

    def test_sharpening_makes_a_filament_narrower(self):
        def width(sharpening):
            image = by_neighbors(filament(angle=0.0, n_background=0), sharpening=sharpening)
            return float(np.sqrt(((image.y - 1500) ** 2 * image).sum() / image.sum()))

        assert width(0.8) < width(0.3) < width(0.0)

    @pytest.mark.parametrize(
        "parameters",
        [
            {"radius": 1e-9},
            {"radius": 1e200},
            {"sigma": 1e9},
            {"sigma": 1e160},
            {"max_aspect": 1e99},
        ],
    )
    def test_any_length_keeps_the_mass(self, parameters):
        image = by_neighbors(filament(300), pixel_size=50, **parameters)
        assert float(image.sum(dtype=float)) == pytest.approx(400, rel=1e-5)

    def test_an_isolated_localization_becomes_a_wide_round_spot(self):
        alone = Localizations(np.array([[1505.0, 1505.0]]), field_of_view=(0, 0, 3000, 3000))
        image = by_neighbors(alone, sigma=25, max_aspect=2)
        variance = float(((image.y - 1505) ** 2 * image).sum() / image.sum())
        assert variance == pytest.approx(50**2 + 100 / 12, rel=0.01)
        np.testing.assert_allclose(image, image.T, atol=1e-7)

    def test_a_quarter_turn_and_a_mirror_change_nothing_else(self):
        image = Renderer(10).transform(filament())
        density = by_neighbors(image).to_numpy()
        for change in (np.rot90, np.fliplr):
            turned = image.copy(data=change(image.to_numpy()))
            np.testing.assert_allclose(by_neighbors(turned), change(density), atol=1e-5)

    @settings(deadline=None, max_examples=40)
    @given(
        n=st.integers(0, 40),
        seed=st.integers(0, 999),
        size=st.floats(2, 300),
        sigma=st.floats(0.1, 500),
        radius=st.floats(1, 2000),
    )
    def test_mass_is_kept(self, n, seed, size, sigma, radius):
        points = np.random.default_rng(seed).uniform(0, 600, (n, 2))
        points[: n // 2] = points[:1]
        table = Localizations(points, field_of_view=(0, 0, 600, 600))
        image = by_neighbors(table, pixel_size=size, sigma=sigma, radius=radius)
        assert float(image.sum(dtype=float)) == pytest.approx(n, rel=1e-5)
        assert image.min() >= 0

    def test_order_and_threads_change_nothing(self, nine_threads):
        table = filament()
        shuffled = table.select(np.random.default_rng(0).permutation(len(table)))
        one = by_neighbors(table, n_threads=1)
        for n_threads in (2, 3, 9):
            xr.testing.assert_identical(by_neighbors(table, n_threads=n_threads), one)
        np.testing.assert_allclose(by_neighbors(shuffled), one, atol=1e-6)

    @pytest.mark.parametrize(("radius", "sigma", "aspect"), [(60, 20, 2), (20, 5, 3), (10, 25, 4)])
    def test_tiles_with_their_halo_are_the_whole(self, radius, sigma, aspect):
        image = Renderer(20).transform(filament())
        kde = AnisotropicKDE(support="neighbors", radius=radius, sigma=sigma, max_aspect=aspect)
        s = max(sigma, 10)
        reach = 4 * aspect * s + max(3 * np.sqrt(aspect) * radius, 9 * aspect * s)
        halo = int(np.ceil(reach / 20))
        whole, tiled = kde.transform(image), np.full(image.shape, np.nan)
        for tile in cover(np.ones(image.shape, bool), 40, halo=halo):
            tiled[tile.write] = kde.transform(image[tile.read]).to_numpy()[tile.crop]
        np.testing.assert_allclose(tiled, whole, atol=1e-6)

    def test_tables_and_images_in_lists_and_pipelines(self):
        tables = [filament(seed=0), filament(seed=1)]
        images = Renderer(10).transform(tables)
        pipeline = make_pipeline(Renderer(10), AnisotropicKDE(support="neighbors"))
        for piped, direct in zip(pipeline.fit_transform(tables), by_neighbors(images), strict=True):
            xr.testing.assert_identical(piped, direct)
        assert [image.shape for image in by_neighbors(tables, pixel_size=30)] == [(100, 100)] * 2

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"support": "image"}, "support must be 'window' or 'neighbors'"),
            ({"radius": 0}, "radius must be a positive number"),
            ({"sigma": -1}, "sigma must be a positive number"),
            ({"max_aspect": 0.5}, "max_aspect must be at least 1"),
            ({"sharpening": 1.5}, r"sharpening must be in \[0, 1\]"),
            ({"sharpening": -0.1}, "sharpening must be a number from 0 on"),
            ({"pixel_size": 0}, "pixel_size must be a positive number"),
        ],
    )
    def test_bad_parameters_are_refused(self, parameters, message):
        with pytest.raises(InvalidInputError, match=message):
            AnisotropicKDE(**{"support": "neighbors", **parameters}).fit(filament())

    def test_it_foretells_real_localizations_better_than_the_best_gaussian(self, real_data):
        table = read_counts(real_data / "frcnet" / "spot12_sub.png")
        half_a, half_b = table.split(by="random", random_state=0)
        counts = Renderer(10).transform(half_a)
        ours = compare_held_out(by_neighbors(counts), half_a, half_b)
        gaussians = [
            compare_held_out(GaussianKDE(sigma).transform(counts), half_a, half_b)
            for sigma in (20, 25, 30, 35, 40)
        ]
        for score, margin in (("frc_area_0.2", 0.01), ("log_likelihood", 0.03)):
            assert ours[score] > margin + max(gaussian[score] for gaussian in gaussians)


class TestAdaptive:
    def test_it_is_the_formula(self):
        counts = sparse_counts((50, 60), mean=0.2)
        image = AdaptiveKDE(sigma=25, exponent=0.4, max_factor=1.5).fit_transform(image_of(counts))
        pilot = GaussianKDE(25).transform(image_of(counts)).to_numpy().astype(float)
        reference = np.exp(np.average(np.log(pilot[counts > 0]), weights=counts[counts > 0]))
        expected = np.zeros(counts.shape)
        for i, j in zip(*np.nonzero(counts), strict=True):
            factor = np.clip((pilot[i, j] / reference) ** -0.4, 1 / 1.5, 1.5)
            row, column = (
                np.diff(ndtr(((np.arange(n + 1) - at - 0.5) / (2.5 * factor)).clip(-4, 4)))
                for n, at in zip(counts.shape, (i, j), strict=True)
            )
            kernel = np.outer(row, column)
            expected += counts[i, j] * kernel / kernel.sum()
        np.testing.assert_allclose(image, expected, atol=1e-5 * expected.max())

    def test_with_exponent_zero_it_is_one_gaussian(self):
        image = image_of(sparse_counts((80, 90)))
        adaptive = AdaptiveKDE(sigma=40, exponent=0).transform(image)
        np.testing.assert_allclose(
            adaptive[20:-20, 20:-20], GaussianKDE(40).transform(image)[20:-20, 20:-20], atol=5e-4
        )

    @pytest.mark.parametrize("factor", [1e-4, 7.0])
    def test_mass_and_scale(self, factor):
        counts = sparse_counts((40, 50), mean=0.3)
        image = AdaptiveKDE().fit_transform(image_of(counts))
        assert float(image.sum()) == pytest.approx(counts.sum(), rel=1e-5)
        scaled = AdaptiveKDE().fit_transform(image_of(counts * np.float32(factor)))
        np.testing.assert_allclose(scaled, image * factor, rtol=1e-4)

    def test_tiles_are_the_whole_if_the_reference_is_given(self):
        image = image_of(sparse_counts((90, 110), mean=0.3))
        kde = AdaptiveKDE(sigma=15, max_factor=1.5, reference=2000)
        whole, tiled = kde.transform(image), np.full(image.shape, np.nan)
        for tile in cover(np.ones(image.shape, bool), 32, halo=24):
            tiled[tile.write] = kde.transform(image[tile.read]).to_numpy()[tile.crop]
        np.testing.assert_allclose(tiled, whole, atol=1e-5)

    def test_the_number_of_threads_changes_nothing(self, nine_threads):
        image = image_of(sparse_counts((300, 80)))
        one = AdaptiveKDE(n_threads=1).transform(image)
        for n_threads in (2, 3, 9):
            xr.testing.assert_identical(AdaptiveKDE(n_threads=n_threads).transform(image), one)

    def test_counts_of_any_size(self):
        counts = sparse_counts((40, 50), mean=0.3)
        for factor in (1e-44, 1e30):
            tiny = AdaptiveKDE().transform(image_of(counts * np.float32(factor)))
            assert np.isfinite(tiny).all()

    def test_an_empty_image_stays_empty(self):
        assert not AdaptiveKDE().transform(image_of(np.zeros((20, 30)))).any()

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"sigma": 0}, "sigma must be a positive number"),
            ({"exponent": -1}, "exponent must be a number from 0 on"),
            ({"max_factor": 0.9}, "max_factor must be at least 1"),
            ({"reference": 0}, "reference must be a positive number"),
        ],
    )
    def test_bad_parameters_are_refused(self, parameters, message):
        with pytest.raises(InvalidInputError, match=message):
            AdaptiveKDE(**parameters).transform(image_of(np.eye(20)))
