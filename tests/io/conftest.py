"""What the tests of the formats share."""

import pytest

from smlmkit.io.tables import read_localizations


@pytest.fixture
def read_text(request, tmp_path):
    """Give a function that reads a text in the `FORMAT` of the test's module."""

    def read(text, *, format_name=None, **options):
        path = tmp_path / "blinks.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogateescape"))
        return read_localizations(path, format=format_name or request.module.FORMAT, **options)

    return read


@pytest.fixture
def is_recognized():
    """Give a function that shows a file to a format as it is when a folder is scanned."""

    def show(module, path):
        with path.open("rb") as file:
            return module.recognizes(file, file.read(65536))

    return show


@pytest.fixture
def as_lists():
    """Give a function that gives the columns of a table as lists."""
    return lambda table: {name: table[name].tolist() for name in table}
