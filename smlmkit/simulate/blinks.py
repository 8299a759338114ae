"""From emitters to blinks: how often, in which frames and how precisely each one is localized.

The blinks of n_emitters stand one emitter after another, each emitter's in the order of time.
"""

import numpy as np
from numpy.typing import NDArray

PSF_SIGMA = 130.0
"""Standard deviation in nm of a point's image in a typical objective of numerical aperture 1.45, as
the camera sees it: widened by its pixels."""

CAMERA_PIXEL_SIZE = 100.0
"""Edge in nm of a pixel of the simulated camera."""

OUTLIER_FACTOR = 10.0
"""How many times as large as stated the error of an outlier is."""


def draw_blink_counts(
    n_blinks: int, blinks_per_emitter: float, random_state: np.random.RandomState
) -> NDArray[np.int64]:
    """Share out a number of blinks among emitters, a geometric number to each.

    A fluorophore that bleaches with the same probability after every blink gives a geometric
    number of them.

    Parameters
    ----------
    n_blinks : int
        Number of blinks of all emitters together.
    blinks_per_emitter : float
        Mean number of blinks of an emitter, at least 1.
    random_state : RandomState
        Source of randomness.

    Returns
    -------
    ndarray of shape (n_emitters,)
        Blinks of every emitter, at least 1; their sum is `n_blinks`, for which the last emitter is
        cut short.

    Examples
    --------
    >>> counts = draw_blink_counts(1000, 5.0, np.random.RandomState(0))
    >>> counts.sum(), counts.min()
    (np.int64(1000), np.int64(1))
    """
    counts = random_state.geometric(1 / blinks_per_emitter, size=n_blinks)
    n_before = np.cumsum(counts) - counts
    needed = n_before < n_blinks
    blink_counts: NDArray[np.int64] = np.minimum(counts[needed], n_blinks - n_before[needed])
    return blink_counts


def draw_frames(
    blink_counts: NDArray[np.int64],
    n_frames: int,
    random_state: np.random.RandomState,
    *,
    frames_between_blinks: float = 3.0,
    bleaching: float | None = None,
) -> NDArray[np.int64]:
    """Draw the frame of every blink: an emitter's blinks follow one another closely.

    Parameters
    ----------
    blink_counts : ndarray of shape (n_emitters,)
        Blinks of every emitter, at least 1.
    n_frames : int
        Length of the acquisition in frames.
    random_state : RandomState
        Source of randomness.
    frames_between_blinks : float, default=3.0
        Mean number of frames, at least 1, from one blink to the next; the numbers are geometric.
    bleaching : float, optional
        Mean number of frames after which an emitter that still waits for its first blink is
        bleached. Without it, emitters wait unharmed.

    Returns
    -------
    ndarray of shape (n_blinks,)
        The frames of an emitter rise from blink to blink. Its first blink is drawn from the frames
        from which all of its blinks fit in: uniformly, or with a probability that falls as
        exp(-frame / bleaching). Where they never fit in, the acquisition is a part, drawn
        uniformly, of the time they take: some frames are below 0, or `n_frames` and above.

    Examples
    --------
    >>> draw_frames(np.array([3, 1]), 1000, np.random.RandomState(0))
    array([420, 424, 427, 645])
    """
    last = np.cumsum(blink_counts) - 1
    first = last - blink_counts + 1
    elapsed = np.cumsum(random_state.geometric(1 / frames_between_blinks, size=blink_counts.sum()))
    elapsed_at_first = elapsed[first]
    duration = elapsed[last] - elapsed_at_first
    share = random_state.random_sample(len(blink_counts))
    start = _first_blink(share, n_frames - duration, bleaching).astype(np.int64)
    frames: NDArray[np.int64] = elapsed + np.repeat(start - elapsed_at_first, blink_counts)
    return frames


def draw_uncertainty(
    n_blinks: int, median: float, random_state: np.random.RandomState, *, spread: float = 0.3
) -> NDArray[np.float64]:
    """Draw the standard deviation of every blink's localization error: log-normal.

    Parameters
    ----------
    n_blinks : int
        Number of blinks.
    median : float
        Median uncertainty in nm.
    random_state : RandomState
        Source of randomness.
    spread : float, default=0.3
        Standard deviation of the logarithm of the uncertainty.

    Returns
    -------
    ndarray of shape (n_blinks,)
        Uncertainties in nm.

    Examples
    --------
    >>> draw_uncertainty(3, 10.0, np.random.RandomState(0)).round(1)
    array([17. , 11.3, 13.4])
    """
    return median * random_state.lognormal(sigma=spread, size=n_blinks)


def draw_errors(
    uncertainty: NDArray[np.float64],
    n_axes: int,
    random_state: np.random.RandomState,
    *,
    outliers: float = 0.0,
) -> NDArray[np.float64]:
    """Draw how far every blink is localized from its place: normal along each axis.

    Parameters
    ----------
    uncertainty : ndarray of shape (n,)
        Standard deviation of every blink's error in nm.
    n_axes : int
        Number of axes.
    random_state : RandomState
        Source of randomness.
    outliers : float, default=0.0
        Probability that the error of a blink is `OUTLIER_FACTOR` times as large, along all axes.

    Returns
    -------
    ndarray of shape (n_axes, n)
        Errors in nm.

    Examples
    --------
    >>> draw_errors(np.array([5.0, 20.0]), 2, np.random.RandomState(0)).round(1)
    array([[ 8.8,  8. ],
           [ 4.9, 44.8]])
    """
    errors: NDArray[np.float64] = random_state.normal(size=(n_axes, len(uncertainty)))
    errors *= uncertainty
    if outliers:
        errors[:, random_state.random_sample(len(uncertainty)) < outliers] *= OUTLIER_FACTOR
    return errors


def photons_for(
    uncertainty: NDArray[np.float64], *, background: float = 0.0
) -> NDArray[np.float64]:
    """Give the photons that a blink needs to be localized so well.

    Parameters
    ----------
    uncertainty : ndarray of shape (n,)
        Uncertainties in nm.
    background : float, default=0.0
        Mean background photons in a camera pixel.

    Returns
    -------
    ndarray of shape (n,)
        Photons.

    Notes
    -----
    Thompson, Larson and Webb (Biophysical Journal 82, 2775, 2002) give the uncertainty that N
    photons allow, with s for `PSF_SIGMA`, a for the edge of a camera pixel and b for the standard
    deviation of its background, here shot noise::

        uncertainty^2 = s^2 / N + 8 pi s^4 b^2 / (a N)^2

    Their term for the size of the pixels is part of s. This is its only positive solution for N.

    Examples
    --------
    >>> photons_for(np.array([13.0]))
    array([100.])
    >>> photons_for(np.array([13.0]), background=10).round()
    array([262.])
    """
    noise = 32 * np.pi * background * (uncertainty / CAMERA_PIXEL_SIZE) ** 2
    photons: NDArray[np.float64] = (PSF_SIGMA / uncertainty) ** 2 * (1 + np.sqrt(1 + noise)) / 2
    return photons


def _first_blink(
    share: NDArray[np.float64], n_frames: NDArray[np.int64], bleaching: float | None
) -> NDArray[np.float64]:
    """Find the time before which this share of the emitters with n frames has blinked first.

    Fewer than no frames are left for those that take longer than the acquisition.
    """
    uniform = share * n_frames
    if bleaching is None:
        return uniform
    declining = -bleaching * np.log1p(share * np.expm1(-n_frames.clip(min=0) / bleaching))
    return np.where(n_frames > 0, declining, uniform)
