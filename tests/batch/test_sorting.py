"""Rows sorted by cell, in memory and in files, against numpy's stable sort."""

import numpy as np
import pyarrow as pa
import pytest

from smlmkit._kernels.sorting import places_by_key
from smlmkit.batch import _sorting
from smlmkit.batch._sorting import SortedRuns

N_CELLS = 50
NUMBERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


def columns_of_every_kind(random, n_rows):
    numbers = {kind: random.integers(0, 100, n_rows).astype(kind) for kind in NUMBERS}
    texts = random.choice(np.array(["a", "bc", None], dtype=object), n_rows)
    times = random.integers(0, 10**9, n_rows).astype("M8[ns]")
    return {**numbers, "flag": random.random(n_rows) < 0.5, "text": texts, "time": times}


@pytest.mark.parametrize("most_bytes", [2**27, 2**12], ids=["in memory", "in files"])
def test_rows_of_every_kind_are_in_stable_order(most_bytes, monkeypatch, tmp_path):
    monkeypatch.setattr(_sorting, "_MOST_BYTES_HELD", most_bytes)
    random = np.random.default_rng(0)
    runs = SortedRuns(tmp_path, N_CELLS)
    cells = [random.integers(0, N_CELLS, n).astype(np.int32) for n in (300, 0, 1, 500)]
    batches = [columns_of_every_kind(random, len(some)) for some in cells]
    for some, columns in zip(cells, batches, strict=True):
        runs.add(some, columns)
    rows = pa.concat_tables(runs.merged(100))
    order = np.argsort(np.concatenate(cells), kind="stable")
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        expected = np.concatenate([columns[name] for columns in batches])[order]
        np.testing.assert_array_equal(column.to_numpy(), expected, err_msg=name)
        assert name not in NUMBERS or column.to_numpy().dtype == name


def test_places_are_the_inverse_of_a_stable_order():
    keys = np.random.default_rng(0).integers(0, 7, 1000).astype(np.int32)
    order = np.argsort(keys, kind="stable")
    np.testing.assert_array_equal(places_by_key(keys, 7)[order], np.arange(1000))
