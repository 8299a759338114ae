"""What the figures of Berberich et al. share: the real fields, and how two images are compared.

The fields are dSTORM of alpha-tubulin: a time window of each acquisition as counts per 10 nm pixel,
and as its dense target the published anisotropic density estimate of the whole acquisition. The
target's unit is arbitrary; it is scaled to the number of localizations in the counts. One field is
never trained on.

**How images are scaled before they are compared.** The paper stretches every crop from its own
least to its own largest value, so that a single pixel can change all others. Here an image of a
whole field is multiplied by the one factor that gives it the mass of the reference; then both are
divided by the reference's 99.9th percentile and clipped to [0, 1], as on a screen. PSNR and MS-SSIM
are taken at a data range of 1. The correlation needs no scale and sees the images as they are.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.optimize import curve_fit
from skimage.morphology import skeletonize

from benchmarks.real_microtubules import PIXEL_SIZE, read_counts
from benchmarks.reproduce.simulated import WHITE_PERCENTILE, scale_alike
from benchmarks.reproduce.study import Recipe, Study
from smlmkit import Localizations, N2NReconstructor, PixelGrid, Renderer, to_image
from smlmkit.batch.identity import digest_table
from smlmkit.metrics.frc import frc_area
from smlmkit.metrics.similarity import ms_ssim, psnr

TEST_FIELD = "spot12"
CROP_PX = 500
NEAR_NM = 50
N_RINGS = 15
"""Of a pixel's width around filaments, from which their width is fitted."""

CUTOFFS = (0.2, 0.5)
"""Of the area of the Fourier ring correlation, in cycles per pixel."""

BOTH = "MS-SSIM + FRC"
LOSSES = {"MS-SSIM": "ms_ssim", "FRC": "frc", BOTH: "ms_ssim + frc + 0.1*l1"}
MEASURES = {
    "psnr": "PSNR (dB)",
    "mse": "mean square error",
    "ms_ssim": "MS-SSIM",
    "frc_area_0.2": "FRC area up to 0.2",
    "frc_area_0.5": "FRC area up to 0.5",
}


class KnownField(NamedTuple):
    """A table and what is known of the density that it samples."""

    name: str
    table: Localizations
    dense: xr.DataArray


def read_fields(data: Path) -> tuple[list[KnownField], KnownField]:
    """Read the fields to train on and the one that is held out."""
    names = sorted(path.name[:6] for path in data.glob("spot*_sub.png"))
    if TEST_FIELD not in names or len(names) < 2:
        raise SystemExit(f"{TEST_FIELD} and at least one other field are needed in {data}")
    names.remove(TEST_FIELD)
    return [read_field(data, name) for name in names], read_field(data, TEST_FIELD)


def read_field(data: Path, name: str) -> KnownField:
    """Read one field."""
    table = read_counts(data / f"{name}_sub.png")
    dense = np.asarray(Image.open(data / f"{name}_full.png")).astype(np.float64)
    dense *= len(table) / dense.sum()
    grid = PixelGrid((0, 0), PIXEL_SIZE, dense.shape)
    return KnownField(name, table, to_image(dense.astype(np.float32), grid, units=""))


def digest_field(field: KnownField) -> list[str]:
    """Tell a field from others by what it holds."""
    return [digest_table(field.table), joblib.hash(field.dense.to_numpy())]


def fit_to_dense(
    study: Study, loss: str, fields: list[KnownField], recipe: Recipe, samples: int
) -> N2NReconstructor:
    """Train on the published targets with one of the losses."""
    model = N2NReconstructor(
        strategy="n2c",
        pixel_size=PIXEL_SIZE,
        loss=LOSSES[loss],
        max_samples=samples,
        random_state=study.seed,
        **recipe.parameters,
    )
    digests = [digest_field(field) for field in fields]
    tables, targets = [field.table for field in fields], [field.dense for field in fields]
    return study.fit(f"pix2pix {loss}", model, tables, targets, fields=digests)


def compare_crops(image: xr.DataArray, reference: xr.DataArray) -> list[dict[str, float]]:
    """Compare an image of a field with a reference, crop by crop, as the module says."""
    pixels = (of.to_numpy().astype(np.float64) for of in (image, reference))
    shown, wanted = scale_alike(*pixels)
    return [compare(shown[crop], wanted[crop]) for crop in crops(wanted.shape)]


def compare(values: NDArray[np.float64], wanted: NDArray[np.float64]) -> dict[str, float]:
    """Compare two images in units of white."""
    shown, target = values.clip(0, 1), wanted.clip(0, 1)
    return {
        "psnr": psnr(shown, target, data_range=1.0),
        "mse": float(np.mean((shown - target) ** 2)),
        "ms_ssim": ms_ssim(shown, target, data_range=1.0),
        **{f"frc_area_{cutoff}": frc_area(values, wanted, cutoff=cutoff) for cutoff in CUTOFFS},
    }


def crops(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Give the squares that a field is cut into, from its middle, without overlap."""
    n_rows, n_columns = (side // CROP_PX for side in shape)
    top, left = ((side - side // CROP_PX * CROP_PX) // 2 for side in shape)
    for row, column in np.ndindex(n_rows, n_columns):
        y, x = top + row * CROP_PX, left + column * CROP_PX
        yield slice(y, y + CROP_PX), slice(x, x + CROP_PX)


class Gain(NamedTuple):
    """By how much one method is better than another over the same crops: mean, standard error.

    The error is that of the crops of one training each; how much trainings vary is not in it.
    """

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:+.2g} ± {self.error:.1g}"

    @property
    def is_none_or_more(self) -> bool:
        """Whether it is not worse by more than its standard error."""
        return self.mean >= -self.error


def gain_of(one: pd.DataFrame, other: pd.DataFrame, measure: str) -> Gain:
    """Compare two methods crop by crop."""
    difference = one[measure].to_numpy() - other[measure].to_numpy()
    gain = -difference if measure == "mse" else difference
    return Gain(float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(gain))))


class Filaments(NamedTuple):
    """What localizations of filaments look like.

    The filaments are the skeleton of the dense image where that is above a fifth of white.
    """

    sparsity: float
    """Localizations within `NEAR_NM` of filaments for each nm of them."""

    width: float
    """Standard deviation across a filament in nm, of a Gaussian on an even background."""


def measure_filaments(field: KnownField) -> Filaments:
    """Measure how sparse and how wide the filaments of a field are."""
    dense = field.dense.to_numpy()
    white = np.percentile(dense, WHITE_PERCENTILE)
    skeleton = skeletonize(gaussian_filter(dense, 1.5) > 0.2 * white)
    distance = distance_transform_edt(~skeleton) * PIXEL_SIZE
    counts = Renderer(PIXEL_SIZE).transform(field.table).to_numpy()
    sparsity = counts[distance <= NEAR_NM].sum() / length_of(skeleton)
    return Filaments(float(sparsity), _width_of(counts, distance))


def _width_of(counts: NDArray[np.float32], distance: NDArray[np.float64]) -> float:
    """Fit the mean counts of pixels against their distance from the nearest filament."""
    ring = (distance / PIXEL_SIZE).astype(int)
    n_pixels = np.bincount(ring.ravel())[:N_RINGS]
    offset = np.bincount(ring.ravel(), distance.ravel())[:N_RINGS] / n_pixels
    profile = np.bincount(ring.ravel(), counts.ravel())[:N_RINGS] / n_pixels

    def bell(offset: NDArray[np.float64], width: float, height: float, ground: float) -> Any:
        return height * np.exp(-((offset / width) ** 2) / 2) + ground

    (width, _, _), _ = curve_fit(bell, offset, profile, p0=(20, profile[0], profile[-1]))
    return abs(float(width))


def length_of(skeleton: NDArray[np.bool_]) -> float:
    """Add up the links of a skeleton's pixels in nm, those along a diagonal if no others join."""
    down, right = skeleton[1:] & skeleton[:-1], skeleton[:, 1:] & skeleton[:, :-1]
    corner, opposite = skeleton[:-1, :-1], skeleton[1:, 1:]
    above, below = skeleton[:-1, 1:], skeleton[1:, :-1]
    diagonals = (corner & opposite & ~(above | below)) | (above & below & ~(corner | opposite))
    return PIXEL_SIZE * float(down.sum() + right.sum() + np.sqrt(2) * diagonals.sum())
