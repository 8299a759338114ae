"""What other programs read of what smlmkit writes: Locan and Picasso, where these are installed.

python -m venv PEERS && PEERS/bin/pip install locan==0.22 picassosr==0.11.3
python -m benchmarks.interoperability --peers PEERS --json benchmarks/results/interoperability.json

A table is written in each format that the peers have a reader for, and the columns that they find
are compared with those of the table: positions, frames, photons and uncertainties. `agree` gives
the largest difference of each, in the units that the peer uses.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rendering import as_markdown
from smlmkit import Localizations, write_localizations

PIXEL_SIZE = 130.0
FILES = {
    "picasso": "blinks.hdf5",
    "thunderstorm": "blinks.csv",
    "smlm": "blinks.smlm",
    "decode": "blinks.h5",
}
# By reader: format, what it runs, and by the peer's column that of the table, factor and offset.
NM = {name: (own, 1.0, 0.0) for name, own in (
    ("position_x", "x"), ("position_y", "y"), ("position_z", "z"), ("intensity", "photons"),
)}  # fmt: skip
PRINT_COLUMNS = """
import json
print("COLUMNS" + json.dumps({name: data[name].tolist() for name in data.columns}))
"""
LOCAN = "import locan; data = locan.{}('{{file}}').data"
READERS = {
    "Picasso": (
        "picasso",
        "from picasso import io; import pandas; data = pandas.DataFrame(io.load_locs('{file}')[0])",
        {
            "x": ("x", 1 / PIXEL_SIZE, -0.5),
            "y": ("y", 1 / PIXEL_SIZE, -0.5),
            "z": ("z", 1.0, 0.0),
            "frame": ("frame", 1.0, 0.0),
            "photons": ("photons", 1.0, 0.0),
            "lpx": ("uncertainty_x", 1 / PIXEL_SIZE, 0.0),
        },
    ),
    "Locan, ThunderSTORM": (
        "thunderstorm",
        LOCAN.format("load_thunderstorm_file"),
        {**NM, "frame": ("frame", 1.0, 1.0), "uncertainty_x": ("uncertainty_x", 1.0, 0.0)},
    ),
    "Locan, SMLM": (
        "smlm", LOCAN.format("load_SMLM_file"), {**NM, "frame": ("frame", 1.0, 0.0)}
    ),
    "Locan, DECODE": (
        "decode",
        LOCAN.format("load_decode_file"),
        {
            "position_x": ("x", 1 / PIXEL_SIZE, -0.5),  # as they stand: in camera pixels
            "position_y": ("y", 1 / PIXEL_SIZE, -0.5),
            "position_z": ("z", 1.0, 0.0),
            "intensity": ("photons", 1.0, 0.0),
            "frame": ("frame", 1.0, 0.0),
        },
    ),
}  # fmt: skip


def main() -> None:
    """Write, have others read, compare, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, required=True, help="an environment that has them")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = make_table()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (file_format, code, columns) in READERS.items():
            path = Path(folder, FILES[file_format])
            takes_size = {"pixel_size": PIXEL_SIZE} if file_format in ("picasso", "decode") else {}
            write_localizations(table, path, format=file_format, overwrite=True, **takes_size)
            rows.append({"reader": name, **compare(table, options.peers, code, path, columns)})
    print(as_markdown(rows))
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def make_table() -> Localizations:
    """Give a table of all the columns that are compared."""
    random = np.random.default_rng(0)
    n = 1000
    sigma = random.uniform(120, 150, n)
    uncertainty = random.uniform(5, 20, n)
    return Localizations(
        {
            **{name: random.uniform(200, 12_000, n) for name in "xy"},
            "z": random.uniform(-300, 300, n),
            "frame": np.arange(n) // 3,
            "photons": random.uniform(500, 3000, n),
            **dict.fromkeys(("sigma_x", "sigma_y"), sigma),
            **dict.fromkeys(("uncertainty_x", "uncertainty_y"), uncertainty),
        },
        field_of_view=(0, 0, 13_000, 13_000),
    )


def compare(
    table: Localizations,
    peers: Path,
    code: str,
    path: Path,
    columns: dict[str, tuple[str, float, float]],
) -> dict[str, Any]:
    """Have a peer read a file; say how many rows and which columns agree, and how well."""
    script = f"{code.format(file=path)}\n{PRINT_COLUMNS}"
    done = subprocess.run(
        [peers / "bin" / "python", "-c", script], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return {"rows": 0, "agree": "", "problem": done.stderr.strip().splitlines()[-1][:200]}
    [line] = [line for line in done.stdout.splitlines() if line.startswith("COLUMNS")]
    found = {name: np.array(values) for name, values in json.loads(line[7:]).items()}
    differences = {
        own: float(np.abs(found[theirs] - (table[own] * factor + offset)).max())
        for theirs, (own, factor, offset) in columns.items()
        if theirs in found and len(found[theirs]) == len(table)
    }
    return {
        "rows": max(map(len, found.values()), default=0),
        "agree": ", ".join(f"{name} {value:.1g}" for name, value in differences.items()),
        "problem": "not found: " + ", ".join(columns.keys() - found.keys())
        if columns.keys() - found.keys()
        else "",
        "has": ", ".join(found),
    }


if __name__ == "__main__":
    main()
