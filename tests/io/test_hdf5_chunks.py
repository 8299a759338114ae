import zlib

import h5py
import numpy as np
import pytest

from smlmkit.errors import FileFormatError
from smlmkit.io import _common, _hdf5_chunks
from smlmkit.io._hdf5 import opened_hdf5, own_columns, own_numbers

N_ROWS = 1000
OPTIONS = [
    {},
    {"compression": "gzip"},
    {"compression": "lzf"},
    {"shuffle": True, "compression": "gzip", "compression_opts": 9},
    {"shuffle": True, "compression": "lzf", "fletcher32": True},
    {"fletcher32": True},
]


def columns():
    random = np.random.default_rng(0)
    return {
        "random": random.bytes(8 * N_ROWS),
        "counted": np.arange(N_ROWS) * 1.0,
        "constant": np.zeros(N_ROWS),
        "repeated": np.tile(random.random(100), N_ROWS // 100),
        "whole": np.sort(random.integers(0, 99, N_ROWS)),
        "records": np.zeros((N_ROWS, 3), "f4,i2"),
        "none": np.zeros(0),
    }


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("options", OPTIONS)
def test_what_hdf5_wrote_is_what_it_stands_for(tmp_path, options, libver):
    path = tmp_path / "a.h5"
    written = columns() | {"random": np.frombuffer(columns()["random"])}
    with h5py.File(path, "w", libver=libver) as file:
        for name, values in written.items():
            chunks = (300, *values.shape[1:])
            file.create_dataset(
                name, data=values, chunks=chunks, maxshape=(None, *values.shape[1:]), **options
            )
    with opened_hdf5(path) as file:
        for name, values in written.items():
            np.testing.assert_array_equal(own_numbers(path, file, name)[()], values)


def damaged_file(path, chunk, **options):
    """Write a chunk that stands for 8,000 bytes."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("a", (N_ROWS,), "f8", chunks=(N_ROWS,), **options)
        dataset.id.write_direct_chunk((0,), chunk)


def read(path):
    with opened_hdf5(path) as file:
        return own_numbers(path, file, "a")[()]


@pytest.mark.parametrize(
    ("chunk", "options"),
    [
        (bytes(80), {}),
        (bytes(84), {"fletcher32": True}),
        (zlib.compress(bytes(80)), {"compression": "gzip"}),
        (zlib.compress(bytes(80)), {"compression": "gzip", "shuffle": True}),
        (zlib.compress(bytes(8008)), {"compression": "gzip"}),
        (b"no stream of zlib", {"compression": "gzip"}),
        (b"\x07abcdefgh", {"compression": "lzf"}),
        (b"\x07abcdefgh" + b"\xe0\x40\x00" * 200, {"compression": "lzf"}),
        (b"\x07abcdefgh\xe0", {"compression": "lzf"}),
    ],
)
def test_a_chunk_of_another_size_is_refused_before_hdf5_reads_past_its_end(
    tmp_path, chunk, options
):
    path = tmp_path / "a.h5"
    damaged_file(path, chunk, **options)
    message = f"/a is damaged from row 0 on: {len(chunk):,} bytes do not become the 8,000"
    with pytest.raises(FileFormatError, match=message):
        read(path)


def test_a_chunk_that_skipped_its_filters_is_read(tmp_path):
    path = tmp_path / "a.h5"
    values = np.arange(N_ROWS) * 1.0
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "a", (N_ROWS,), "f8", chunks=(N_ROWS,), compression="gzip", shuffle=True
        )
        dataset.id.write_direct_chunk((0,), values.tobytes(), filter_mask=0b11)
    np.testing.assert_array_equal(read(path), values)


def test_a_bomb_takes_no_memory(tmp_path, monkeypatch):
    """HDF5 would make 64 MiB of it for the 8,000 bytes of the dataset."""
    path = tmp_path / "a.h5"
    damaged_file(path, zlib.compress(bytes(2**26), 9), compression="gzip")
    monkeypatch.setattr(_hdf5_chunks, "_PIECE_BYTES", 5000)
    inflater, most = zlib.decompressobj(), []

    class Counting:
        eof, unconsumed_tail = False, b""

        def decompress(self, content, length):
            most.append(len(piece := inflater.decompress(content, length)))
            self.unconsumed_tail = inflater.unconsumed_tail
            return piece

    monkeypatch.setattr(_hdf5_chunks.zlib, "decompressobj", Counting)
    with pytest.raises(FileFormatError, match="do not become the 8,000 of a chunk"):
        read(path)
    assert most == [5000, 5000]


def test_what_is_not_stored_is_not_made_up(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("a", (N_ROWS,), "f8", chunks=(100,))
        dataset[:250] = 1
    with pytest.raises(FileFormatError, match=r"/a claims 8,000 bytes in 10 chunks, .* holds 3"):
        read(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scaleoffset": 2},
            r"with 'scaleoffset' \(HDF5 filter 6\), which is not read: h5repack",
        ),
        ({"compression": "szip"}, r"with 'szip' \(HDF5 filter 4\), which is not read"),
    ],
)
def test_compressions_that_may_claim_anything_are_refused(tmp_path, options, message):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        try:
            file.create_dataset("a", data=np.arange(9.0), chunks=(9,), **options)
        except ValueError:
            pytest.skip("this build of HDF5 cannot write it")
    with pytest.raises(FileFormatError, match=message):
        read(path)


def test_what_is_compressed_twice_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((N_ROWS,))
    settings.set_deflate(9)
    settings.set_deflate(9)
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((N_ROWS,))
        h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F64LE, space, settings)
        file["a"][:] = 0
    with pytest.raises(FileFormatError, match="/a is compressed more than once"):
        read(path)


def test_columns_that_compress_well_are_read_and_claims_are_not_believed(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("c/a", data=np.zeros(2**20), chunks=(2**18,), compression=9)
    assert path.stat().st_size < 2**14  # 8 MiB: less than a five-hundredth
    with opened_hdf5(path) as file:
        assert own_columns(path, file, "c")["a"].shape == (2**20,)
        monkeypatch.setattr(_common, "_SMALL_BYTES", 2**22)
        with pytest.raises(FileFormatError, match=r"/c/a claims 8,388,608 .* more than 4,194,304"):
            own_numbers(path, file, "c/a")


def test_a_chunk_far_larger_than_its_dataset_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (9,), "f8", chunks=(2**26,), maxshape=(None,), compression=9)
    with pytest.raises(FileFormatError, match=r"/a claims 536,870,912 bytes of memory"):
        read(path)


def test_one_dataset_under_many_names_is_counted_as_often(tmp_path, monkeypatch):
    monkeypatch.setattr(_common, "_SMALL_BYTES", 2**20)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        values = np.zeros(2**15)
        file["c/a"] = file.create_dataset("v", data=values, chunks=values.shape, compression=9)
        for number in range(9):
            file[f"c/{number}"] = file["v"]
    assert path.stat().st_size * 100 < 2**20
    with (
        opened_hdf5(path) as file,
        pytest.raises(FileFormatError, match=r"claims 262,144 .* all before it 1,310,720"),
    ):
        own_columns(path, file, "c")
