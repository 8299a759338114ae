import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter

from smlmkit import Renderer, fourier_shell_correlation, frc_curve, frc_of_slices
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import PixelGrid
from smlmkit.images import to_image
from smlmkit.localizations import Localizations
from smlmkit.metrics.rings import ring_correlation
from smlmkit.resolution import stacks

SIZE = 10  # nm a pixel


def on_grid(stack, spacing=SIZE, pixel_size=SIZE, origin=(50, -400)):
    grid = PixelGrid(origin, pixel_size, stack.shape[1:])
    return to_image(stack, grid, z=-300 + spacing * np.arange(len(stack)))


def pair_of(shape=(40, 44, 48), sigma=1.5, snr=4.0, seed=0):
    """Blur white noise of power `snr` and add noise of power 1."""
    signal, *noise = np.random.default_rng(seed).normal(size=(3, *shape))
    blurred = math.sqrt(snr) * gaussian_filter(signal, sigma, mode="wrap")
    return blurred + noise[0], blurred + noise[1]


def resolution_of(sigma, snr=4.0):
    """FSC(q) = S / (S + 1) with S = snr exp(-(2 pi sigma q)^2) meets 1/7 at S = 1/6."""
    return 2 * math.pi * sigma * SIZE / math.sqrt(math.log(6 * snr))


@pytest.fixture(scope="module")
def table():
    """Blinks of emitters in a box, with errors of 12 nm along all axes."""
    rng = np.random.default_rng(0)
    emitters = np.repeat(rng.uniform(100, 900, size=(200, 3)), 30, axis=0)
    z, y, x = (emitters + rng.normal(scale=12, size=emitters.shape)).T
    columns = {"x": x, "y": y, "z": z, "frame": rng.integers(1000, size=len(x))}
    return Localizations(columns, field_of_view=(0, 0, 1000, 1100))


class TestShells:
    @pytest.mark.parametrize("window", ["tukey", None])
    def test_of_blurred_noise_have_the_resolution_of_the_formula(self, window):
        curve = fourier_shell_correlation(*map(on_grid, pair_of()), window=window)
        assert curve.resolution == pytest.approx(resolution_of(1.5), rel=0.04)
        assert curve.pixel_size == SIZE
        assert curve.frequency[-1] == pytest.approx(0.5 / SIZE)

    def test_of_slices_further_apart_have_it_too(self):
        # Every other slice: half of the signal's samples and so of its power, the noise as it was.
        first, second = (stack[::2] for stack in pair_of((64, 48, 48), sigma=2.5))
        curve = fourier_shell_correlation(on_grid(first, 2 * SIZE), on_grid(second, 2 * SIZE))
        assert curve.frequency[-1] == pytest.approx(0.25 / SIZE)
        assert curve.resolution == pytest.approx(resolution_of(2.5, snr=2), rel=0.06)

    def test_average_a_worse_axial_with_a_better_lateral_resolution(self):
        curve = fourier_shell_correlation(*map(on_grid, pair_of(sigma=(3, 1.5, 1.5))))
        assert 1.05 * resolution_of(1.5) < curve.resolution < 0.95 * resolution_of(3)

    def test_are_those_of_ring_correlation(self):
        first, second = pair_of((9, 20, 25))
        curve = fourier_shell_correlation(
            on_grid(first, 15), on_grid(second, 15), threshold="half-bit", smoothing=0
        )
        shells = ring_correlation(first, second, spacing=1.5)
        assert_array_equal(curve.correlation, shells.correlation)
        assert_array_equal(curve.count, shells.count)
        assert_allclose(curve.frequency, shells.frequency / SIZE)
        assert curve.threshold == "half-bit"
        assert_array_equal(curve.smoothed, curve.correlation)

    def test_of_a_table_are_those_of_the_stacks_of_its_halves(self, table):
        z_bins = table["z"].min() + 15 * np.arange(np.ptp(table["z"]) // 15 + 2)
        renderer = Renderer(pixel_size=SIZE, z_bins=z_bins)
        expected = fourier_shell_correlation(
            *(renderer.fit_transform(half) for half in table.split("frames"))
        )
        curve = fourier_shell_correlation(table, pixel_size=SIZE, slice_thickness=15)
        assert_array_equal(curve.correlation, expected.correlation)
        assert curve.resolution == expected.resolution
        assert 2 * 12 < curve.resolution < 5 * 12

    def test_of_a_table_are_cubes_of_20_nm_unless_told(self, table):
        curve = fourier_shell_correlation(table)
        assert curve.pixel_size == 20
        expected = fourier_shell_correlation(table, pixel_size=20, slice_thickness=20)
        assert_array_equal(curve.correlation, expected.correlation)

    def test_of_worse_z_have_a_worse_resolution(self, table):
        rng = np.random.default_rng(0)
        columns = {name: table[name] for name in table}
        columns["z"] = columns["z"] + rng.normal(scale=40, size=len(table))
        blurred = Localizations(columns, field_of_view=table.field_of_view)
        worse = fourier_shell_correlation(blurred, pixel_size=SIZE).resolution
        assert worse > 1.1 * fourier_shell_correlation(table, pixel_size=SIZE).resolution

    def test_repeats_of_one_source_spread_the_resolution(self, table):
        options = {"pixel_size": 15, "split": "random", "repeats": 2}
        curve = fourier_shell_correlation(table, random_state=0, **options)
        assert 0 < curve.resolution_sd < 20
        again = fourier_shell_correlation(table, random_state=0, **options)
        assert again.resolution_sd == curve.resolution_sd
        other = fourier_shell_correlation(table, random_state=1, **options)
        assert other.resolution != curve.resolution

    def test_of_constant_stacks_have_no_resolution(self):
        stack = on_grid(np.ones((6, 12, 12)))
        assert "constant" in fourier_shell_correlation(stack, stack).reason


class TestSlices:
    def test_equal_the_curve_of_every_slice(self):
        first, second = map(on_grid, pair_of((5, 40, 50)))
        options = {"threshold": "one-bit", "smoothing": 0.2, "window": None}
        curves = frc_of_slices(first, second, **options)
        assert list(curves) == [-300, -290, -280, -270, -260]
        for number, curve in enumerate(curves.values()):
            expected = frc_curve(first[number].drop_vars("z"), second[number], **options)
            assert_array_equal(curve.correlation, expected.correlation)
            assert_array_equal(curve.correlation_error, expected.correlation_error)
            assert curve.resolution == pytest.approx(expected.resolution, nan_ok=True)
            assert curve.pixel_size == SIZE

    def test_of_a_table_are_those_of_the_stacks_of_its_halves(self, table):
        z_bins = table["z"].min() + 300 * np.arange(4)
        renderer = Renderer(pixel_size=SIZE, z_bins=z_bins)
        expected = frc_of_slices(*(renderer.fit_transform(half) for half in table.split("frames")))
        curves = frc_of_slices(table, slice_thickness=300)
        assert_allclose(list(curves), z_bins[:-1] + 150)
        assert_allclose(list(curves), list(expected))
        for curve, other in zip(curves.values(), expected.values(), strict=True):
            assert_array_equal(curve.correlation, other.correlation)

    def test_are_ten_pixels_thick_unless_told(self, table):
        assert np.diff(list(frc_of_slices(table))) == pytest.approx(100)
        assert np.diff(list(frc_of_slices(table, pixel_size=20))) == pytest.approx(200)

    def test_may_be_one(self, table):
        (curve,) = frc_of_slices(table, slice_thickness=5000).values()
        assert_array_equal(curve.correlation, frc_curve(table).correlation)

    def test_may_be_few_and_uneven(self):
        stack = on_grid(pair_of((3, 20, 20))[0]).assign_coords(z=[0.0, 10.0, 100.0])
        assert list(frc_of_slices(stack, stack)) == [0, 10, 100]

    def test_without_localizations_have_no_resolution(self, table):
        z = np.where(table["z"] < 500, table["z"], table["z"] + 800)
        columns = {**{name: table[name] for name in table}, "z": z}
        curves = frc_of_slices(Localizations(columns), slice_thickness=200)
        reasons = [curve.reason for curve in curves.values()]
        assert sum("constant" in reason for reason in reasons) >= 3
        assert sum(not reason for reason in reasons) >= 3

    def test_repeats_are_averaged_slice_by_slice(self, table):
        options = {"slice_thickness": 400, "random_state": 0, "split": "random"}
        curves = frc_of_slices(table, repeats=3, **options)
        one = frc_of_slices(table, repeats=1, **options)
        assert all(curve.resolution_sd > 0 for curve in curves.values())
        assert all(math.isnan(curve.resolution_sd) for curve in one.values())


@pytest.mark.parametrize("smallest", [0.0, 0.1, -331.7, 1e7 + 0.3])
@pytest.mark.parametrize("thickness", [0.1, 0.7, 3.3])
def test_every_localization_lies_in_a_slice(smallest, thickness, monkeypatch):
    counted = []
    monkeypatch.setattr(
        stacks,
        "ring_correlation",
        lambda *pair, **_: counted.append(pair) or ring_correlation(*pair),
    )
    z = smallest + thickness * np.arange(20)  # all of them on edges, but for rounding
    x, y = np.random.default_rng(0).uniform(0, 80, size=(2, 20))
    frc_of_slices(Localizations({"x": x, "y": y, "z": z}), slice_thickness=thickness)
    assert 19 <= len(counted) <= 21
    assert np.sum(counted) == 20


@pytest.mark.parametrize("measure", [fourier_shell_correlation, frc_of_slices])
class TestRefuses:
    def test_a_table_without_z(self, measure):
        with pytest.raises(InvalidInputError, match="no column 'z', only x, y"):
            measure(Localizations(np.eye(2)))

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_z_that_is_not_finite(self, measure, bad):
        table = Localizations({"x": [1.0, 2.0], "y": [1.0, 2.0], "z": [1.0, bad]})
        with pytest.raises(InvalidInputError, match="needs a finite z"):
            measure(table)

    def test_an_empty_table(self, measure, table):
        with pytest.raises(InvalidInputError, match="there must be one"):
            measure(table.select(np.zeros(len(table), bool)))

    @pytest.mark.parametrize("thickness", [0, -5, math.nan, "thin"])
    def test_a_thickness_that_is_none(self, measure, table, thickness):
        with pytest.raises(InvalidInputError, match="slice_thickness must be a positive number"):
            measure(table, slice_thickness=thickness)

    @pytest.mark.parametrize("pixel_size", [0, -5, math.nan, None])
    def test_a_pixel_size_that_is_none(self, measure, table, pixel_size):
        with pytest.raises(InvalidInputError, match="pixel_size must be a positive number"):
            measure(table, pixel_size=pixel_size)

    def test_too_many_slices(self, measure, table):
        with pytest.raises(InvalidInputError, match=r"slices of 0\.0001 nm .* are too many"):
            measure(table, slice_thickness=0.0001)

    def test_one_stack(self, measure):
        with pytest.raises(InvalidTypeError, match="got DataArray and NoneType"):
            measure(on_grid(np.ones((5, 9, 9))))

    def test_a_table_and_a_stack(self, measure, table):
        with pytest.raises(InvalidTypeError, match="it takes no second stack"):
            measure(table, on_grid(np.ones((5, 9, 9))))

    def test_arrays(self, measure):
        with pytest.raises(InvalidTypeError, match=r"two stacks as xarray.DataArray, got ndarray"):
            measure(np.ones((5, 9, 9)), np.ones((5, 9, 9)))

    def test_other_dims(self, measure):
        grid = PixelGrid((0, 0), 5, (9, 9))
        image = to_image(np.ones((9, 9)), grid)
        channels = to_image(np.ones((2, 5, 9, 9)), grid, channel=[0, 1], z=range(5))
        for stack in (image, channels):
            with pytest.raises(InvalidInputError, match=r"has the dims \(z, y, x\), got"):
                measure(stack, stack)

    def test_other_slices(self, measure):
        stack = on_grid(np.ones((5, 9, 9)))
        for other in (stack[:4], stack.assign_coords(z=stack.z + 1)):
            with pytest.raises(InvalidInputError, match="do not have the same slices"):
                measure(stack, other)

    def test_other_grids(self, measure):
        stack, other = on_grid(np.ones((5, 9, 9))), on_grid(np.ones((5, 9, 9)), origin=(0, 0))
        with pytest.raises(InvalidInputError, match="different grids"):
            measure(stack, other)

    def test_voxels_that_are_not_finite(self, measure):
        stack = np.ones((5, 9, 9))
        stack[2, :3, 0] = math.nan
        with pytest.raises(InvalidInputError, match="image has 3 pixels that are nan or infinite"):
            measure(on_grid(stack), on_grid(np.ones((5, 9, 9))))


class TestShellsRefuse:
    def test_one_slice(self):
        stack = on_grid(np.ones((1, 9, 9)))
        with pytest.raises(InvalidInputError, match="one slice has no shells: use frc_curve"):
            fourier_shell_correlation(stack, stack)

    def test_too_few_slices(self):
        stack = on_grid(np.ones((3, 9, 9)))
        with pytest.raises(InvalidInputError, match=r"at least 4 pixels a side, .* \(3, 9, 9\)"):
            fourier_shell_correlation(stack, stack)

    def test_uneven_slices(self):
        stack = on_grid(np.ones((5, 9, 9))).assign_coords(z=[0, 10, 20, 30, 50.0])
        with pytest.raises(InvalidInputError, match="evenly spaced, got 10 to 20 nm"):
            fourier_shell_correlation(stack, stack)

    def test_slices_too_far_apart_for_a_single_shell(self):
        stack = on_grid(np.ones((5, 9, 9)), spacing=5 * SIZE)
        with pytest.raises(InvalidInputError, match=r"between 0 and 4.5 pixels apart.* got 5\.0"):
            fourier_shell_correlation(stack, stack)
