"""Clusters of real processes; SLURM is two small scripts that start and kill them."""

import os
import signal
import sys

import dask
import joblib
import pytest
from distributed import Client, LocalCluster

from smlmkit import __version__
from smlmkit._threads import default_threads
from smlmkit.batch import cluster as clusters
from smlmkit.batch.cluster import connect, describe_worker, local_workers, slurm_workers
from smlmkit.batch.running import run_jobs
from smlmkit.errors import ClusterError, InvalidInputError

SBATCH = """#!/bin/bash
if [ "$1" = --test-only ]; then
    cat > {folder}/asked.sh
    if grep -q "SBATCH -p nowhere" {folder}/asked.sh; then
        echo "sbatch: error: invalid partition specified: nowhere" >&2
        exit 1
    fi
    exit 0
fi
cp "$1" {folder}/$$.sh  # the script is gone as soon as this has ended
setsid bash {folder}/$$.sh > {folder}/worker.log 2>&1 < /dev/null &
echo $! >> {folder}/jobs
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/bash
echo "$1" >> {folder}/cancelled
kill -KILL -- -"$1" 2> /dev/null || true
"""


@pytest.fixture(scope="module")
def two_workers():
    before = environment()
    with local_workers(2, n_devices=3) as client:
        yield client
    assert environment() == before


def environment():
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def square(context, number):
    return number**2


def test_local_workers_do_jobs_one_at_a_time(two_workers):
    assert list(two_workers.nthreads().values()) == [1, 1]
    done = dict(run_jobs(pow, 2, range(10), client=two_workers))
    assert done == {number: 2**number for number in range(10)}


def test_local_workers_share_out_cores_and_devices(two_workers):
    facts = list(two_workers.run(describe_worker).values())
    share = max(1, joblib.cpu_count() // 2)
    for about in facts:
        assert about["smlmkit"] == __version__
        assert about["threads"] == about["torch_threads"] == share
        assert set(about["library_threads"].values()) == {share}
    assert len({about["pid"] for about in facts} | {os.getpid()}) == 3
    assert sorted(about["devices"] for about in facts) == ["0", "1"]


def test_local_workers_are_out_of_reach_and_never_pause(two_workers):
    def pause_of(dask_worker):
        return dask_worker.memory_manager.memory_pause_fraction

    assert set(two_workers.run(pause_of).values()) == {False}
    assert two_workers.scheduler.address.startswith("tcp://127.0.0.1:")
    assert two_workers.dashboard_link.startswith("http://127.0.0.1:")
    assert two_workers is not Client.current
    with pytest.raises(ValueError, match="No clients found"):
        Client.current()


def test_devices_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")
    assert clusters._visible_devices(2) == ["4", "GPU-7"]
    assert clusters._visible_devices(0) == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert clusters._visible_devices(2) == ["0", "1"]


@pytest.mark.parametrize("start", [local_workers, slurm_workers])
@pytest.mark.parametrize("number", [0, -1, 1.5, "2"])
def test_a_number_of_workers_that_is_none_is_refused(start, number):
    with pytest.raises(InvalidInputError, match="n_workers must be a whole number"):
        start(number).__enter__()


def test_a_process_says_what_it_works_with(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    about = describe_worker()
    assert about["pid"] == os.getpid()
    assert about["threads"] == default_threads()
    assert about["cores"] == joblib.cpu_count()
    assert about["devices"] == "5"


@pytest.fixture(scope="module")
def scheduler():
    with LocalCluster(1, processes=False, protocol="tcp://", dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


def test_a_running_cluster_is_connected_to(scheduler):
    with connect(scheduler) as client:
        assert dict(run_jobs(pow, 2, range(4), client=client)) == {0: 1, 1: 2, 2: 4, 3: 8}
        with pytest.raises(ValueError, match="No clients found"):
            Client.current()


def test_workers_of_another_version_are_refused(scheduler, monkeypatch):
    monkeypatch.setattr(clusters, "__version__", "99")
    with pytest.raises(ClusterError, match=f"has smlmkit {__version__}, and here is smlmkit 99"):
        connect(scheduler)


@pytest.mark.parametrize("address", ["", "tcp://", "nonsense:foo:bar", "localhost", None, 8786])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InvalidInputError, match="is not the address of a scheduler"):
        connect(address)


def test_a_scheduler_that_does_not_answer_is_an_error(monkeypatch):
    monkeypatch.setattr(clusters, "_CONNECT_SECONDS", 0.2)
    with pytest.raises(ClusterError, match="no Dask scheduler answers at 'tcp:"):
        connect("tcp://127.0.0.1:1")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Put a SLURM on the path that runs its jobs at once, here."""
    for name, script in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(script.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_slurm_runs_workers_and_replaces_those_that_end(slurm):
    cores = max(1, joblib.cpu_count() // 2)
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "50ms"}),
        slurm_workers(1, cores=cores, memory="2 GiB", queue="short", account="lab") as client,
    ):
        done = dict(run_jobs(pow, 2, range(10), client=client))
        assert done == {number: 2**number for number in range(10)}
        assert list(client.nthreads().values()) == [1]
        ((address, about),) = client.run(describe_worker).items()
        assert about["threads"] == about["torch_threads"] == cores
        script = (slurm / "asked.sh").read_text()
        for line in ("-p short", "-A lab", f"--cpus-per-task={cores}", "--mem=2G"):
            assert f"#SBATCH {line}\n" in script

        job = int((slurm / "jobs").read_text())
        os.killpg(job, signal.SIGKILL)
        done = dict(run_jobs(pow, 3, range(10), client=client))
        assert done == {number: 3**number for number in range(10)}
        assert address not in client.nthreads()
        jobs = [int(job) for job in (slurm / "jobs").read_text().split()]
    assert len(jobs) == 2
    assert str(jobs[1]) in (slurm / "cancelled").read_text().split()


def test_a_job_that_slurm_refuses_is_an_error(slurm):
    with pytest.raises(ClusterError, match="does not take the jobs: sbatch: error: invalid"):
        slurm_workers(1, queue="nowhere").__enter__()
    assert not (slurm / "jobs").exists()


def test_no_slurm_is_an_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ClusterError, match="no command sbatch"):
        slurm_workers(1).__enter__()


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue.slurm", None)
    with pytest.raises(ClusterError, match=r"pip install 'smlmkit\[slurm\]'"):
        slurm_workers(1).__enter__()
