import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smlmkit.errors import FileFormatError, InvalidInputError, UnusedRowsWarning
from smlmkit.io.parquet import write
from smlmkit.io.tables import read_localizations
from smlmkit.localizations import Localizations


def test_a_table_comes_back_exactly_with_text_and_times(tmp_path):
    table = Localizations(
        {
            "x": [150.0, 990.0],
            "y": [250.0, 480.0],
            "frame": [3, 6],
            "photons": np.array([900.1, np.nan], ">f4"),
            "bright": [True, False],
            "probe": np.array(["Alexa", None], dtype=object),
            "structure": ["tubulin", "größe"],
            "when": np.array(["2020-01-01", "2021-01-01"], "M8[ms]"),
            "half": np.array([1, 2], np.float16),
            "": [1, 2],
        },
        field_of_view=(0.1, -3e5, 500, 1000),
        metadata={"nested": [{"ä\ud800": float("nan")}], "camera_pixel_size": 97.0},
    )
    write(table, tmp_path / "blinks.parquet")
    again = read_localizations(tmp_path / "blinks.parquet")
    assert again == table
    assert again["when"].dtype == table["when"].dtype
    assert again["half"].dtype == np.float16


def test_other_programs_find_units_and_the_field_of_view(tmp_path):
    table = Localizations({"x": [1.0], "y": [2.0], "photons": [3]}, field_of_view=(0, 0, 10, 20))
    write(table, tmp_path / "blinks.parquet")
    schema = pq.read_schema(tmp_path / "blinks.parquet")
    assert schema.field("x").metadata[b"unit"] == b"nm"
    assert b"unit" not in (schema.field("photons").metadata or {})
    assert json.loads(schema.metadata[b"smlmkit"]) == {
        "version": 1,
        "field_of_view": [0, 0, 10, 20],
        "metadata": {},
    }
    assert pd.read_parquet(tmp_path / "blinks.parquet").to_dict("list") == {
        "x": [1.0],
        "y": [2.0],
        "photons": [3],
    }


def test_foreign_files_are_read_if_they_hold_x_and_y(tmp_path):
    path = tmp_path / "foreign.parquet"
    columns = {"x": [1, None, 3], "y": [1.5, 2.5, 3.5], "frame": [0, 1, 2], "n": [None, 1, 2]}
    pq.write_table(pa.table(columns), path, row_group_size=1)
    with pytest.warns(UnusedRowsWarning, match="1 of 3 rows .*: 1 with x or y not finite"):
        table = read_localizations(path)
    assert table.x.tolist() == [1.0, 3.0]
    np.testing.assert_array_equal(table["n"], [np.nan, 2])
    assert table.field_of_view == (1, 1, 4, 4)
    assert table.metadata == {"source": "foreign.parquet", "format": "parquet"}


def test_an_argument_goes_before_the_field_that_is_stated(tmp_path):
    write(Localizations({"x": [1.0], "y": [2.0]}), tmp_path / "blinks.parquet")
    table = read_localizations(tmp_path / "blinks.parquet", field_of_view=(0, 0, 10, 20))
    assert table.field_of_view == (0, 0, 10, 20)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0]}, "no column 'y'; there are x"),
        ({"x": [1.0], "y": ["two"]}, "column 'y' must hold numbers"),
        ({"x": [1.0], "y": [2.0], "frame": [0.5]}, "'frame' must hold whole numbers"),
        ({"x": [1.0], "y": [2.0], "n": [[1, 2]]}, r"column 'n' is of type list<.*expected numbers"),
        ({"x": [1.0], "y": [2.0], "n": [b"b"]}, "column 'n' is of type binary"),
        ({"x": pa.array([], pa.float64()), "y": pa.array([], pa.float64())}, "field_of_view"),
    ],
)
def test_a_foreign_file_of_another_kind_is_named(tmp_path, columns, message):
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(FileFormatError, match=rf"foreign\.parquet: .*{message}"):
        read_localizations(path)


def test_a_column_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table([[1.0], [2.0], [3.0]], names=["x", "y", "x"]), path)
    with pytest.raises(FileFormatError, match="x"):
        read_localizations(path)


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ("{", "schema metadata are damaged"),
        ("[]", "schema metadata are damaged"),
        ("{}", "schema metadata are damaged: KeyError"),
        ('{"version": 1, "field_of_view": [0, 0, 0, 0], "metadata": {}}', "are damaged"),
        ('{"version": 1, "field_of_view": [0, 0, 9, 9], "metadata": 7}', "are damaged"),
        ("[" * 100_000, "are damaged"),
        ('{"version": 2}', "written in version 2 of the format; this smlmkit knows version 1"),
    ],
)
def test_damaged_metadata_are_named(tmp_path, note, message):
    path = tmp_path / "blinks.parquet"
    table = pa.table({"x": [1.0], "y": [2.0]}).replace_schema_metadata({"smlmkit": note})
    pq.write_table(table, path)
    with pytest.raises(FileFormatError, match=rf"blinks\.parquet: .*{message}"):
        read_localizations(path)


def test_a_claim_of_more_rows_than_a_file_can_hold_is_refused(tmp_path):
    path = tmp_path / "bomb.parquet"
    one_row_group = pa.table({"x": np.zeros(4_000_000), "y": np.zeros(4_000_000)})
    with pq.ParquetWriter(path, one_row_group.schema, compression="zstd") as writer:
        for _ in range(17):
            writer.write_table(one_row_group)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(FileFormatError, match="cannot hold the 68,000,000 rows of 2 columns"):
        read_localizations(path)


@pytest.mark.parametrize(
    "values", [np.array([1j]), np.array([{"a": 1}]), np.array([b"b"]), np.array([object()])]
)
def test_a_column_that_parquet_does_not_keep_is_named(tmp_path, values):
    table = Localizations({"x": [1.0], "y": [2.0], "who": values})
    with pytest.raises(InvalidInputError, match=r"column 'who' .*cannot be written as Parquet"):
        write(table, tmp_path / "blinks.parquet")
    assert list(tmp_path.iterdir()) == []
