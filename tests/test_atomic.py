from pathlib import Path

import pytest

from smlmkit import _atomic
from smlmkit._atomic import all_or_nothing, whole_or_nothing
from smlmkit.errors import OutputError


def content(folder):
    """Give every file below a folder with its text."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_file_appears_only_when_it_is_finished(tmp_path):
    target = tmp_path / "out.txt"
    with whole_or_nothing(target) as partial:
        partial.write_text("new")
        assert not target.exists()
        assert partial.name.startswith(".out.txt.")
        assert partial.name.endswith(".partial")
    assert content(tmp_path) == {"out.txt": "new"}


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "store"
    target.mkdir()
    (target / "old").write_text("old")
    with whole_or_nothing(target, overwrite=True) as partial:
        partial.mkdir()
        (partial / "new").write_text("new")
        assert content(target) == {"old": "old"}
    assert content(tmp_path) == {"store/new": "new"}


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt])
def test_what_stood_there_stays_when_writing_fails(tmp_path, error):
    target = tmp_path / "out.txt"
    target.write_text("old")
    expected = OutputError if error is OSError else error

    def write_half():
        with whole_or_nothing(target, overwrite=True) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(expected):
        write_half()
    assert content(tmp_path) == {"out.txt": "old"}


def test_nothing_is_replaced_unless_asked(tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(OutputError, match="exists already; pass overwrite=True"):
        whole_or_nothing(target).__enter__()
    assert content(tmp_path) == {"out.txt": "old"}


def test_an_output_that_appears_while_writing_is_not_replaced(tmp_path):
    target = tmp_path / "out.txt"

    def write_while_others_do():
        with whole_or_nothing(target) as partial:
            partial.write_text("mine")
            target.write_text("theirs")

    with pytest.raises(OutputError, match="exists already"):
        write_while_others_do()
    assert content(tmp_path) == {"out.txt": "theirs"}


def test_a_dangling_link_counts_as_an_output(tmp_path):
    target = tmp_path / "out.txt"
    target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="exists already"):
        whole_or_nothing(target).__enter__()


def test_a_file_never_replaces_a_folder(tmp_path):
    target = tmp_path / "acquisitions"
    target.mkdir()
    (target / "precious").write_text("data")
    with (
        pytest.raises(OutputError, match="is a folder"),
        whole_or_nothing(target, overwrite=True) as partial,
    ):
        partial.write_text("table")
    assert content(tmp_path) == {"acquisitions/precious": "data"}


def test_a_folder_behind_a_link_is_not_emptied(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("data")
    target = tmp_path / "store"
    target.symlink_to(elsewhere)
    with whole_or_nothing(target, overwrite=True) as partial:
        partial.mkdir()
        (partial / "new").write_text("new")
    assert content(elsewhere) == {"precious": "data"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "store"]
    assert content(target) == {"new": "new"}


@pytest.mark.parametrize("path", ["", "missing/out.txt"])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=r"not the name of an output|does not exist"):
        whole_or_nothing(path, overwrite=True).__enter__()


def test_writing_nothing_is_an_error_and_keeps_the_old_output(tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("old")
    with (
        pytest.raises(OutputError, match="nothing was written"),
        whole_or_nothing(target, overwrite=True),
    ):
        pass
    assert content(tmp_path) == {"out.txt": "old"}


def test_an_output_error_is_an_os_error_with_its_number(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, whole_or_nothing(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert caught.value.errno == 28
    assert isinstance(caught.value, OutputError)


def write_pair(folder, text, **options):
    with all_or_nothing([folder / "main", folder / "beside"], **options) as partials:
        for partial in partials:
            partial.write_text(text)


def test_outputs_that_belong_together_are_replaced_together(tmp_path):
    write_pair(tmp_path, "old")
    write_pair(tmp_path, "new", overwrite=True)
    assert content(tmp_path) == {"main": "new", "beside": "new"}


def test_one_output_that_may_not_be_replaced_stops_all(tmp_path):
    (tmp_path / "beside").write_text("old")
    with pytest.raises(OutputError, match="beside exists already"):
        write_pair(tmp_path, "new")
    assert content(tmp_path) == {"beside": "old"}


class Interrupted(BaseException):
    """What a test throws in the middle of a move."""


@pytest.mark.parametrize("before", [{}, {"main": "old"}, {"main": "old", "beside": "old"}])
@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_interrupted_exchange_is_undone_or_complete(tmp_path, monkeypatch, before, step, moment):
    """Stop at every single move, just before and just after it."""
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    moves = 0

    def interrupting(move):
        def wrapped(self, target):
            nonlocal moves
            moves += 1
            if moves == step + 1 and moment == "before":
                raise Interrupted
            move(self, target)
            if moves == step + 1 and moment == "after":
                raise Interrupted

        return wrapped

    monkeypatch.setattr(Path, "rename", interrupting(Path.rename))
    monkeypatch.setattr(Path, "replace", interrupting(Path.replace))
    n_moves = len(before) + 2
    new = {"main": "new", "beside": "new"}
    if step >= n_moves:
        write_pair(tmp_path, "new", overwrite=True)
    else:
        with pytest.raises(Interrupted):
            write_pair(tmp_path, "new", overwrite=True)
    is_complete = step >= n_moves or (step == n_moves - 1 and moment == "after")
    shown = {name: text for name, text in content(tmp_path).items() if name[0] != "."}
    assert shown == (new if is_complete else before)


def test_old_and_new_never_stand_side_by_side(tmp_path, monkeypatch):
    """What a power cut would leave at each step: old pair, one file, or new pair."""
    write_pair(tmp_path, "old")
    seen = []

    def watch(move):
        def wrapped(self, target):
            move(self, target)
            seen.append({name: text for name, text in content(tmp_path).items() if name[0] != "."})

        return wrapped

    monkeypatch.setattr(Path, "rename", watch(Path.rename))
    monkeypatch.setattr(Path, "replace", watch(Path.replace))
    write_pair(tmp_path, "new", overwrite=True)
    assert len(seen) == 4
    assert all(len(set(state.values())) <= 1 for state in seen)
    assert {"main": "new"} in seen  # the first path is the one of use alone


def test_a_folder_that_cannot_be_flushed_does_no_harm(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(_atomic.os, "open", refuse)
    with whole_or_nothing(tmp_path / "out.txt") as partial:
        partial.write_text("new")
    assert content(tmp_path) == {"out.txt": "new"}
