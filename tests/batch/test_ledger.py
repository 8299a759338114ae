import errno
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import zlib

import pytest

from smlmkit.batch.ledger import Ledger, checksum, verify
from smlmkit.errors import ChangedRunError, OutputError, SmlmkitError

KEY = {"input": "a1b2", "estimator": {"class": "Renderer", "pixel_size": 10}, "tile": 512}
RECORDS = {
    "0.0": {"mass": 12.5, "files": {"scale0/c/0/0": [3, 4]}},
    "0.1": {"mass": 0.0, "files": {}},
    "µ\n": None,
    "1.0": [1, 2.5, "\u2028"],
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".field.work" / "ledger.jsonl"


def write_records(path, records=RECORDS):
    with Ledger.open(path, KEY) as ledger:
        for name, record in records.items():
            ledger.add(name, record)


def read_records(path):
    with Ledger.open(path, KEY) as ledger:
        return ledger.done


def run_python(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


class TestRecords:
    def test_are_there_when_the_run_goes_on(self, path):
        write_records(path)
        with Ledger.open(path, KEY) as ledger:
            assert ledger.done == RECORDS
            assert not ledger.is_new
            ledger.add("1.1", {"mass": 1.0})
            assert ledger.done["1.1"] == {"mass": 1.0}
        assert read_records(path) == RECORDS | {"1.1": {"mass": 1.0}}

    def test_are_none_at_the_start(self, path):
        with Ledger.open(path, KEY) as ledger:
            assert ledger.done == {}
            assert ledger.is_new

    def test_the_later_of_one_name_counts(self, path):
        write_records(path, {"0.0": 1})
        write_records(path, {"0.0": 2})
        assert read_records(path) == {"0.0": 2}

    def test_are_forgotten_by_redo(self, path):
        write_records(path)
        with Ledger.open(path, KEY, redo=True) as ledger:
            assert ledger.done == {}
            assert ledger.is_new
        assert read_records(path) == {}

    def test_every_line_is_json_and_says_what_it_is(self, path):
        write_records(path)
        first, *others = map(json.loads, path.read_bytes().splitlines())
        assert first["key"] == {"ledger_format": 1, **KEY}
        assert {line["name"]: line["record"] for line in others} == RECORDS

    def test_are_whole_without_closing(self, path):
        ledger = Ledger.open(path, KEY)
        ledger.add("0.0", 7)
        other = path.with_name("copy.jsonl")
        shutil.copy(path, other)
        assert read_records(other) == {"0.0": 7}
        ledger.close()


class TestDamage:
    def test_a_file_that_ends_anywhere_gives_the_whole_lines_before(self, path):
        write_records(path)
        whole = path.read_bytes()
        names = list(RECORDS)
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            n_lines = whole[:length].count(b"\n")
            with Ledger.open(path, KEY) as ledger:
                assert list(ledger.done) == names[: max(0, n_lines - 1)]
                assert ledger.is_new == (n_lines == 0)
                ledger.add("new", length)
            assert list(read_records(path)) == [*names[: max(0, n_lines - 1)], "new"]

    def test_nothing_is_believed_from_the_first_changed_byte_on(self, path):
        write_records(path)
        whole = path.read_bytes()
        for position in range(len(whole)):
            changed = bytearray(whole)
            changed[position] ^= 1 << position % 8
            path.write_bytes(changed)
            n_lines = whole[:position].count(b"\n")
            with Ledger.open(path, KEY) as ledger:
                assert list(ledger.done.items()) == list(RECORDS.items())[: max(0, n_lines - 1)]
                assert ledger.is_new == (n_lines == 0)

    @pytest.mark.parametrize("content", [b"\0" * 5000, b"\xff\xfe\n{}\n", b"[]\n", b"{}", b"\n"])
    def test_a_file_of_something_else_is_a_new_run(self, path, content):
        path.parent.mkdir()
        path.write_bytes(content)
        with Ledger.open(path, KEY) as ledger:
            assert ledger.is_new
        assert read_records(path) == {}

    def test_a_record_where_the_key_should_be_is_not_believed(self, path):
        write_records(path)
        path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
        with Ledger.open(path, KEY) as ledger:
            assert ledger.is_new
            assert ledger.done == {}

    def test_a_folder_in_its_place_is_an_error(self, path):
        path.mkdir(parents=True)
        with pytest.raises(OutputError, match=r"ledger\.jsonl: cannot read: Is a directory"):
            Ledger.open(path, KEY)

    def test_a_file_where_the_work_folder_should_be_is_an_error(self, path):
        path.parent.write_text("")
        with pytest.raises(OutputError, match="cannot make this folder"):
            Ledger.open(path, KEY)


class TestChangedRun:
    def changes(self, path, before, now):
        with Ledger.open(path, before):
            pass
        with pytest.raises(ChangedRunError) as caught:
            Ledger.open(path, now)
        with Ledger.open(path, before):
            pass  # the refusal has let go of the lock
        return str(caught.value)

    def test_is_refused_with_what_changed(self, path):
        message = self.changes(path, KEY, KEY | {"tile": 1024})
        assert message.startswith(f"{path.parent} holds a run that began otherwise")
        assert "(tile: 512 before, 1024 now): pass redo=True" in message

    def test_is_both_kinds_of_error(self):
        assert issubclass(ChangedRunError, SmlmkitError)
        assert issubclass(ChangedRunError, ValueError)

    def test_names_what_lies_deep_and_what_is_missing(self, path):
        before = {"steps": [{"class": "A", "n": 1}, {"class": "B"}], "gone": None, "many": [1, 2]}
        now = {"steps": [{"class": "A", "n": 2}, {"class": "C"}], "came": True, "many": [1]}
        message = self.changes(path, before, now)
        assert (
            'steps[0].n: 1 before, 2 now; steps[1].class: "B" before, "C" now; '
            "gone: null before, nothing now; many: [1, 2] before, [1] now; "
            "came: nothing before, true now)"
        ) in message

    def test_is_not_seen_in_nan(self, path):
        nan = float("nan")
        assert "(b: 1 before, 2 now)" in self.changes(path, {"a": nan, "b": 1}, {"a": nan, "b": 2})

    def test_is_told_in_a_few_words(self, path):
        before = {f"parameter{i}": "x" * 1000 for i in range(50)}
        now = {f"parameter{i}": "y" * 1000 for i in range(50)}
        message = self.changes(path, before, now)
        assert "; and 45 more)" in message
        assert len(message) < 1000 + len(str(path))

    def test_keeps_what_was_done(self, path):
        write_records(path)
        with pytest.raises(ChangedRunError):
            Ledger.open(path, {})
        assert read_records(path) == RECORDS

    def test_is_taken_with_redo(self, path):
        write_records(path)
        with Ledger.open(path, {"tile": 3}, redo=True) as ledger:
            assert ledger.is_new
        with Ledger.open(path, {"tile": 3}) as ledger:
            assert not ledger.is_new

    @pytest.mark.parametrize(
        ("before", "now"),
        [
            ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
            ({"a": (1, 2)}, {"a": [1, 2]}),
            ({"a": 10}, {"a": 10.0}),
            ({"a": float("nan")}, {"a": float("nan")}),
            ({"a": 0.1 + 0.2}, {"a": 0.30000000000000004}),
        ],
    )
    def test_is_not_what_only_looks_different(self, path, before, now):
        with Ledger.open(path, before):
            pass
        with Ledger.open(path, now) as ledger:
            assert not ledger.is_new


class TestLock:
    def test_keeps_a_second_one_out(self, path):
        with (
            Ledger.open(path, KEY),
            pytest.raises(OutputError, match=r"\.field\.work: another process is at work here"),
        ):
            Ledger.open(path, KEY, redo=True)
        assert read_records(path) == {}

    def test_keeps_another_process_out_and_falls_with_it(self, path):
        code = """
import sys
from pathlib import Path
from smlmkit.batch.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]), {"run": 1})
ledger.add("a", 1)
print("ready", flush=True)
sys.stdin.read()
"""
        with run_python(code, path, stdin=subprocess.PIPE) as process:
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(OutputError, match="another process"):
                Ledger.open(path, {"run": 1})
            process.kill()
        with Ledger.open(path, {"run": 1}) as ledger:
            assert ledger.done == {"a": 1}

    def test_is_let_go_by_closing_twice_and_with_the_folder_gone(self, path):
        ledger = Ledger.open(path, KEY)
        shutil.rmtree(path.parent)
        ledger.close()
        ledger.close()
        with Ledger.open(path, KEY) as ledger:
            assert ledger.is_new


class TestDiskFull:
    def test_leaves_whole_lines_and_a_ledger_that_can_go_on(self, path):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        with Ledger.open(path, KEY) as ledger:
            ledger.add("0.0", "before")
            size = path.stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
            try:
                with pytest.raises(OutputError, match=r"ledger\.jsonl: cannot write") as caught:
                    ledger.add("0.1", "too much")
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert caught.value.errno == errno.EFBIG
            assert path.stat().st_size == size
            assert "0.1" not in ledger.done
            ledger.add("1.0", "after")
        assert read_records(path) == {"0.0": "before", "1.0": "after"}


class TestSync:
    def test_is_now_and_then_and_at_both_ends(self, path, monkeypatch):
        now, synced_at = 0.0, []
        monkeypatch.setattr("time.monotonic", lambda: now)
        monkeypatch.setattr("os.fsync", lambda descriptor: synced_at.append(now))
        with Ledger.open(path, KEY) as ledger:
            for now in (1.0, 4.0, 5.0, 6.0, 9.5, 10.0, 12.0):
                ledger.add("job", now)
        assert synced_at == [0.0, 5.0, 10.0, 12.0]


class TestKilledProcess:
    code = """
import sys
from itertools import count
from pathlib import Path
from smlmkit.batch.ledger import Ledger
with Ledger.open(Path(sys.argv[1]), {"run": 1}) as ledger:
    for number in count(len(ledger.done)):
        ledger.add(str(number), {"square": number**2, "padding": "x" * (number * 7919 % 3000)})
        print(number, flush=True)
"""

    def test_loses_nothing_that_was_written_down(self, path):
        source, last = random.Random(0), -1
        for _ in range(4):
            with run_python(self.code, path) as process:
                for _ in range(source.randrange(1, 300)):
                    last = int(process.stdout.readline())
                process.kill()
            with Ledger.open(path, {"run": 1}) as ledger:
                n_done = len(ledger.done)
                assert n_done > last
                assert all(
                    ledger.done[str(number)]["square"] == number**2 for number in range(n_done)
                )


class TestChecksum:
    @pytest.fixture
    def files(self, tmp_path):
        contents = {"a": b"123456789", "deep/b": os.urandom(2**20 + 5), "empty": b""}
        for name, content in contents.items():
            file = tmp_path / "store" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return [tmp_path / "store" / name for name in (*contents, "deep/missing")]

    def test_says_size_and_crc(self, tmp_path, files):
        record = checksum(tmp_path / "store", files)
        assert record == {
            "a": (9, 0xCBF43926),  # the check value of CRC-32
            "deep/b": (2**20 + 5, zlib.crc32(files[1].read_bytes())),
            "empty": (0, 0),
            "deep/missing": None,
        }

    def test_is_verified_also_after_a_ledger_has_kept_it(self, tmp_path, path, files):
        record = checksum(tmp_path / "store", files)
        assert verify(tmp_path / "store", record)
        write_records(path, {"0.0": record})
        assert verify(tmp_path / "store", read_records(path)["0.0"])

    def test_of_files_elsewhere_holds_too(self, tmp_path, files):
        record = checksum(tmp_path / "store", files)
        (tmp_path / "store").rename(tmp_path / "moved")
        assert verify(tmp_path / "moved", record)
        assert not verify(tmp_path / "store", record)

    def test_tells_every_change(self, tmp_path, files):
        record = checksum(tmp_path / "store", files)
        for change in (
            lambda: files[0].write_bytes(b"123456780"),
            lambda: files[0].write_bytes(b"1234567890"),
            files[0].unlink,
            files[0].mkdir,
        ):
            change()
            assert not verify(tmp_path / "store", record)
        files[0].rmdir()
        files[0].write_bytes(b"123456789")
        assert verify(tmp_path / "store", record)
        files[3].write_bytes(b"")
        assert not verify(tmp_path / "store", record)


class TestNotKept:
    def test_is_known_when_the_run_goes_on_and_not_before(self, path):
        with Ledger.open(path, KEY) as ledger:
            ledger.add("0.0", {"mass": 7.0}, keep=False)
            assert ledger.done == {}
        with Ledger.open(path, KEY) as ledger:
            assert ledger.done == {"0.0": {"mass": 7.0}}
