"""The records of a folder's acquisitions, and the table that sums them up."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from smlmkit._atomic import all_or_nothing, whole_or_nothing

Record = dict[str, Any]
"""What is known of an acquisition, as JSON can hold it."""

_NUMBER, _COUNT, _TEXT, _YES_OR_NO = "float64", "Int64", "string", "boolean"
_STAGES = ("prepare", "train", "tiles", "measure", "draw", "total")
_KIND_OF_COLUMN = {
    "acquisition": _TEXT,
    "file": _TEXT,
    "status": _TEXT,
    "image": _TEXT,
    "localizations": _COUNT,
    "density_per_um2": _NUMBER,
    "median_uncertainty_nm": _NUMBER,
    "height_px": _COUNT,
    "width_px": _COUNT,
    "pixel_size_nm": _NUMBER,
    "raw_resolution_nm": _NUMBER,
    "raw_area": _NUMBER,
    "held_out_resolution_nm": _NUMBER,
    "held_out_area": _NUMBER,
    "log_likelihood": _NUMBER,
    "held_out_is_seen": _YES_OR_NO,
    "measured_px": _TEXT,
    **{f"{stage}_seconds": _NUMBER for stage in _STAGES},
    "warnings": _TEXT,
    "error": _TEXT,
}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write what is known of an acquisition as JSON, whole or not at all.

    Parameters
    ----------
    path : Path
        The file; one that is there is replaced.
    record : mapping
        What is known.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with whole_or_nothing(path, overwrite=True) as partial:
        # On one line, which Python's encoder writes many times as fast as an indented text.
        partial.write_text(json.dumps(record, allow_nan=False), "utf-8")


def read_records(folder: Path) -> dict[str, Record]:
    """Read the records of earlier runs.

    Parameters
    ----------
    folder : Path
        Where they are.

    Returns
    -------
    dict
        The record of each acquisition, by its name. What is no record is passed over: the
        acquisition then counts as not done.
    """
    records = {}
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text("utf-8"))
            is_record = record["acquisition"] == path.stem
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue
        if is_record:
            records[path.stem] = record
    return records


def summarize(records: Iterable[Record]) -> pd.DataFrame:
    """Make a table with a row for each acquisition.

    Parameters
    ----------
    records : iterable of dict
        What is known of each.

    Returns
    -------
    DataFrame
        Sorted by the acquisitions' names. The columns:

        - ``acquisition``, ``file``, ``status`` ("done" or "failed"), ``image``: its name in the
          folder of results;
        - ``localizations``, ``density_per_um2`` and ``median_uncertainty_nm`` of the table,
          ``height_px``, ``width_px`` and ``pixel_size_nm`` of the image;
        - ``raw_resolution_nm``, ``raw_area``: the Fourier ring correlation of two halves of the
          table; ``held_out_resolution_nm``, ``held_out_area``: that of the reconstruction of one
          half with the other half; ``log_likelihood`` of the other half per localization;
        - ``held_out_is_seen``: whether the network was trained on these very localizations, so that
          its scores are not held out;
        - ``measured_px``: the box of pixels (top, left, bottom, right) that the scores are of; of
          fields of more than 4096 pixels a side a part only, the densest;
        - ``prepare_seconds``, ``train_seconds``, ``tiles_seconds``, ``measure_seconds``,
          ``draw_seconds`` and ``total_seconds``: wall time of all attempts together, in which other
          acquisitions may have been at work, too;
        - ``warnings`` and ``error``.
    """
    rows = [_row(record) for record in sorted(records, key=lambda record: record["acquisition"])]
    return pd.DataFrame(
        {
            name: pd.Series([row[name] for row in rows], dtype=kind)
            for name, kind in _KIND_OF_COLUMN.items()
        }
    )


def write_summary(folder: Path, records: Iterable[Record]) -> pd.DataFrame:
    """Write the table of all acquisitions as ``summary.parquet`` and ``summary.csv``.

    Parameters
    ----------
    folder : Path
        Where to write; an earlier summary is replaced.
    records : iterable of dict
        What is known of each acquisition.

    Returns
    -------
    DataFrame
        The table.

    Raises
    ------
    OutputError
        If it cannot be written; the earlier one then stays.
    """
    table = summarize(records)
    paths = [folder / "summary.parquet", folder / "summary.csv"]
    with all_or_nothing(paths, overwrite=True) as (parquet, csv):
        table.to_parquet(parquet, index=False)
        table.to_csv(csv, index=False)
    return table


def _row(record: Record) -> dict[str, Any]:
    row = {name: record.get(name) for name in _KIND_OF_COLUMN}
    for curve in ("raw", "held_out"):
        facts = (record.get("frc") or {}).get(curve) or {}
        row |= {f"{curve}_{fact}": facts.get(fact) for fact in ("resolution_nm", "area")}
    seconds = record.get("seconds") or {}
    row |= {f"{stage}_seconds": seconds.get(stage) for stage in _STAGES}
    if box := record.get("measured_px"):
        row["measured_px"] = " ".join(map(str, box))
    row["warnings"] = "; ".join(record.get("warnings") or [])
    return row
