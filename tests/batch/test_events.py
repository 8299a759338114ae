import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from tqdm.auto import tqdm

from smlmkit.batch.events import EventLog, Progress
from smlmkit.errors import OutputError

COLUMNS = 80


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.jsonl"


def read_events(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestEventLog:
    def test_holds_an_event_a_line_with_the_time_in_utc(self, path):
        before = datetime.now(UTC) - timedelta(milliseconds=1)
        with EventLog(path) as log:
            log.write("start", n_fields=3)
            log.write("field done", field="µ\n", file=Path("a/b"), seconds=1.5)
        first, second = read_events(path)
        times = [datetime.fromisoformat(event.pop("time")) for event in (first, second)]
        assert first == {"event": "start", "n_fields": 3}
        assert second == {"event": "field done", "field": "µ\n", "file": "a/b", "seconds": 1.5}
        assert before <= times[0] <= times[1] <= datetime.now(UTC)
        assert times[0].utcoffset() == timedelta(0)

    def test_grows_from_run_to_run(self, path):
        for number in range(3):
            with EventLog(path) as log:
                log.write("run", number=number)
        assert [event["number"] for event in read_events(path)] == [0, 1, 2]

    @pytest.mark.parametrize("torn", [b'{"time": "2026', b"x", b"\0" * 100_000])
    @pytest.mark.parametrize("whole", [b"", b'{"event": "before"}\n'])
    def test_drops_a_last_line_without_an_end(self, path, whole, torn):
        path.write_bytes(whole + torn)
        with EventLog(path) as log:
            log.write("after")
        assert [event["event"] for event in read_events(path)] == ["before"] * bool(whole) + [
            "after"
        ]

    def test_takes_events_of_many_threads(self, path):
        n_threads, n_events = 8, 50
        with EventLog(path) as log:

            def write_all(thread):
                for number in range(n_events):
                    log.write("event", thread=thread, number=number, padding="x" * 5000)

            run_together(write_all, range(n_threads))
        events = read_events(path)
        for thread in range(n_threads):
            numbers = [event["number"] for event in events if event["thread"] == thread]
            assert numbers == list(range(n_events))

    def test_that_cannot_be_opened_is_an_error(self, path, tmp_path):
        with pytest.raises(OutputError, match=r"nowhere.*cannot write: No such file or directory"):
            EventLog(tmp_path / "nowhere" / "log.jsonl")
        path.mkdir()
        with pytest.raises(OutputError, match="cannot read: Is a directory"):
            EventLog(path)


class TestBars:
    """Bars on a standard error that is taken for a terminal."""

    @pytest.fixture
    def progress(self, monkeypatch):
        monkeypatch.setattr("tqdm.auto.tqdm", partial(tqdm, mininterval=0))  # draws every step
        return Progress(enabled=True)

    def test_show_count_total_and_unit(self, progress, capsys):
        with progress.stage("fov1: tiles", 8, "tile") as advance:
            advance(2)
            advance(3)
        assert "fov1: tiles:  62%" in capsys.readouterr().err
        assert shown(capsys) == []

    def test_take_what_was_done_before_for_no_speed(self, progress, capsys):
        with progress.stage("tiles", 10**12 + 5, "tile", done=10**12) as advance:
            advance(1)
        rates = re.findall(r"\| (\d+)/.*?, +([^ ]*) tile/s\]", capsys.readouterr().err)
        assert rates[0] == (f"{10**12}", "?")
        assert rates[-1][0] == f"{10**12 + 1}"
        assert float(rates[-1][1]) < 10**9

    def test_of_fields_at_once_are_one(self, progress, capsys):
        with progress.stage("fov1", 10, "tile") as first:
            first(4)
            with progress.stage("fov2", 20, "tile", done=5) as second:
                second(7)
                assert shown(capsys)[-1] == ("fov2 +1", 16, 30)
            # The last 8 of fov2 will not be done.
            assert shown(capsys)[-1] == ("fov1", 16, 22)
            first(6)
            assert shown(capsys)[-1] == ("fov1", 22, 22)

    def test_of_other_things_are_others(self, progress, capsys):
        with progress.stage("folder", 3, "acquisition") as whole:
            with progress.stage("fov1", 10, "tile") as tiles:
                tiles(5)
                assert shown(capsys)[-1] == ("fov1", 5, 10)
            whole(1)
            assert shown(capsys)[-1] == ("folder", 1, 3)
            with progress.stage("fov2", 20, "tile") as tiles:
                tiles(1)
                assert shown(capsys)[-1] == ("fov2", 1, 20)

    def test_count_what_threads_do(self, progress, capsys):
        def work(number):
            with progress.stage(f"fov{number}", 100, "tile") as advance:
                for _ in range(100):
                    advance(1)

        with progress.stage("all", 100, "tile") as advance:
            run_together(work, range(6))
            advance(100)
            assert shown(capsys)[-1] == ("all", 700, 700)

    def test_are_gone_after_an_error_and_come_again(self, progress, capsys):
        with pytest.raises(ZeroDivisionError), progress.stage("first", 5, "tile") as advance:
            advance(1 // 0)
        assert capsys.readouterr().err.endswith(" \r")
        with progress.stage("second", 5, "tile") as advance:
            advance(1)
            assert shown(capsys)[-1] == ("second", 1, 5)

    def test_stay_away_after_closing(self, progress, capsys):
        with progress, progress.stage("first", 5, "tile") as first:
            first(1)
            progress.close()
            assert capsys.readouterr().err.endswith(" \r")
            first(1)
            with progress.stage("second", 5, "tile") as second:
                second(1)
            with progress.stage("third", 5, "acquisition") as third:
                third(1)
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("enabled", [None, False])
    def test_are_not_shown_where_there_is_no_terminal(self, enabled, capsys):
        with Progress(enabled).stage("tiles", 5, "tile", done=2) as advance:
            advance(3)
        assert capsys.readouterr() == ("", "")


class TestTerminal:
    def test_shows_bars_below_one_another_and_is_clean_afterwards(self):
        output = run_in_terminal("""
            with Progress() as progress, progress.stage("folder", 2, "acquisition") as whole:
                for name in ("fov1", "fov2"):
                    with progress.stage(name, 3, "tile") as advance:
                        advance(3)
                    whole(1)
            print("the end")
        """)
        assert "folder:  50%" in output
        assert "fov2: 100%" in output
        assert screen_after(output.split("fov2: 100%")[0])[0].startswith("folder: ")
        assert screen_after(output) == ["the end"]

    def test_is_clean_after_ctrl_c(self):
        output = run_in_terminal(
            """
            import signal
            progress = Progress()
            try:
                with progress.stage("folder", 2, "acquisition"):
                    with progress.stage("fov1", 3, "tile") as advance:
                        advance(1)
                        print(end="\\a", flush=True)
                        while True:
                            signal.pause()
            except KeyboardInterrupt:
                print("stopped")
            """,
            interrupt_at="\a",
        )
        assert "fov1: " in output
        assert screen_after(re.sub(r"\a|\^C", "", output)) == ["stopped"]

    def test_is_left_alone_if_bars_are_not_wanted(self):
        output = run_in_terminal("""
            with Progress(enabled=False).stage("tiles", 3, "tile") as advance:
                advance(3)
            print("the end")
        """)
        assert output == "the end\r\n"


def run_together(work, arguments):
    threads = [threading.Thread(target=work, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def shown(capsys):
    """List label, count and total of each bar that was drawn since the last time."""
    drawn = re.findall(r"([^\r\n\x1b]*?): +\d+%\|.*?\| (\d+)/(\d+) ", capsys.readouterr().err)
    return [(label, int(count), int(total)) for label, count, total in drawn]


def run_in_terminal(code, interrupt_at=None):
    """Run Python code in a terminal of its own, with Ctrl-C pressed at some output."""
    lines = ["from smlmkit.batch.events import Progress", *code.strip("\n").split("\n")]
    indent = len(lines[1]) - len(lines[1].lstrip())
    source = "\n".join([lines[0], *(line[indent:] for line in lines[1:])])
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", source],
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
        env=os.environ | {"TQDM_MININTERVAL": "0", "TERM": "xterm"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    output = b""
    while chunk := read_chunk(ours):
        output += chunk
        if interrupt_at and interrupt_at.encode() in output:
            os.write(ours, b"\x03")
            interrupt_at = None
    os.close(ours)
    assert process.wait() == 0
    return output.decode()


def read_chunk(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # on Linux the end of a terminal is an error
        return b""


def screen_after(output):
    """Give the lines that a terminal shows in the end."""
    lines, row, column = [[]], 0, 0
    for token in re.findall(r"\x1b\[A|.", output, re.DOTALL):
        if token == "\x1b[A":
            row -= 1
        elif token == "\r":
            column = 0
        elif token == "\n":
            row += 1
            lines += [[] for _ in range(row + 1 - len(lines))]
        else:
            line = lines[row]
            line += " " * (column + 1 - len(line))
            line[column] = token
            column += 1
    texts = ["".join(line).rstrip() for line in lines]
    return [text for text in texts if text]
