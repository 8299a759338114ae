"""Simulated microtubules for figure 4C: pairs of straight ones, and networks to learn from.

All are 25 nm wide and labelled by antibodies, with the same blinks, uncertainty and background.
"""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from benchmarks.real_microtubules import PIXEL_SIZE
from benchmarks.reproduce.real import KnownField
from benchmarks.reproduce.simulated import SEEDS_OF_A_STUDY
from smlmkit import Localizations, make_blinks, make_microtubules, make_two_filaments
from smlmkit.metrics.filaments import averaged_profile

THICKNESS = 25.0
BLINKS = {"linkage_error": 8.0, "uncertainty": 10.0, "background": 0.05}
PAIR_LENGTH = 3000.0
PAIR_FIELD_SIZE = 4000.0
HALF_WIDTH_NM = 250.0
NETWORK_FIELD_SIZE = 10_240.0
N_FILAMENTS = 30


def simulate_pair(distance: float, linear_density: float, seed: int) -> tuple[Localizations, float]:
    """Draw a pair of filaments; those of one seed have one angle, which is given, too."""
    angle = float(np.random.default_rng(seed).uniform(0, 180))
    table, _ = make_two_filaments(
        distance,
        angle=angle,
        length=PAIR_LENGTH,
        thickness=THICKNESS,
        field_size=PAIR_FIELD_SIZE,
        density=_density(2 * PAIR_LENGTH * linear_density, PAIR_FIELD_SIZE),
        random_state=seed,
        **BLINKS,
    )
    return table, angle


def cut(image: xr.DataArray, angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average the image of a pair along the filaments; offsets in nm."""
    middle = PAIR_FIELD_SIZE / 2 / PIXEL_SIZE
    offset, profile = averaged_profile(
        image.to_numpy(),
        (middle, middle),
        angle=angle,
        length=0.8 * PAIR_LENGTH / PIXEL_SIZE,
        half_width=HALF_WIDTH_NM / PIXEL_SIZE,
    )
    return offset * PIXEL_SIZE, profile


def simulate_network(linear_density: float, number: int, study_seed: int) -> KnownField:
    """Draw a network of crossing filaments; its dense image is that of the filaments themselves."""
    random_state = np.random.RandomState(SEEDS_OF_A_STUDY * study_seed + number)
    _, network = make_microtubules(
        field_size=NETWORK_FIELD_SIZE,
        n_filaments=N_FILAMENTS,
        thickness=THICKNESS,
        density=1.0,  # what counts is the structure: its length is not known before
        random_state=random_state,
    )
    table, truth = make_blinks(
        network.curves,
        field_size=NETWORK_FIELD_SIZE,
        density=_density(network.curves.length * linear_density, NETWORK_FIELD_SIZE),
        random_state=random_state,
        **BLINKS,
    )
    return KnownField(f"network {number}", table, truth.image(PIXEL_SIZE))


def _density(n_localizations: float, field_size: float) -> float:
    """Give the blinks per square micrometre of which so many are not background."""
    return n_localizations / (1 - BLINKS["background"]) / (field_size / 1000) ** 2
