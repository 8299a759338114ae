"""Structural similarity as a loss; `smlmkit.metrics.similarity` is the measure."""

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

from smlmkit._checks import check_positive, check_whole
from smlmkit.errors import InvalidInputError
from smlmkit.metrics.similarity import MS_SSIM_WEIGHTS
from smlmkit.nn.losses._base import ImageLoss

# As in the measure: the window, and (0.01 L)^2 and (0.03 L)^2 for images in units of the range L.
_SIGMA_PX = 1.5
_WINDOW_PX = 11
_LUMINANCE_FLOOR = 0.01**2
_CONTRAST_FLOOR = 0.03**2

_LEAST_MEAN = 1e-3
"""Below this mean its power is replaced by the chord to 0: at 0 its slope is infinite."""


class SSIMLoss(ImageLoss):
    """One minus the structural similarity.

    Parameters
    ----------
    data_range : float
        Highest possible value minus lowest. One number for all images: a loss must not change with
        the brightest pixel of a batch.

    Raises
    ------
    InvalidInputError
        If `data_range` is not a positive number; for images if their shapes differ or a side has
        fewer than 11 pixels.
    InvalidTypeError
        If an input is no tensor of floating-point numbers.

    See Also
    --------
    MSSSIMLoss : Also sees what is larger than a window.

    Notes
    -----
    With means m, variances v and covariance c under a window, and L = `data_range`,

        luminance = (2 m_x m_y + (0.01 L)^2) / (m_x^2 + m_y^2 + (0.01 L)^2),
        contrast and structure = (2 c + (0.03 L)^2) / (v_x + v_y + (0.03 L)^2),

    and an image's loss is 1 minus the mean of their product over all windows inside of it,
    1 - `smlmkit.metrics.similarity.ssim`: 0 for equal images and 2 at most. Its window is a
    Gaussian of standard deviation 1.5 on 11 x 11 pixels, so that the pixels of a border count less
    than those further inside and a corner hardly at all: add a term that sees them all.

    Averaging under the window is a product with a band matrix from either side, for training
    patches several times as fast as a convolution. On GPUs it wants torch's default precision of
    float32 products; variances that are differences of rounded squares suffer from TF32.

    References
    ----------
    Wang et al. (2004), Image quality assessment: from error visibility to structural similarity.

    Examples
    --------
    >>> import torch
    >>> truth = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> loss = SSIMLoss(data_range=1)
    >>> [round(loss(images, truth).item(), 2) for images in (truth, truth / 2, 1 - truth)]
    [0.0, 0.36, 1.97]
    """

    _min_side_px = _WINDOW_PX

    def __init__(self, data_range: float) -> None:
        super().__init__()
        check_positive(data_range=data_range)
        self.data_range = float(data_range)

    def extra_repr(self) -> str:
        """Give the parameters for the module's repr.

        Returns
        -------
        str
            Names and values.
        """
        return f"data_range={self.data_range}"

    def _compare(self, first: Tensor, second: Tensor) -> Tensor:
        luminance, structure = _compare_windows(first / self.data_range, second / self.data_range)
        return 1 - (luminance * structure).mean()


class MSSSIMLoss(ImageLoss):
    """One minus the structural similarity over several scales.

    Parameters
    ----------
    data_range : float
        Highest possible value minus lowest. One number for all images: a loss must not change with
        the brightest pixel of a batch.
    scales : int or None, default=None
        How many scales, from 1 to 5. None for as many as fit: a window must lie inside of the
        coarsest one, so that n scales take sides of at least 10 * 2^(n - 1) + 1 pixels: 3 from
        41 pixels, 4 from 81, 5 from 161.

    Raises
    ------
    InvalidInputError
        If `data_range` is not a positive number, or `scales` none of these; for images if their
        shapes differ or a side is too small for the scales.
    InvalidTypeError
        If an input is no tensor of floating-point numbers.

    See Also
    --------
    SSIMLoss : One scale.

    Notes
    -----
    With the terms of `SSIMLoss`, and from one scale to the next the mean of 2 x 2 pixels, an
    image's loss is

        1 - product over the scales s of max(mean_s, 0)^weight_s + sum of weight_s max(-mean_s, 0),

    where mean_s averages contrast and structure over all windows, at the coarsest scale times
    luminance. The weights of n scales are the first n that Wang et al. measured, divided by their
    sum: 0.071, 0.453, 0.476 for three. Without the last sum this is
    1 - `smlmkit.metrics.similarity.ms_ssim` for these weights.

    That sum is 0 unless a mean is negative, of which no power is real. The measure takes it for 0,
    and the similarity of opposite images would have no gradient to part them. Here the loss goes on
    to rise above 1, linearly, to 2 at most. And since a power below 1 has an infinite slope at 0,
    means below 0.001 follow the chord instead; nothing else differs from the measure.

    Only the coarsest scale sees brightness, and no scale the pixels of a border well. Zhao et al.
    add an L1 loss for both.

    References
    ----------
    Wang et al. (2003), Multi-scale structural similarity for image quality assessment.
    Zhao et al. (2017), Loss functions for image restoration with neural networks.

    Examples
    --------
    >>> import torch
    >>> truth = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    >>> loss = MSSSIMLoss(data_range=1)
    >>> [round(loss(images, truth).item(), 2) for images in (truth, truth / 2, 1 - truth)]
    [0.0, 0.26, 1.88]
    """

    _min_side_px = _WINDOW_PX

    def __init__(self, data_range: float, *, scales: int | None = None) -> None:
        super().__init__()
        check_positive(data_range=data_range)
        if scales is not None:
            check_whole("scales", scales, 1, len(MS_SSIM_WEIGHTS))
        self.data_range = float(data_range)
        self.scales = scales

    def extra_repr(self) -> str:
        """Give the parameters for the module's repr.

        Returns
        -------
        str
            Names and values.
        """
        return f"data_range={self.data_range}, scales={self.scales}"

    def _compare(self, first: Tensor, second: Tensor) -> Tensor:
        weights = MS_SSIM_WEIGHTS[: self._count_scales(min(first.shape[-2:]))]
        x, y = first / self.data_range, second / self.data_range
        similarity, opposition = x.new_ones(x.shape[:-2]), x.new_zeros(x.shape[:-2])
        for scale, weight in enumerate(weights):
            if scale > 0:
                x, y = _halve(x), _halve(y)
            luminance, structure = _compare_windows(x, y)
            is_last = scale == len(weights) - 1
            mean = (luminance * structure if is_last else structure).mean((-2, -1))
            share = weight / sum(weights)
            similarity = similarity * _power(mean, share)
            opposition = opposition - share * mean.clamp(max=0)
        return (1 - similarity + opposition).mean()

    def _count_scales(self, side_px: int) -> int:
        fitting = [n for n in range(1, len(MS_SSIM_WEIGHTS) + 1) if _least_side(n) <= side_px]
        if self.scales is None:
            return fitting[-1]
        if self.scales not in fitting:
            raise InvalidInputError(
                f"{self.scales} scales of ms_ssim need images of at least "
                f"{_least_side(self.scales)} pixels a side, got {side_px}"
            )
        return self.scales


def _least_side(n_scales: int) -> int:
    return ((_WINDOW_PX - 1) << (n_scales - 1)) + 1


def _power(mean: Tensor, weight: float) -> Tensor:
    """Raise what is positive to a power from 0 to 1, with a finite slope at 0."""
    chord = mean.clamp(min=0) * _LEAST_MEAN ** (weight - 1)
    return torch.where(mean < _LEAST_MEAN, chord, mean.clamp(min=_LEAST_MEAN) ** weight)


def _halve(images: Tensor) -> Tensor:
    """Average 2 x 2 pixels; the last row or column of an odd side alone."""
    halved = functional.avg_pool2d(images.reshape(-1, *images.shape[-2:]), 2, ceil_mode=True)
    return halved.reshape(*images.shape[:-2], *halved.shape[-2:])


def _compare_windows(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Give the luminance and the contrast-and-structure term of every window."""
    # Variances do not depend on the offset of an image, but their rounding errors do.
    offset_x, offset_y = (image.detach().mean((-2, -1), keepdim=True) for image in (x, y))
    x, y = x - offset_x, y - offset_y
    mean_x, mean_y, mean_product, mean_power = _window_means(
        torch.stack([x, y, x * y, x.square() + y.square()])
    )
    covariance = mean_product - mean_x * mean_y
    variances = (mean_power - mean_x.square() - mean_y.square()).clamp(min=0)
    mean_x, mean_y = mean_x + offset_x, mean_y + offset_y
    luminance = (2 * mean_x * mean_y + _LUMINANCE_FLOOR) / (
        mean_x.square() + mean_y.square() + _LUMINANCE_FLOOR
    )
    structure = (2 * covariance + _CONTRAST_FLOOR) / (variances + _CONTRAST_FLOOR)
    return luminance, structure


def _window_means(maps: Tensor) -> Tensor:
    """Average under the Gaussian window wherever it lies inside of the image."""
    across_rows, across_columns = (
        _find_windows(side, maps.dtype, maps.device) for side in maps.shape[-2:]
    )
    means: Tensor = across_rows @ (maps @ across_columns.T)
    return means


# Tensors made in inference mode could not serve the training that follows.
@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)
def _find_windows(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Make the matrix whose rows are the windows along one axis."""
    radius = _WINDOW_PX // 2
    weights = [math.exp(-(((i - radius) / _SIGMA_PX) ** 2) / 2) for i in range(_WINDOW_PX)]
    windows = torch.zeros(side - 2 * radius, side, dtype=torch.float64)
    for start, row in enumerate(windows):
        row[start : start + _WINDOW_PX] = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    return windows.to(device, dtype)
