"""Densities as colours: how bright they are, and how the colours of slices or channels mix.

Colours add up as light does, in linear intensities; only their sum becomes sRGB.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import InvalidInputError

# From violet to red in even steps, all of the lightness 66 in CIELAB and as vivid as sRGB shows
# them, so that a structure is equally bright at every depth.
DEPTH_COLOURS = (
    "#8d99fc", "#64a1ff", "#26a9f7", "#06aedc", "#06b1c0", "#05b4a3", "#05b685", "#07b862",
    "#42b730", "#79b105", "#9ca903", "#b8a003", "#d19602", "#e88a0e", "#fa7e31", "#ff785d",
    "#ff7480",
)  # fmt: skip

# The colour-blind tell magenta from green, and their sum is white. 0 and 1 are the same in sRGB and
# in linear intensities.
CHANNEL_COLOURS = {
    "magenta": (1.0, 0.0, 1.0),
    "green": (0.0, 1.0, 0.0),
    "cyan": (0.0, 1.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
}


@dataclass(frozen=True)
class Exposure:
    """How values become brightness.

    Parameters
    ----------
    percentile : float
        The percentile of the values above zero that is as bright as can be.
    gamma : float
        The power to which the share of the brightest value is raised.

    Raises
    ------
    InvalidInputError
        If one is out of range.

    Examples
    --------
    >>> exposure = Exposure(percentile=100, gamma=0.5)
    >>> exposure.white_level(np.array([-3.0, 0.0, 4.0]))
    4.0
    >>> exposure.brightness(np.array([-3.0, 1.0, 4.0, 9.0]), white=4.0)
    array([0. , 0.5, 1. , 1. ])
    """

    percentile: float
    gamma: float

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise InvalidInputError(f"percentile must be in (0, 100], got {self.percentile!r}")
        if not 0 < self.gamma < math.inf:
            raise InvalidInputError(f"gamma must be positive and finite, got {self.gamma!r}")

    def white_level(self, values: NDArray[np.floating]) -> float:
        """Give the value that is as bright as can be; 1 where nothing is above zero."""
        lit = values[values > 0]
        return float(np.percentile(lit, self.percentile)) if lit.size else 1.0

    def brightness(self, values: NDArray[np.floating], white: float) -> NDArray[np.floating]:
        """Give how bright values are, from 0 to 1, as levels of grey in sRGB."""
        share: NDArray[np.floating] = (np.clip(values, 0, white) / white) ** self.gamma
        return share


def heights(z: NDArray[np.floating]) -> NDArray[np.floating]:
    """Give where slices lie between the lowest and the highest, as places on a colour map.

    Parameters
    ----------
    z : ndarray of shape (n,)
        The centres of the slices, rising.

    Returns
    -------
    ndarray of shape (n,)
        From 0, the lowest, to 1, the highest; 0.5 for a single slice.

    Examples
    --------
    >>> heights(np.array([-100.0, 0.0, 300.0]))
    array([0.  , 0.25, 1.  ])
    """
    return (z - z[0]) / (z[-1] - z[0]) if len(z) > 1 else np.array([0.5])


def colour_slices(
    slices: NDArray[np.floating], hues: NDArray[np.floating], exposure: Exposure
) -> tuple[NDArray[np.uint8], float]:
    """Make every pixel as bright as its sum over the slices, in the mixture of their colours.

    Parameters
    ----------
    slices : ndarray of shape (n, height, width)
        The densities. One that is NaN makes the pixel transparent.
    hues : ndarray of shape (n, 3)
        The slices' colours in sRGB, from 0 to 1.
    exposure : Exposure
        How the sums become brightness.

    Returns
    -------
    colours : ndarray of shape (height, width, 4)
        RGBA.
    white : float
        The sum that is as bright as can be.

    Examples
    --------
    >>> slices = np.array([[[2.0, 4.0, 0.0]], [[2.0, 0.0, 0.0]]])
    >>> colour_slices(slices, np.array([[1.0, 0, 0], [0, 1, 0]]), Exposure(100, 1))
    (array([[[188, 188,   0, 255],
            [255,   0,   0, 255],
            [  0,   0,   0, 255]]], dtype=uint8), 4.0)
    """
    total = slices.sum(axis=0, dtype=np.float64)
    white = exposure.white_level(total)
    lights = _intensity(hues)
    colours = np.empty((*total.shape, 4), np.uint8)
    for row in range(len(colours)):  # one at a time, for a small footprint
        lit = np.maximum(slices[:, row], 0)
        sums = lit.sum(axis=0, dtype=np.float64)[:, np.newaxis]
        mixture = lit.T @ lights
        np.divide(mixture, sums, out=mixture, where=sums > 0)
        scale = _intensity(exposure.brightness(total[row], white))
        colours[row] = _rgba(mixture * scale[:, np.newaxis])
    return colours, white


def colour_channels(
    channels: NDArray[np.floating], exposure: Exposure
) -> tuple[NDArray[np.uint8], dict[str, float]]:
    """Add up channels, each in a colour of its own and at most as bright as that.

    Parameters
    ----------
    channels : ndarray of shape (n, height, width)
        The densities. One that is NaN makes the pixel transparent.
    exposure : Exposure
        How the values of each become brightness.

    Returns
    -------
    colours : ndarray of shape (height, width, 4)
        RGBA.
    white : dict of str to float
        The value of each channel that is as bright as can be, by the name of the channel's colour.

    Raises
    ------
    InvalidInputError
        If there are more channels than colours.

    Examples
    --------
    >>> colour_channels(np.array([[[2.0, 1.0]], [[4.0, 0.0]]]), Exposure(100, 1))
    (array([[[255, 255, 255, 255],
            [128,   0, 128, 255]]], dtype=uint8), {'magenta': 2.0, 'green': 4.0})
    """
    if len(channels) > len(CHANNEL_COLOURS):
        raise InvalidInputError(
            f"there are {len(channels)} channels and {len(CHANNEL_COLOURS)} colours: choose some "
            "channels, image.sel(channel=[...])"
        )
    chosen = dict(zip(CHANNEL_COLOURS, channels, strict=False))
    white = {name: exposure.white_level(values) for name, values in chosen.items()}
    lights = np.array([CHANNEL_COLOURS[name] for name in chosen])
    colours = np.empty((*channels.shape[1:], 4), np.uint8)
    for row in range(len(colours)):  # one at a time, for a small footprint
        scale = [exposure.brightness(values[row], white[name]) for name, values in chosen.items()]
        colours[row] = _rgba(_intensity(np.stack(scale, axis=-1)) @ lights)
    return colours, white


def _intensity(level: NDArray[np.floating]) -> NDArray[np.floating]:
    """Turn levels of sRGB into linear intensities (IEC 61966-2-1)."""
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


def _rgba(light: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Turn rows of linear intensities into sRGB, opaque, or transparent where they are NaN."""
    light = np.clip(light, 0, 1)
    level = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    opaque = np.pad(level, [(0, 0), (0, 1)], constant_values=1)
    known = np.where(np.isnan(level).any(axis=1, keepdims=True), 0, opaque)
    rgba: NDArray[np.uint8] = np.rint(255 * known).astype(np.uint8)
    return rgba
