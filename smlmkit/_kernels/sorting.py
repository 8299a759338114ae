"""Rows sorted by small whole numbers: counted, and moved to their places one after the other."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def places_by_key(keys: NDArray[np.int32], n_keys: int) -> NDArray[np.int64]:
    """Give each row's place in the stable order of keys, all of which are 0 to n_keys - 1."""
    next_place = np.zeros(n_keys + 1, np.int64)
    for key in keys:
        next_place[key + 1] += 1
    for key in range(n_keys):
        next_place[key + 1] += next_place[key]
    places = np.empty(len(keys), np.int64)
    for k in range(len(keys)):
        places[k] = next_place[keys[k]]
        next_place[keys[k]] += 1
    return places


@numba.njit(nogil=True, cache=True)
def move_to(places: NDArray[np.int64], values: NDArray[Any], out: NDArray[Any]) -> None:
    """Write values to their places: rows of one key next to each other, so in few cache lines."""
    for k in range(len(values)):
        out[places[k]] = values[k]
