"""From emitters to blinks: how often, in which frames and how precisely each one is localized.

The blinks of n_emitters stand one emitter after another, each emitter's in the order of time.
"""

import numpy as np
from numpy.typing import NDArray

PSF_SIGMA = 130.0
"""Standard deviation in nm of a point's image in a typical objective of numerical aperture 1.45."""


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
    mean_gap: float = 3.0,
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
    mean_gap : float, default=3.0
        Mean number of frames, at least 1, from one blink to the next; the gaps are geometric.

    Returns
    -------
    ndarray of shape (n_blinks,)
        Frames from 0 to ``n_frames - 1``. An emitter's first blink is uniform among the frames from
        which all of its blinks fit in; those of an emitter that never fits end in the last frame.

    Examples
    --------
    >>> draw_frames(np.array([3, 1]), 1000, np.random.RandomState(0))
    array([420, 424, 427, 645])
    """
    last = np.cumsum(blink_counts) - 1
    first = last - blink_counts + 1
    elapsed = np.cumsum(random_state.geometric(1 / mean_gap, size=int(blink_counts.sum())))
    elapsed_at_first = elapsed[first]
    duration = elapsed[last] - elapsed_at_first
    start = random_state.random_sample(len(blink_counts)) * (n_frames - duration).clip(min=1)
    shift = np.repeat(start.astype(np.int64) - elapsed_at_first, blink_counts)
    frame: NDArray[np.int64] = (elapsed + shift).clip(max=n_frames - 1)
    return frame


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


def photons_for(uncertainty: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the photons that a blink needs to be localized so well.

    Parameters
    ----------
    uncertainty : ndarray of shape (n,)
        Uncertainties in nm.

    Returns
    -------
    ndarray of shape (n,)
        Photons: uncertainty = PSF_SIGMA / sqrt(photons), the limit of Thompson, Larson and Webb
        (Biophysical Journal 82, 2775, 2002) for small pixels and no background.

    Examples
    --------
    >>> photons_for(np.array([13.0]))
    array([100.])
    """
    photons: NDArray[np.float64] = (PSF_SIGMA / uncertainty) ** 2
    return photons
