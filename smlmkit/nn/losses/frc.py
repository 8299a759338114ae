"""The Fourier ring correlation as a loss; `smlmkit.metrics.rings` says what a ring is."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smlmkit._checks import check_between
from smlmkit.errors import InvalidInputError
from smlmkit.metrics._images import MIN_SIDE_PX
from smlmkit.metrics.rings import Window, tapers_of
from smlmkit.nn.losses._base import ImageLoss

_NOISE_FLOOR = 4
"""Power up to the square of so many rounding errors of an image's norm is no power."""


class AreaFRCLoss(ImageLoss):
    """One minus the mean Fourier ring correlation up to a cutoff.

    Parameters
    ----------
    cutoff : float, default=0.2
        Highest frequency in cycles per pixel, at most 0.5. Berberich et al. train with 0.2 and
        also report 0.5.
    signed : bool, default=True
        Whether a ring's correlation keeps its sign, so that independent noise has 0 in the mean.
        False takes the modulus, as published: noise then scores above 0, and an inverted image
        like the image itself.
    window : {"tukey"} or None, default="tukey"
        As in `smlmkit.metrics.rings.ring_correlation`. The opposite borders of a training patch do
        not meet: both images jump there, which correlates without a window. None suits periodic
        images.

    Raises
    ------
    InvalidInputError
        If `cutoff` is not in (0, 0.5], `signed` is neither True nor False, or the window is
        unknown; for images if their shapes differ, a side has fewer than 4 pixels, or the cutoff
        lies below the first ring.
    InvalidTypeError
        If an input is no tensor of floating-point numbers.

    Notes
    -----
    With F1 and F2 the transforms of a prediction and a target after the window, and the rings
    q = 1 .. Q up to the cutoff,

        loss = 1 - 1/Q sum_q Re sum(F1 F2*) / sqrt(sum |F1|^2 sum |F2|^2),

    the inner sums over ring q: 1 - `smlmkit.metrics.frc.frc_area`. It is 0 for equal images and 2
    at most (1 with the modulus). It depends on neither the mean nor the gain of an image, and
    hardly on an isotropic filter, which changes little but each ring's gain, or on frequencies
    beyond the cutoff. A network trained with it alone is free in all of these: add a term that
    fixes them.

    A ring correlates 0 and has no gradient where an image's power in it is no more than rounding
    leaves, (4 eps)^2 of the power of the whole image with its mean. So the loss of a constant
    image, for which `frc_area` is nan, is 1, and its gradient 0. A pixel that is not finite makes
    the loss nan.

    The published code differs in more than the modulus. It has no window. Its rings are centred
    half a sample beside the zero frequency, so that the mean of an image lies in the first one and
    makes it correlate. It averages the first 100 or 250, up to 0.195 or 0.488 cycles per pixel of
    the 512 x 512 pixels that it takes, and is nan where one is empty. It multiplies one image at a
    time by a dense mask for each of 256 rings, complex numbers of 512 MiB.

    References
    ----------
    Berberich et al. (2021), Fourier Ring Correlation and Anisotropic Kernel Density Estimation
    Improve Deep Learning Based SMLM Reconstruction of Microtubules.

    Examples
    --------
    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> truth, noise = torch.rand(2, 64, 64, 64, generator=generator)
    >>> loss = AreaFRCLoss()
    >>> loss(5 * truth, truth).item() < 1e-6
    True
    >>> [round(loss(images, truth).item(), 1) for images in (truth + noise, noise)]
    [0.3, 1.0]
    """

    _min_side_px = MIN_SIDE_PX

    def __init__(
        self, cutoff: float = 0.2, *, signed: bool = True, window: Window = "tukey"
    ) -> None:
        super().__init__()
        check_between(0, 0.5, closed="right", cutoff=cutoff)
        if not isinstance(signed, bool):
            raise InvalidInputError(f"signed must be True or False, got {signed!r}")
        if window not in ("tukey", None):
            raise InvalidInputError(f"window must be 'tukey' or None, got {window!r}")
        self.cutoff = cutoff
        self.signed = signed
        self.window = window

    def _compare(self, first: Tensor, second: Tensor) -> Tensor:
        shape = first.shape[-2], first.shape[-1]
        n_rings = _count_rings(self.cutoff, shape)
        rings = _find_rings(shape, n_rings, self.window, first.dtype, first.device)
        correlation = _correlate(_transform(first, rings), _transform(second, rings), rings)
        return 1 - (correlation if self.signed else correlation.abs()).mean()

    def extra_repr(self) -> str:
        """Give the parameters for the module's repr.

        Returns
        -------
        str
            Names and values.
        """
        return f"cutoff={self.cutoff}, signed={self.signed}, window={self.window!r}"


def _count_rings(cutoff: float, shape: tuple[int, int]) -> int:
    """Count the rings up to a cutoff without ring 0; a share of 1e-9 forgives rounding errors."""
    n_rings = int(cutoff * min(shape) * (1 + 1e-9))
    if n_rings == 0:
        raise InvalidInputError(
            f"no ring up to {cutoff} cycles per pixel: the first one is at {1 / min(shape):.3g}"
        )
    return n_rings


@dataclass(frozen=True, eq=False)
class _Rings:
    """The window of images of a shape, and the block of their half plane that holds the rings.

    The block's rows are the lowest frequencies from the negative to the positive ones, its columns
    those from 0 on.
    """

    row_taper: Tensor
    column_taper: Tensor
    n_negative_rows: int
    index: Tensor
    """Ring of each sample of the block; `n_rings` + 1 for those beyond the last."""
    weight: Tensor
    """How many samples of the whole plane a sample of each column stands for."""
    n_rings: int


# Tensors made in inference mode could not serve the training that follows.
@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)
def _find_rings(
    shape: tuple[int, int], n_rings: int, window: Window, dtype: torch.dtype, device: torch.device
) -> _Rings:
    steps = [min(shape) / side for side in shape]  # of neighbouring samples, in rings
    last_row, last_column = (
        np.flatnonzero(np.rint(np.arange(side // 2 + 1) * step) <= n_rings)[-1]
        for side, step in zip(shape, steps, strict=True)
    )
    n_negative_rows = int(min(last_row, (shape[0] - 1) // 2))
    y = np.arange(-n_negative_rows, last_row + 1) * steps[0]
    x = np.arange(last_column + 1) * steps[1]
    ring = np.rint(np.sqrt(np.add.outer(y**2, x**2))).astype(np.int64)
    is_own_mirror = np.isin(np.arange(len(x)) * 2, (0, shape[1]))
    row_taper, column_taper = (
        torch.tensor(taper, dtype=dtype, device=device) for taper in tapers_of(shape, window)
    )
    return _Rings(
        row_taper,
        column_taper,
        n_negative_rows,
        index=torch.tensor(np.minimum(ring, n_rings + 1), device=device),
        weight=torch.tensor(np.where(is_own_mirror, 1, 2), dtype=dtype, device=device),
        n_rings=n_rings,
    )


def _transform(images: Tensor, rings: _Rings) -> Tensor:
    """Give the block of the transforms of the windowed images, scaled to norm 1."""
    # The loss does not depend on the norm, so no gradient needs to pass through it. The largest
    # modulus goes first: squares of numbers around 1e18 would overflow float32.
    for order in (math.inf, 2):
        norm = torch.linalg.vector_norm(images.detach(), order, dim=(-2, -1), keepdim=True)
        images = images / norm.clamp(min=torch.finfo(images.dtype).tiny)
    window = rings.row_taper[:, None] * rings.column_taper
    mean = (images * window).sum((-2, -1), keepdim=True) / window.sum()
    n_rows, n_columns = rings.index.shape
    half_rows = torch.fft.rfft((images - mean) * window)[..., :n_columns]
    half_plane = torch.fft.fft(half_rows, dim=-2)
    block: Tensor = half_plane.roll(rings.n_negative_rows, -2)[..., :n_rows, :]
    return block


def _correlate(first: Tensor, second: Tensor, rings: _Rings) -> Tensor:
    """Correlate transforms of images of norm 1; shape (..., n_rings)."""
    f, g = torch.view_as_real(first), torch.view_as_real(second)
    products = torch.stack([(f * g).sum(-1), f.square().sum(-1), g.square().sum(-1)])
    samples = (products * rings.weight).flatten(-2)
    sums = samples.new_zeros(*samples.shape[:-1], rings.n_rings + 2)
    sums = sums.scatter_add(-1, rings.index.flatten().expand_as(samples), samples)
    shared, first_power, second_power = sums[..., 1:-1]
    n_pixels = len(rings.row_taper) * len(rings.column_taper)
    floor = n_pixels * (_NOISE_FLOOR * torch.finfo(samples.dtype).eps) ** 2
    is_empty = torch.minimum(first_power, second_power) <= floor
    # Before the root: its gradient at 0 is infinite, and 0 times that would be nan.
    scale = torch.where(is_empty, 1.0, first_power * second_power).sqrt()
    return torch.where(is_empty, 0.0, shared / scale)
