"""What a run loses when processes die, disks are full and folders are closed: nothing."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from smlmkit import Renderer, read_image, reconstruct_field, write_localizations
from smlmkit.batch.cluster import describe_worker, local_workers
from smlmkit.batch.events import Progress
from smlmkit.errors import OutputError

N_MOMENTS = 11


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that fork")
@pytest.mark.parametrize("estimator", ["windows", "network"])
def test_a_run_that_is_killed_at_any_moment_goes_on(
    estimator, blinks, network, tmp_path, differing_files
):
    write_localizations(blinks, tmp_path / "blinks.parquet")
    network.save(tmp_path / "model.smlmkit")
    store = tmp_path / "field.ome.zarr"
    shares = random.Random(estimator).choices(range(10_000), k=N_MOMENTS)
    done = subprocess.run(
        [
            *(sys.executable, Path(__file__).with_name("killing.py")),
            *(tmp_path / "blinks.parquet", store),
            tmp_path / "model.smlmkit" if estimator == "network" else "-",
            *(str(share / 10_000) for share in shares),
        ],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    _, *lines = done.stdout.splitlines()
    assert len(lines) == N_MOMENTS
    n_killed = 0
    for line in lines:
        moment, status, is_whole, end = line.split()
        n_killed += int(status) == -signal.SIGKILL
        assert int(end) == 0
        resumed = tmp_path / f"field.ome.zarr{moment}"
        assert differing_files(resumed, store) == []
        if int(status) == 0:  # it was done before that moment came
            assert is_whole == "True"
    assert n_killed >= N_MOMENTS - 2  # threads do not do things in quite the same order
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".work")] == []


class KillWorker(Progress):
    """Kill a worker process when the first tile is done."""

    def __init__(self, client):
        super().__init__(enabled=False)
        self.victims = [facts["pid"] for facts in client.run(describe_worker).values()][:1]

    @contextmanager
    def stage(self, *args, **kwargs):
        with super().stage(*args, **kwargs) as advance:

            def kill(n):
                while self.victims:
                    os.kill(self.victims.pop(), signal.SIGKILL)
                advance(n)

            yield kill


@pytest.fixture(scope="module")
def client():
    with local_workers(2) as client:
        yield client


def test_a_worker_that_is_killed_is_replaced(client, blinks, network, tmp_path, differing_files):
    expected = reconstruct_field(network, blinks, tmp_path / "here.ome.zarr", tile=256)
    progress = KillWorker(client)
    made = reconstruct_field(
        network, blinks, tmp_path / "there.ome.zarr", tile=256, client=client, progress=progress
    )
    assert progress.victims == []
    assert differing_files(made.path, expected.path) == []


@pytest.fixture
def small_disk(tmp_path):
    """Give a file system of 1 MB, and a function that makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield (
        folder,
        lambda size: subprocess.run(
            ["mount", "-o", f"remount,size={size}", str(folder)], check=True
        ),
    )
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_run_which_goes_on_with_more_space(
    small_disk, blinks, network, tmp_path, differing_files
):
    folder, grow = small_disk
    with pytest.raises(OutputError, match=r"disk full.*free space and run again"):
        reconstruct_field(network, blinks, folder / "field.ome.zarr", tile=256)
    assert not (folder / "field.ome.zarr").exists()
    grow("100M")
    made = reconstruct_field(network, blinks, folder / "field.ome.zarr", tile=256)
    expected = reconstruct_field(network, blinks, tmp_path / "expected.ome.zarr", tile=256)
    assert 0 < made.n_done < expected.n_done
    assert differing_files(made.path, expected.path) == []


AS_NOBODY = """
import os, sys
from smlmkit import Renderer, reconstruct_field
from smlmkit.errors import OutputError
table, elsewhere, store = sys.argv[1:]
reconstruct_field(Renderer(10), table, elsewhere, tile=256)  # all that it imports
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
try:
    reconstruct_field(Renderer(10), table, store, tile=256)
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("locked", ["", ".field.ome.zarr.work", ".field.ome.zarr.work/*/image"])
def test_a_folder_that_may_not_be_written(locked, blinks, differing_files, stop_after):
    with tempfile.TemporaryDirectory() as name:  # one that others may enter
        folder = Path(name)
        folder.chmod(0o755)
        write_localizations(blinks, folder / "blinks.parquet")
        stop_after(5, Renderer(10), folder / "blinks.parquet", folder / "field.ome.zarr")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        closed = [folder]
        if locked:
            (top,) = folder.glob(locked)
            closed = [top, *(path for path in top.rglob("*") if path.is_dir())]
        for path in closed:
            path.chmod(0o555)
        done = subprocess.run(
            [
                *(sys.executable, "-c", AS_NOBODY, folder / "blinks.parquet"),
                *(folder / ".." / f"{folder.name}-elsewhere", folder / "field.ome.zarr"),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        assert "field.ome.zarr" in done.stdout
        assert "not writable" in done.stdout or "ermission denied" in done.stdout
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        made = reconstruct_field(
            Renderer(10), folder / "blinks.parquet", folder / "field.ome.zarr", tile=256
        )
        elsewhere = folder.parent / f"{folder.name}-elsewhere"
        assert differing_files(made.path, elsewhere) == []
        shutil.rmtree(elsewhere)


def test_relative_paths_are_those_of_this_process(client, blinks, tmp_path, monkeypatch):
    write_localizations(blinks, tmp_path / "blinks.parquet")
    monkeypatch.chdir(tmp_path)  # the workers stay where they are
    made = reconstruct_field(Renderer(10), "blinks.parquet", "f.ome.zarr", tile=256, client=client)
    assert made.path == tmp_path / "f.ome.zarr"
    assert float(read_image("f.ome.zarr").sum()) == len(blinks)
