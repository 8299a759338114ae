import h5py
import numpy as np
import pytest

from smlmkit.errors import FileFormatError
from smlmkit.io._hdf5_text import read_attribute_text, read_dataset_text

TEXT = "größe " * 900


def _write(path, **options):
    with h5py.File(path, "w", **options) as file:
        file["long"], file["fixed"], file["empty"] = TEXT, np.bytes_(b"fixed"), ""
        group = file.create_group("group")
        for i in range(7):
            group.attrs[f"before_{i}"] = np.arange(20)
        group.attrs["unit"] = "px"
        for i in range(9):
            group[f"member_{i}"] = i
        file.attrs["metadata"] = TEXT


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
@pytest.mark.parametrize("options", [{}, {"track_order": True}, {"userblock_size": 512}])
def test_texts_are_those_that_hdf5_gives(tmp_path, libver, options):
    path = tmp_path / "texts.h5"
    _write(path, libver=libver, **options)
    with h5py.File(path) as file:
        for name in ("long", "fixed", "empty"):
            assert read_dataset_text(path, file[name]) == file[name].asstr()[()]
        assert read_attribute_text(path, file, "metadata") == file.attrs["metadata"] == TEXT
        assert read_attribute_text(path, file["group"], "unit") == "px"
        assert read_attribute_text(path, file["group"], "none") is None


def test_what_is_no_single_text_is_named(tmp_path):
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as file:
        file["numbers"], file["many"] = [1.0], ["a", "b"]
        file.attrs["number"] = 1.0
        for i in range(30):  # so many attributes are kept elsewhere
            file["numbers"].attrs[f"text_{i}"] = "t" * 3000
    with h5py.File(path) as file:
        for name in ("numbers", "many"):
            with pytest.raises(FileFormatError, match=f"the dataset /{name} is not one text"):
                read_dataset_text(path, file[name])
        with pytest.raises(FileFormatError, match="the attribute number of / is not one text"):
            read_attribute_text(path, file, "number")


def test_attributes_in_a_heap_of_their_own_are_refused(tmp_path):
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for i in range(30):
            file.attrs[f"text_{i}"] = "t"
    with (
        h5py.File(path) as file,
        pytest.raises(FileFormatError, match=r"text_3 of / is kept where smlmkit does not read"),
    ):
        read_attribute_text(path, file, "text_3")


def _heap(content):
    return content.index(b"GCOL")


def _damage(content, place, value):
    content[place : place + len(value)] = value


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c, p: _damage(c, p, b"\xff\xff\xff\xff"), "it claims 4,294,967,295 bytes"),
        (lambda c, p: _damage(c, p, b"\x07\0\0\0"), "it claims 7 bytes, and 7,200 are kept"),
        (lambda c, p: _damage(c, p + 4, b"\xff" * 8), "16 bytes at .* are not in the file"),
        (lambda c, p: _damage(c, p + 4, b"\0" * 8), "there is no heap at 0"),
        (lambda c, p: _damage(c, p + 12, b"\x99"), "holds no object 153"),
        (lambda c, p: _damage(c, _heap(c) + 4, b"\2"), "there is no heap at"),
        (lambda c, p: _damage(c, _heap(c) + 24, b"\xff" * 8), "bytes, and .* are kept"),
        (lambda c, p: _damage(c, _heap(c) + 32, b"\xff"), "not text in UTF-8"),
    ],
)
def test_a_damaged_text_is_refused_where_hdf5_would_hang_or_crash(tmp_path, damage, message):
    path = tmp_path / "text.h5"
    with h5py.File(path, "w") as file:
        file["text"] = TEXT
        pointer = file["text"].id.get_offset()
    content = bytearray(path.read_bytes())
    damage(content, pointer)
    path.write_bytes(content)
    with (
        h5py.File(path) as file,
        pytest.raises(FileFormatError, match=message),
    ):
        read_dataset_text(path, file["text"])


def test_a_header_without_end_is_refused(tmp_path):
    """Each block of a header can name the next one, and the last one the first."""
    path = tmp_path / "text.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        for i in range(7):
            file.attrs[f"number_{i}"] = np.arange(20)
        file.attrs["text"] = "t"
        header = h5py.h5o.get_info(file.id).addr
        file.flush()
        with h5py.File(path) as again:
            assert read_attribute_text(path, again, "text") == "t"
        content = bytearray(path.read_bytes())
        place = content.index(b"\x10\0\x10\0", header) + 8
        _damage(content, place, (header + 16).to_bytes(8, "little"))
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="header that it stands in has no end"):
            read_attribute_text(path, file, "text")
