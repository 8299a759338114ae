"""What the figures of Lefebvre et al. share: simulated fields, their truth, and two similarities.

**How images are scaled for SSIM and PSNR.** The paper does not say how. Here both images are
expected localizations per pixel. An image is multiplied by the one factor that gives it the mass of
the reference: what a method claims about the number of localizations is not at issue. Then both are
divided by the reference's 99.9th percentile and clipped to [0, 1], as on a screen: without an upper
end, the few brightest pixels of a sparse histogram decide both measures. Both are taken at a data
range of 1. The reference alone sets the range, so that no method can better its score by its own
brightest pixel. `SCALINGS` has other ways, to see how much hangs on this one.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from smlmkit import Localizations, PixelGrid, make_blinks, make_primitives, to_image
from smlmkit.metrics.similarity import psnr, ssim
from smlmkit.simulate import Truth

PIXEL_SIZE = 10.0
SEEDS_OF_A_STUDY = 10_000_000
"""How far the seeds of fields are apart from one study's seed to the next."""

FIELD_PX = 256
FIELD_SIZE = FIELD_PX * PIXEL_SIZE
UNCERTAINTY = 5.0
DENSITY = 10_000.0  # localizations per square micrometre of a field, as in the paper's training
REFERENCE_DENSITY = 2_000_000.0
RASTER_SIZE = 2.0
WHITE_PERCENTILE = 99.9

# As the paper has it: every localization an emitter of its own, all of one uncertainty.
PLAIN_BLINKS = {
    "uncertainty_spread": 0.0,
    "blinks_per_emitter": 1.0,
    "background": 0.0,
    "n_frames": 1000,
}


class Field(NamedTuple):
    """A simulated table and what it was drawn from."""

    table: Localizations
    truth: Truth


def simulate(seed: int, *, density: float = DENSITY, field_size: float = FIELD_SIZE) -> Field:
    """Draw a field of primitives and its blinks; fields of one seed have one structure."""
    table, truth = make_primitives(
        field_size=field_size,
        n_primitives=_primitives_in(field_size),
        density=density,
        uncertainty=UNCERTAINTY,
        random_state=seed,
        **PLAIN_BLINKS,
    )
    return Field(table, truth)


def draw_again(
    truth: Truth, density: float, seed: int, *, uncertainty: float = UNCERTAINTY
) -> Localizations:
    """Draw other blinks from the structure of a field."""
    field = truth.emitters.field_of_view
    table, _ = make_blinks(
        truth.curves,
        field_size=(field.height, field.width),
        density=density,
        uncertainty=uncertainty,
        random_state=seed,
        **PLAIN_BLINKS,
    )
    return table


def expected_image(truth: Truth, density: float, uncertainty: float = UNCERTAINTY) -> xr.DataArray:
    """Give the expected localizations per pixel: the structure, spread by the uncertainty."""
    fine = truth.image(RASTER_SIZE).to_numpy()
    spread = gaussian_filter(fine, uncertainty / RASTER_SIZE, mode="constant", truncate=6)
    n = round(PIXEL_SIZE / RASTER_SIZE)
    height, width = spread.shape
    counts = spread.reshape(height // n, n, width // n, n).sum(axis=(1, 3))
    field = truth.emitters.field_of_view
    counts *= density * field.area_um2 / fine.sum()
    grid = PixelGrid((field.y_min, field.x_min), PIXEL_SIZE, counts.shape)
    return to_image(counts.astype(np.float32), grid)


def reference_image(truth: Truth, seed: int) -> NDArray[np.float64]:
    """Give the counts of two million blinks per square micrometre.

    They are drawn pixel by pixel from their Poisson distribution, which is that of the counts of so
    many simulated blinks, in a hundredth of the time.
    """
    expected = expected_image(truth, REFERENCE_DENSITY).to_numpy()
    return np.random.default_rng(seed).poisson(expected).astype(np.float64)


def similarities(
    image: xr.DataArray, reference: NDArray[np.float64], scaling: str = "same mass, clipped"
) -> dict[str, float]:
    """Compare an image with a reference, both scaled."""
    shown, wanted = SCALINGS[scaling](image.to_numpy().astype(np.float64), reference)
    return {
        "ssim": ssim(shown, wanted, data_range=1.0),
        "psnr": psnr(shown, wanted, data_range=1.0),
    }


Images = tuple[NDArray[np.float64], NDArray[np.float64]]


def scale_alike(values: NDArray[np.float64], reference: NDArray[np.float64]) -> Images:
    """Give an image the mass of its reference, and both in units of the reference's white."""
    white = np.percentile(reference, WHITE_PERCENTILE)
    shown, wanted = _of_one_mass(values, reference)
    return shown / white, wanted / white


def _of_one_mass(values: NDArray[np.float64], reference: NDArray[np.float64]) -> Images:
    return values * (reference.sum() / values.sum()), reference


def _in_units_of_white(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(values / np.percentile(values, WHITE_PERCENTILE), 0, 1)


def _same_mass_clipped(values: NDArray[np.float64], reference: NDArray[np.float64]) -> Images:
    shown, wanted = scale_alike(values, reference)
    return shown.clip(0, 1), wanted.clip(0, 1)


def _same_mass(values: NDArray[np.float64], reference: NDArray[np.float64]) -> Images:
    shown, wanted = _of_one_mass(values, reference)
    return shown / reference.max(), wanted / reference.max()


def _each_by_its_maximum(values: NDArray[np.float64], reference: NDArray[np.float64]) -> Images:
    return values / values.max(), reference / reference.max()


def _each_clipped(values: NDArray[np.float64], reference: NDArray[np.float64]) -> Images:
    return _in_units_of_white(values), _in_units_of_white(reference)


SCALINGS: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], Images]] = {
    "same mass, clipped": _same_mass_clipped,
    "same mass": _same_mass,
    "each by its maximum": _each_by_its_maximum,
    "each clipped": _each_clipped,
}


def _primitives_in(field_size: float) -> tuple[int, int]:
    """Keep the number per area: 5 to 15 in a field of 2560 nm."""
    ratio = (field_size / FIELD_SIZE) ** 2
    return max(1, round(5 * ratio)), max(1, round(15 * ratio))
