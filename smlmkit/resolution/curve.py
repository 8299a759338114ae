"""FRCCurve: a Fourier ring correlation and the resolution that is read from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smlmkit._charts import draw_frc
from smlmkit.grid import check_pixel_size
from smlmkit.metrics.frc import (
    Threshold,
    check_reading,
    correlation_sd,
    first_crossing,
    mean_up_to,
    smooth_curve,
    smoothed_sd,
    threshold_curve,
)
from smlmkit.metrics.rings import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Share of the rings, around the crossing, that the curve's slope is read from.
_SLOPE_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class FRCCurve:
    """A Fourier ring or shell correlation and the resolution read from it.

    Parameters
    ----------
    frequency : ndarray of shape (n_rings,)
        Middle of every ring in cycles/nm.
    correlation : ndarray of shape (n_rings,)
        The correlation, or its mean over repeats; nan where an image is constant.
    correlation_error : ndarray of shape (n_rings,)
        Its standard deviation as theory says, see `smlmkit.metrics.frc.correlation_sd`.
    smoothed : ndarray of shape (n_rings,)
        The curve from which the resolution is read.
    count : ndarray of shape (n_rings,)
        Samples in every ring of the whole Fourier plane.
    threshold_curve : ndarray of shape (n_rings,)
        The threshold at every ring.
    threshold : {"1/7", "half-bit", "one-bit", "3-sigma"}
        Name of the threshold.
    pixel_size : float
        Edge of a pixel in nm.
    resolution : float
        Where the smoothed curve first falls below the threshold, in nm; nan when there is none.
    resolution_error : float
        Standard deviation of the resolution in nm as theory says: that of the smoothed curve at the
        crossing, divided by the slope around it; nan where the curve does not fall around it.
    resolution_sd : float
        Standard deviation of the resolution over repeats in nm; nan with fewer than two repeats or
        when one of them has no resolution.
    q : float
        The number Q of the correction for spurious correlations; nan without it.
    reason : str
        Why there is no resolution; empty when there is one.

    Notes
    -----
    The two standard deviations say different things. `resolution_error` is that of one split, if
    the same structure were imaged again. `resolution_sd` is the spread over splits of the same
    localizations: a mean over many repeats is not surer than these localizations are.

    `resolution_error` holds for a smoothed curve and noise that does not depend on the signal,
    where simulations agree within 20 %. An unsmoothed curve crosses where its noise does, which
    spreads less: there it is an upper bound. Where emitters blink anew, the resolution of a few
    filaments spreads 1.5 times as much, of a hundred emitters 2.5 times: their noise follows the
    structure.
    """

    frequency: Floats = field(repr=False)
    correlation: Floats = field(repr=False)
    correlation_error: Floats = field(repr=False)
    smoothed: Floats = field(repr=False)
    count: NDArray[np.int64] = field(repr=False)
    threshold_curve: Floats = field(repr=False)
    threshold: Threshold
    pixel_size: float
    resolution: float
    resolution_error: float
    resolution_sd: float
    q: float
    reason: str

    def area(self, cutoff: float = 0.2) -> float:
        """Give the mean correlation over the rings up to a cutoff, without ring 0.

        Parameters
        ----------
        cutoff : float, default=0.2
            Highest frequency in cycles per pixel, at most 0.5.

        Returns
        -------
        float
            The area; nan where an image is constant.

        Raises
        ------
        InvalidInputError
            If `cutoff` is not in (0, 0.5] or below the first ring.
        """
        return mean_up_to(cutoff, self.frequency * self.pixel_size, self.correlation)

    def plot(self, ax: "Axes | None" = None, *, label: str = "") -> "Axes":
        """Draw the correlation with its error, the smoothed curve, the threshold and the crossing.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default on new axes of pyplot.
        label : str, default=""
            What the legend calls the curve; by default its resolution.

        Returns
        -------
        Axes
            What was drawn on.
        """
        return draw_frc(self, ax, label=label)


def read_curve(
    frequency: Floats,
    correlations: Sequence[Floats],
    count: NDArray[np.int64],
    n_independent: Floats,
    pixel_size: float,
    *,
    threshold: Threshold = "1/7",
    smoothing: float = 0.1,
    q: float = math.nan,
) -> FRCCurve:
    """Average repeated ring correlations and read the resolution.

    Parameters
    ----------
    frequency : ndarray of shape (n_rings,)
        Middle of every ring in cycles per pixel.
    correlations : sequence of ndarray of shape (n_rings,)
        The correlation of every repeat.
    count, n_independent : ndarray of shape (n_rings,)
        Samples in every ring, and how many independent real numbers they are worth.
    pixel_size : float
        Edge of a pixel in nm.
    threshold : {"1/7", "half-bit", "one-bit", "3-sigma"}, default="1/7"
        What the curve must stay above, see `smlmkit.metrics.frc.threshold_curve`.
    smoothing : float, default=0.1
        Span of the smoothing as a share of the rings, see `smlmkit.metrics.frc.smooth_curve`.
    q : float, default=nan
        What the curve was corrected by.

    Returns
    -------
    FRCCurve
        The mean curve and its resolution.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> frequency, count = np.arange(5) / 8, np.full(5, 100)
    >>> curve = read_curve(
    ...     frequency, [np.array([1, 1, 0.9, 0.1, 0])], count, count, pixel_size=10, smoothing=0
    ... )
    >>> round(curve.resolution, 2)  # between rings 2 and 3, at 40 and 26.7 nm
    27.15
    """
    size = check_pixel_size(pixel_size)
    check_reading(threshold, smoothing)
    level = threshold_curve(threshold, count)
    correlation = np.mean(correlations, axis=0)
    smoothed = smooth_curve(correlation, smoothing)
    error = correlation_sd(smoothed, n_independent)
    crossing, reason = first_crossing(frequency / size, smoothed, level, threshold)
    each = [
        1 / first_crossing(frequency / size, smooth_curve(one, smoothing), level, threshold)[0]
        for one in correlations
    ]
    return FRCCurve(
        frequency=frequency / size,
        correlation=correlation,
        correlation_error=error,
        smoothed=smoothed,
        count=count,
        threshold_curve=level,
        threshold=threshold,
        pixel_size=size,
        resolution=1 / crossing,
        resolution_error=_error_of_crossing(
            crossing, frequency / size, smoothed - level, smoothed_sd(error, smoothing)
        ),
        resolution_sd=float(np.std(each, ddof=1)) if len(each) > 1 else math.nan,
        q=q,
        reason=reason,
    )


def _error_of_crossing(crossing: float, frequency: Floats, margin: Floats, sd: Floats) -> float:
    """Propagate the curve's standard deviation to 1 / crossing, in nm."""
    if math.isnan(crossing):
        return math.nan
    after = int(np.searchsorted(frequency, crossing))
    reach = max(2, round(_SLOPE_SHARE / 2 * len(frequency)))
    near = slice(max(1, after - reach), after + reach)
    fall = -np.polyfit(frequency[near], margin[near], deg=1)[0]
    if fall <= 1e-9 * np.abs(margin).max() / frequency[-1]:
        return math.nan  # a dip in a curve that goes on: no slope to speak of
    return float(np.interp(crossing, frequency, sd) / fall / crossing**2)
