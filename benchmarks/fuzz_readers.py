"""Damaged files: every reader gives a table or an error of smlmkit, and nothing else, ever.

python -m benchmarks.fuzz_readers --inputs 20000 --json benchmarks/results/fuzz_readers.json

Small valid files of each format are damaged at random: bits flipped, bytes replaced, numbers made
huge, parts cut out, repeated or exchanged, the rest cut off; of a ZIP archive also its members, and
of an HDF5 file its chunks, before they are packed. Child processes read the results. An input is a
finding if its reader raises anything but `SmlmkitError`, warns of anything but rows that could not
be used, takes longer than ten seconds, needs more than 2 GiB more memory than
the process had before, or ends the process. Findings are kept in the folder of `--keep`. The same
seed gives the same inputs.
"""

import argparse
import faulthandler
import io
import itertools
import json
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import savemat

from benchmarks.rendering import as_markdown
from smlmkit import Localizations, read_localizations, write_localizations
from smlmkit.errors import SmlmkitError, UnusedRowsWarning
from smlmkit.io.tables import READ_FORMATS

Content = dict[str, bytes]
"""The files of an acquisition by name, the table first."""

LONGEST_SECONDS = 10
MOST_MEMORY = 2**31
ODD_PIECES = [
    b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"-", b"1e999",
    b"nan", b"1000000000", b"99999999999999999999", b"-1", b",", b";", b"\t", b"\n", b"\r", b'"',
    b"<", b"&x;", b"{", b"[", b"!!python/object:os.system", b"../../x", b"\xef\xbb\xbf", b"\xb5",
]  # fmt: skip


def main() -> None:
    """Read damaged files of each format, print what came of them and write it to a file."""
    options = parse_options()
    if options.child is not None:
        read_damaged(*options.child, options.seed, options.folder, options.start, options.inputs)
        return
    rows = [fuzz(name, options) for name in options.formats]
    print(as_markdown(rows))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"seed": options.seed, "formats": rows}, indent=1) + "\n"
        )
    sys.exit(any(row["findings"] for row in rows))


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--formats", nargs="+", choices=READ_FORMATS, default=READ_FORMATS)
    parser.add_argument("--inputs", type=int, default=20_000, help="of each format")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--json", type=Path, help="where to write the table, too")
    for name, kind in (("--child", str), ("--folder", Path), ("--start", int)):
        parser.add_argument(name, type=kind, nargs=1 if name == "--child" else None,
                            help=argparse.SUPPRESS)  # fmt: skip
    return parser.parse_args()


def fuzz(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Read damaged files of one format in child processes."""
    started = time.perf_counter()
    edges = np.linspace(0, options.inputs, options.processes + 1).astype(int).tolist()
    with ThreadPoolExecutor(options.processes) as pool:
        parts = [
            pool.submit(drive, name, start, stop, options)
            for start, stop in itertools.pairwise(edges)
        ]
        outcomes = sum((part.result() for part in parts), Counter())
    row = {
        "format": name,
        "inputs": outcomes["tables"] + outcomes["errors"] + outcomes["findings"],
        "tables": outcomes["tables"],
        "errors": outcomes["errors"],
        "findings": outcomes["findings"],
        "seconds": time.perf_counter() - started,
    }
    print(row, flush=True)
    return row


def drive(name: str, start: int, stop: int, options: argparse.Namespace) -> Counter[str]:
    """Have a child process read inputs; go on with another one after an input that ended it."""
    outcomes: Counter[str] = Counter()
    while start < stop:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable, "-m", "benchmarks.fuzz_readers", "--child", name,
                "--seed", str(options.seed), "--folder", folder,
                "--start", str(start), "--inputs", str(stop - start),
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            said = [json.loads(line) for line in done.stdout.splitlines() if line[0] == "{"]
            for outcome in said:
                outcomes[outcome["outcome"]] += outcome.get("n", 1)
                if outcome["outcome"] == "findings":
                    keep(name, outcome["input"], outcome["reason"], options)
            start += sum(outcome.get("n", 1) for outcome in said)
            if done.returncode != 0:
                outcomes["findings"] += 1
                reason = f"ended the process ({done.returncode})\n{done.stderr[-4000:]}"
                keep(name, start, reason, options)
                start += 1
    return outcomes


def keep(name: str, number: int, reason: str, options: argparse.Namespace) -> None:
    """Keep an input, and say what is wrong with it."""
    folder = options.keep / f"{name}-{number}"
    write_files(folder, make_input(name, options.seed, number))
    (folder / "reason.txt").write_text(reason)
    print(f"{folder}: {reason.strip().splitlines()[-1][:200]}", flush=True)


def read_damaged(name: str, seed: int, folder: Path, start: int, n_inputs: int) -> None:
    """Read inputs, and print a line of JSON about each one; what ended the process lacks one."""
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", UnusedRowsWarning)
    whole = write_files(folder / "whole", samples_of(name)[0])
    read_localizations(whole, format=name, pixel_size=100)  # kernels are compiled on first use
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MOST_MEMORY, resource.RLIM_INFINITY))
    for number in range(start, start + n_inputs):
        content = make_input(name, seed, number)
        path = write_files(folder, content)
        faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True)
        try:
            read_localizations(path, format=name, pixel_size=100)
            outcome: dict[str, Any] = {"outcome": "tables"}
        except SmlmkitError:
            outcome = {"outcome": "errors"}
        except BaseException:
            outcome = {
                "outcome": "findings", "input": number, "reason": traceback.format_exc()
            }  # fmt: skip
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(outcome), flush=True)


def write_files(folder: Path, content: Content) -> Path:
    """Write the files of an acquisition; give the table."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder / next(iter(content))


def make_input(name: str, seed: int, number: int) -> Content:
    """Damage one of the samples of a format."""
    random = np.random.default_rng([seed, number])
    samples = samples_of(name)
    content = dict(samples[random.integers(len(samples))])
    victim = list(content)[random.integers(len(content))]
    whole = content[victim]
    is_unpacked_first = random.random() < 0.6
    if is_unpacked_first and whole.startswith(b"PK"):
        content[victim] = damage_members(whole, random)
    elif is_unpacked_first and name in WITH_CHUNKS:
        content[victim] = damage_chunk(whole, random)
    else:
        content[victim] = damage(whole, random)
    return content


def damage_members(archive: bytes, random: np.random.Generator) -> bytes:
    """Damage a member of a ZIP archive before it is packed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(packed, "w", 8) as new:
        names = old.namelist()
        victim = names[random.integers(len(names))]
        for name in names:
            data = old.read(name)
            new.writestr(name, damage(data, random) if name == victim else data)
    return packed.getvalue()


def damage_chunk(whole: bytes, random: np.random.Generator) -> bytes:
    """Damage a chunk of an HDF5 file before it is deflated, or as LZF left it."""
    content = io.BytesIO(whole)
    with h5py.File(content, "r+") as file:
        datasets: list[h5py.Dataset] = []
        file.visititems(lambda _, item: datasets.append(item) if is_in_chunks(item) else None)
        chosen = datasets[random.integers(len(datasets))].id
        corner = chosen.get_chunk_info(int(random.integers(chosen.get_num_chunks()))).chunk_offset
        skipped, chunk = chosen.read_direct_chunk(corner)
        if chosen.get_create_plist().get_filter(0)[0] == h5py.h5z.FILTER_DEFLATE:
            chunk = zlib.compress(damage(zlib.decompress(chunk), random))
        else:
            chunk = damage(chunk, random) or b"0"  # HDF5 does not write nothing
        chosen.write_direct_chunk(corner, chunk, skipped)
    return content.getvalue()


def is_in_chunks(item: h5py.Group | h5py.Dataset) -> bool:
    """Tell a dataset that has chunks from everything else."""
    return isinstance(item, h5py.Dataset) and bool(item.chunks) and item.id.get_num_chunks() > 0


def damage(whole: bytes, random: np.random.Generator) -> bytes:
    """Change a few places, most often one."""
    data = bytearray(whole)
    for _ in range(random.geometric(0.6)):
        place = int(random.integers(len(data) + 1))
        length = int(random.geometric(0.05))
        match random.integers(7):
            case 0 if place < len(data):
                data[place] ^= 1 << int(random.integers(8))
            case 1 if place < len(data):
                data[place] = int(random.integers(256))
            case 2:
                piece = ODD_PIECES[random.integers(len(ODD_PIECES))]
                stop = place + (len(piece) if random.random() < 0.7 else 0)
                data[place:stop] = piece
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = data[place : place + length]
            case 5:
                other = int(random.integers(len(data) + 1))
                data[place : place + length] = data[other : other + length]
            case 6 if random.random() < 0.3:
                del data[place:]
    return bytes(data)


_SAMPLES: dict[str, list[Content]] = {}


def samples_of(name: str) -> list[Content]:
    """Give small valid files of a format."""
    if name not in _SAMPLES:
        make = MAKERS.get(name)
        _SAMPLES[name] = make() if make else [{f"blinks.{name}": text} for text in TEXTS[name]]
    return _SAMPLES[name]


def written(suffix: str, n_rows: int = 5, **options: Any) -> Content:
    """Write a table with smlmkit."""
    random = np.random.default_rng(0)
    columns = {name: random.uniform(100, 900, n_rows) for name in ("x", "y", "z", "photons")}
    columns |= {f"uncertainty_{axis}": random.uniform(5, 20, n_rows) for axis in "xyz"}
    columns["frame"] = np.arange(n_rows)
    table = Localizations(columns, field_of_view=(0, 0, 1000, 1000))
    with tempfile.TemporaryDirectory() as folder:
        write_localizations(table, Path(folder, f"blinks{suffix}"), **options)
        files = sorted(Path(folder).iterdir(), key=lambda path: path.suffix != suffix)
        return {path.name: path.read_bytes() for path in files}


def hdf5(fill: Callable[[h5py.File], None], name: str, **options: Any) -> Content:
    """Write an HDF5 file."""
    content = io.BytesIO()
    with h5py.File(content, "w", **options) as file:
        fill(file)
    return {name: content.getvalue()}


def picasso_samples() -> list[Content]:
    """Give a file with its YAML, one with texts of variable length, and one as pandas writes it."""
    rows = np.array([(0, 1.5, 2.5, 0.1, 0.1)] * 4, "u4,f4,f4,f4,f4")
    rows.dtype.names = ("frame", "x", "y", "lpx", "lpy")
    facts = json.dumps([{"Width": 10, "Height": 10, "Frames": 5, "Pixelsize": 130}])

    def with_metadata(file: h5py.File) -> None:
        file["locs"] = rows
        file["metadata"] = facts

    def as_pandas(file: h5py.File) -> None:
        file["locs/table"] = rows
        file["locs"].attrs["pandas_type"] = "frame_table"

    whole = written(".hdf5", pixel_size=100)
    return [whole, hdf5(with_metadata, "locs.hdf5"), hdf5(as_pandas, "locs.hdf5")]


def smappy_samples() -> list[Content]:
    """Give files of a group of columns, of either compression."""
    return [hdf5(partial(fill_smappy, compression), "locs.hdf5") for compression in ("lzf", "gzip")]


def fill_smappy(compression: str, file: h5py.File) -> None:
    """Fill a file as SMAPpy does."""
    for name in ("x_nm", "y_nm", "frame", "photons", "xy_err_nm"):
        file.create_dataset(
            f"locs/{name}", data=np.arange(5.0), chunks=(8,), maxshape=(None,),
            compression=compression,
        )  # fmt: skip
    metadata = json.dumps({"camera": {"pixelsize_um": 0.1}, "pixelsize_nm": 100.0})
    file.attrs.update(format="smappy-localizations", format_version=1, metadata=metadata)


def smap_samples() -> list[Content]:
    """Give files of MATLAB's three kinds."""
    localizations = {name: np.arange(1.0, 6) for name in ("xnm", "ynm", "frame", "phot", "bg")}
    about = {"cam_pixelsize_um": [0.1, 0.1], "numberOfFrames": 9.0}
    samples = []
    for is_compressed in (False, True):
        content = io.BytesIO()
        table = {"loc": localizations, "file": {"info": about, "name": "movie.tif"}}
        savemat(content, {"saveloc": table}, do_compression=is_compressed)
        samples.append({"blinks_sml.mat": content.getvalue()})

    def fill(file: h5py.File) -> None:
        for name, values in localizations.items():
            file[f"saveloc/loc/{name}"] = values[None]
        for name, value in about.items():
            file[f"saveloc/file/info/{name}"] = np.atleast_2d(value).T

    [(name, data)] = hdf5(fill, "blinks_sml.mat", userblock_size=512).items()
    head = b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H2s", 0x0200, b"IM")
    return [*samples, {name: head + data[len(head) :]}]


WITH_CHUNKS = {"smappy"}
MAKERS = {
    "parquet": lambda: [written(".parquet"), written(".parquet", 0)],
    "smlm": lambda: [written(".smlm"), written(".smlm", 0)],
    "picasso": picasso_samples,
    "decode": lambda: [written(".h5", format="decode", pixel_size=100), {"blinks.csv": DECODE_CSV}],
    "smappy": smappy_samples,
    "smap": smap_samples,
}
DECODE_CSV = (
    b"# DECODE EmitterSet\n# {\"version\": \"0.10.1\"}\n"
    b"# {\"xy_unit\": \"px\", \"px_size\": [100.0, 100.0]}\n"
    b"x,y,z,phot,frame_ix,id,prob,bg\n1.5,2.5,0.0,900.0,0,-1,0.9,10.0\n3,4,5,800,2,1,1,9\n"
)  # fmt: skip
_FIELDS = "".join(
    f'<field identifier="{name}" syntax="floating point with . for decimals" unit="{unit}" '
    'min="0 m" max="3.27e-005 m" />'
    for name, unit in (
        ("Position-0-0", "nanometer"),
        ("Position-1-0", "nanometer"),
        ("ImageNumber-0-0", "frame"),
        ("Amplitude-0-0", "A/D count"),
    )
)
_TABLE = '<localizations insequence="true" repetitions="variable">{}</localizations>'
TEXTS = {
    "rapidstorm": [
        f"# {_TABLE.format(_FIELDS)}\n9657.4 24533.5 0 33290.1\n16754.9 18770 1 212.4\n".encode(),
        f"# {_TABLE.format(_FIELDS + _TABLE.format(_FIELDS))}\n"
        "1 2 0 9 2 1 2 0 9 1 2 1 9\n5 6 0 9 1 5 6 0 9\n".encode(),
    ],
    "elyra": [
        "Index\tFirst Frame\tNumber Frames\tFrames Missing\tPosition X [nm]\tPosition Y [nm]\t"
        "Precision [nm]\tNumber Photons\tBackground variance\tChi square\tPSF half width [nm]\t"
        "Channel\tZ Slice\r\n1\t1\t1\t0\t15850.6\t23502.1\t31.0\t1206\t98\t1.2\t170.0\t1\t1\r\n"
        "2\t1\t1\t0\t14384.9\t10573.9\t35.1\t894\t88\t1.1\t165.0\t1\t1\r\n\x00\r\n"
        "VoxelSizeX : 0.0970873786 µm\r\nSizeX : 3200\r\n".encode("latin-1"),
    ],
    "nstorm": [
        b"Channel Name\tX\tY\tXc\tYc\tHeight\tArea\tWidth\tPhi\tAx\tBG\tI\tFrame\tLength\tLink\t"
        b"Valid\tZ\tZc\tPhotons\tLateral Localization Accuracy\tXw\tYw\tXwc\tYwc\r\n"
        b"647\t100.5\t200.5\t101.5\t201.5\t1683\t13224\t360\t1.25\t0.5\t7193\t14167\t172\t1\t6\t1\t"
        b"-300\t-290\t2380.5\t15.75\t102.5\t202.5\t103.5\t203.5\r\n",
    ],
    "nanoimager": [
        b"Channel,Frame,X (nm),Y (nm),Z (nm),Photons,Background\n"
        b"0,1,1500.5,2500.25,0,900.5,12\n1,2,1600,2600,10,800,13\n",
    ],
    "challenge": [
        b"Ground-truth,frame,xnano,ynano,znano,intensity \n7,1,640.5,250,-30,900\n8,2,641,251,0,8\n"
    ],
    "thunderstorm": [
        b'"id","frame","x [nm]","y [nm]","sigma [nm]","intensity [photon]","uncertainty [nm]"\n'
        b"1,1,100.5,200.25,130.5,900.5,7.5\n2,2,101.5,201.25,131.5,800.5,8.5\n",
        b"id\tframe\tx [px]\ty [um]\n1\t1\t100.5\t0.25\n2\t2\t101.5\t0.5\n",
    ],
    "csv": [
        b"# made by hand\nx [nm];y [nm];frame;who\n10.5;20;0;me\n11;21;1;you\n",
        b"x (um) y (um) z (um)\n1.5 2.5 0.1\n 3.5   4.5 0.2\n",
    ],
}  # fmt: skip


if __name__ == "__main__":
    main()
