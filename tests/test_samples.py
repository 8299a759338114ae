import numpy as np
import pandas as pd
import pytest

from smlmkit import Localizations
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.samples import as_fovs
from smlmkit.testing import example_fovs


def make_table(n=100):
    return example_fovs(1, n)[0]


def test_one_table_is_single():
    table = make_table()
    assert as_fovs(table) == ([table], True)
    for X in (table.to_frame(), {"x": [1.0], "y": [2.0]}, np.zeros((4, 2))):
        fovs, single = as_fovs(X)
        assert single
        assert isinstance(fovs[0], Localizations)


@pytest.mark.parametrize("lengths", [(3, 3), (3, 4, 5), (1,)])
@pytest.mark.parametrize("kind", ["list", "tuple", "object array"])
def test_a_sequence_has_a_table_a_field_of_view(lengths, kind):
    tables = [make_table(n) for n in lengths]
    X = tables if kind == "list" else tuple(tables)
    if kind == "object array":
        X = np.empty(len(tables), object)
        X[:] = tables
    assert as_fovs(X) == (tables, False)


@pytest.mark.parametrize("lengths", [(3, 3), (3, 4)])
def test_tables_in_a_list_may_be_of_any_kind(lengths):
    arrays = [np.zeros((n, 2)) for n in lengths]
    frames = [make_table(n).to_frame() for n in lengths]
    fovs, single = as_fovs([*arrays, *frames])
    assert not single
    assert [len(fov) for fov in fovs] == [*lengths, *lengths]


def test_tables_are_handed_on_as_they_are():
    table = make_table()
    assert as_fovs([table])[0][0] is table


def test_each_bad_sample_is_named():
    bad = pd.DataFrame({"x": [1.0]})
    with pytest.raises(InvalidInputError) as caught:
        as_fovs([make_table(), bad, None, make_table(), np.zeros((2, 5))])
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["X[1]", "X[2]", "X[4]"]
    assert "no column 'y'" in lines[0]
    assert "NoneType" in lines[1]


@pytest.mark.parametrize("X", [None, 5, "locs.hdf5", b"locs", {example_fovs}, iter([])])
def test_what_is_no_list_of_tables_is_refused(X):
    with pytest.raises(InvalidTypeError, match="X must be"):
        as_fovs(X)


@pytest.mark.parametrize("X", [[], (), np.array([], object)])
def test_an_empty_list_is_refused(X):
    with pytest.raises(InvalidInputError, match="empty list"):
        as_fovs(X)
