"""Folders of reconstructions are read as they are, and refused where they are not."""

import json
import os
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from smlmkit.errors import FileFormatError
from smlmkit.report.results import read_results


def changed(results, **changes):
    """Add an acquisition with a changed record and read the folder."""
    results.add("cell", **changes)
    return read_results(results.path).acquisitions[0]


def test_a_record_is_read_whole(results):
    results.add("cell", shape=(120, 90), warnings=["dim"])
    acquisition = read_results(results.path).acquisitions[0]
    record = json.loads((results.path / "records/cell.json").read_text())
    assert acquisition.name == "cell"
    assert acquisition.file == "cell.hdf5"
    assert acquisition.error is None
    assert acquisition.image == results.path / "cell.ome.zarr"
    assert acquisition.n_localizations == record["localizations"]
    assert acquisition.density == record["density_per_um2"]
    assert acquisition.shape == (120, 90)
    assert acquisition.origin == (1000, 2000)
    assert acquisition.crop == (20, 30, 80, 40)
    assert acquisition.warnings == ("dim",)
    assert_array_equal(acquisition.raw.correlation, record["frc"]["raw"]["correlation"])
    assert acquisition.held_out.resolution == record["frc"]["held_out"]["resolution_nm"]
    assert acquisition.seconds["total"] == 2.5


def test_acquisitions_come_sorted_by_name_with_those_that_failed(results):
    results.add("b", shape=(120, 120))
    results.add_failed("a", "torn")
    acquisitions = read_results(results.path).acquisitions
    assert [(each.name, each.error) for each in acquisitions] == [("a", "torn"), ("b", None)]
    assert acquisitions[0].n_localizations is None


def test_what_is_not_a_finite_number_is_unknown(results):
    results.add("cell", shape=(120, 120))
    path = results.path / "records/cell.json"
    record = json.loads(path.read_text())
    record["frc"]["raw"]["correlation"][3] = None
    record["frc"]["raw"]["resolution_nm"] = float("nan")
    record["density_per_um2"] = float("inf")
    path.write_text(json.dumps(record).replace("-1.25", "1e999"))
    acquisition = read_results(results.path).acquisitions[0]
    assert np.isnan(acquisition.raw.correlation[3])
    assert acquisition.raw.resolution is None
    assert acquisition.density is None
    assert acquisition.log_likelihood is None


@pytest.mark.parametrize(("told", "is_seen"), [(True, True), (False, False), (None, False)])
def test_it_is_known_what_the_training_has_seen(results, told, is_seen):
    assert changed(results, shape=(120, 120), held_out_is_seen=told).is_seen is is_seen


def test_a_run_ended_when_its_log_says_so_for_the_last_time(results):
    results.add_failed("a", "torn")
    assert read_results(results.path).ended is None
    (results.path / "summary.parquet").touch()
    os.utime(results.path / "summary.parquet", (1e9, 1e9))
    assert read_results(results.path).ended == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    lines = [
        '{"time": "2026-03-04T05:06:07.000+00:00", "event": "run ended"}',
        '{"time": "2026-03-05T02:02:03.000+01:00", "event": "run ended"}',
        '{"time": "2026-03-06T00:00:00.000+00:00", "event": "acquisition done"}',
        '[1, "run ended"]',
        '{"time": 7, "event": "run ended"}',
        '{"time": "2026-03-07", "event": "run ended"',
    ]
    (results.path / "log.jsonl").write_text("\n".join(lines))
    assert read_results(results.path).ended == datetime(2026, 3, 5, 1, 2, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "half"}, "status 'half'"),
        ({"acquisition": None}, "acquisition None"),
        ({"acquisition": 3}, "acquisition must not be 3"),
        ({"localizations": -1}, "localizations must be a count, not -1"),
        ({"localizations": True}, "localizations must not be True"),
        ({"held_out_is_seen": 1}, "held_out_is_seen must be true or false, not 1"),
        ({"warnings": "all"}, "warnings must not be 'all'"),
        ({"warnings": [1]}, "warnings must be a list of texts"),
        ({"image": "../cell.ome.zarr"}, "is not the name of an image in this folder"),
        ({"image": "/etc"}, "is not the name of an image in this folder"),
        ({"image": ".."}, "is not the name of an image in this folder"),
        ({"crop_px": [0, 0, 10]}, "crop_px must be a list of 4 numbers"),
        ({"crop_px": [0, 0, 10, 0.5]}, "is not a box of pixels"),
        ({"crop_px": [0, 0, 10, None]}, "is not a box of pixels"),
        ({"crop_px": [0, 0, 10, 91]}, "does not lie in 120 x 90 pixels"),
        ({"crop_px": [5, 0, 5, 10]}, "does not lie in 120 x 90 pixels"),
        ({"frc": {"raw": {"correlation": [1]}}}, "as many frequencies as correlations"),
        ({"frc": {"raw": {"frequency_per_nm": [[1]], "correlation": [1]}}}, "a list of numbers"),
        ({"frc": {"raw": {"frequency_per_nm": ["x"], "correlation": [1]}}}, "a list of numbers"),
        (
            {"frc": {"raw": {"frequency_per_nm": [1], "correlation": [1], "threshold": []}}},
            "as many thresholds",
        ),
    ],
)
def test_a_record_that_lies_is_named(results, changes, message):
    with pytest.raises(FileFormatError, match=message) as error:
        changed(results, shape=(120, 90), **changes)
    assert "cell.json" in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff", "[" * 100_000])
def test_a_record_that_is_no_object_is_named(results, text):
    (results.path / "records/cell.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FileFormatError, match=r"cell\.json"):
        read_results(results.path)


def test_other_folders_are_refused(results, tmp_path):
    with pytest.raises(FileFormatError, match="is it a folder of reconstructions"):
        read_results(tmp_path)
    results.add_failed("a", "torn")
    (results.path / "run.json").unlink()
    with pytest.raises(FileFormatError, match=r"run\.json: cannot read it: No such file"):
        read_results(results.path)
