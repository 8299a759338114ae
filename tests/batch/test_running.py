"""Jobs on threads and on Dask; the cluster of most tests has its workers in this process."""

import asyncio
import errno
import os
import signal
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import dask
import numpy as np
import pytest
from distributed import Client, Future, LocalCluster

from smlmkit.batch import running
from smlmkit.batch.cluster import local_workers
from smlmkit.batch.running import run_jobs
from smlmkit.errors import ClusterError, OutputError, StoppedError

# What the jobs did, wherever in this process they did it.
attempts = Counter()
begun = threading.Event()
gate = threading.Event()


class Place(NamedTuple):
    row: int
    column: int


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        yield cluster


@pytest.fixture(params=["threads", "cluster"])
def client(request):
    attempts.clear()
    gate.clear()
    if request.param == "threads":
        yield None
        return
    cluster = request.getfixturevalue("cluster")
    with Client(cluster, set_as_default=False) as client:
        yield client
        assert tasks_of(client) == []


def tasks_of(client):
    """Ask the scheduler for the tasks that it still knows, once it has heard of all releases."""
    return client.run_on_scheduler(_tasks_left)


async def _tasks_left(dask_scheduler):
    for _ in range(100):
        if not dask_scheduler.tasks:
            break
        await asyncio.sleep(0.01)
    return list(dask_scheduler.tasks)


def threads_at_jobs():
    return [thread for thread in threading.enumerate() if "smlmkit-jobs" in thread.name]


def multiply(factor, number):
    return factor * number


def echo(context, job):
    return job


def size_of(array, job):
    return array.nbytes


def fail_at_five(context, job):
    attempts[job] += 1
    if job == 5:
        raise KeyError("five")
    return job


def fail_twice(context, job):
    attempts[job] += 1
    if attempts[job] < 3:
        raise OSError(errno.EIO, "a network is slow")
    return job


def fail_always(context, job):
    attempts[job] += 1
    raise FileNotFoundError(errno.ENOENT, "no such file", "lost.parquet")


def fill_disk(context, job):
    attempts[job] += 1
    raise OSError(context, os.strerror(context))


def wait_at_gate(context, job):
    attempts[job] += 1
    begun.set()
    gate.wait(20)
    attempts["ended"] += 1
    return job


@pytest.mark.parametrize("n_jobs", [0, 1, 2, 200])
def test_every_job_is_done_once(client, n_jobs):
    done = list(run_jobs(multiply, 3, range(n_jobs), client=client))
    assert sorted(done) == [(number, 3 * number) for number in range(n_jobs)]


def test_jobs_are_drawn_as_they_are_done(client):
    drawn = 0

    def draw():
        nonlocal drawn
        while drawn < 300:
            drawn += 1
            yield drawn

    ahead = [
        drawn - n_done
        for n_done, _ in enumerate(run_jobs(multiply, 1, draw(), client=client), start=1)
    ]
    assert len(ahead) == 300
    assert max(ahead) < 64


@pytest.mark.parametrize(
    "job", [Place(1, 2), (len, "abc"), {"a": [1, 2]}, [Place(0, 1)], "multiply", None]
)
def test_a_job_arrives_as_it_is(client, job):
    ((given, arrived),) = run_jobs(echo, None, [job], client=client)
    assert given is job
    assert arrived == job
    assert type(arrived) is type(job)


def test_a_large_context_brings_no_warning(client):
    threshold = dask.config.get("distributed.admin.large-graph-warning-threshold", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = list(run_jobs(size_of, np.zeros(2_000_000), range(3), client=client))
    assert sorted(done) == [(number, 16_000_000) for number in range(3)]
    assert dask.config.get("distributed.admin.large-graph-warning-threshold", None) == threshold


def test_an_error_of_a_job_comes_out_and_names_it(client):
    with pytest.raises(KeyError, match="five") as caught:
        list(run_jobs(fail_at_five, None, range(10_000), client=client))
    assert caught.value.__notes__ == ["while doing 5"]
    assert attempts[5] == 1
    assert sum(attempts.values()) < 200
    assert threads_at_jobs() == []


def test_an_error_of_the_source_comes_out(client):
    def draw():
        yield 1
        raise LookupError("no more tiles")

    with pytest.raises(LookupError, match="no more tiles"):
        list(run_jobs(multiply, 1, draw(), client=client))
    assert threads_at_jobs() == []


def test_a_fault_that_passes_is_tried_again(client, monkeypatch):
    monkeypatch.setattr(running, "_PAUSES_SECONDS", (0, 0))
    done = list(run_jobs(fail_twice, None, range(3), client=client))
    assert sorted(done) == [(number, number) for number in range(3)]
    assert set(attempts.values()) == {3}


def test_a_fault_that_stays_comes_out(client, monkeypatch):
    monkeypatch.setattr(running, "_PAUSES_SECONDS", (0, 0))
    with pytest.raises(FileNotFoundError, match=r"lost\.parquet"):
        list(run_jobs(fail_always, None, [7], client=client))
    assert attempts[7] == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_not_tried_again_and_says_so(client, number):
    with pytest.raises(OutputError, match="disk full while doing 7: free space") as caught:
        list(run_jobs(fill_disk, number, [7], client=client))
    assert caught.value.errno == number
    assert attempts[7] == 1


def end(jobs, how, stop):
    """Leave a run in one of the ways there are, once its first jobs are at work."""
    if how == "stop":
        stop.set()
        with pytest.raises(StoppedError):
            list(jobs)
    elif how == "close":
        jobs.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            jobs.throw(KeyboardInterrupt)


@pytest.mark.parametrize("how", ["stop", "close", "interrupt"])
def test_a_run_that_ends_early_leaves_nothing_at_work(client, how):
    stop = threading.Event()
    jobs = run_jobs(wait_at_gate, None, range(1000), client=client, stop=stop)
    gate.set()
    next(jobs)
    gate.clear()
    opener = threading.Timer(0.2, gate.set)
    opener.start()
    end(jobs, how, stop)
    opener.join()
    n_begun = sum(attempts.values()) - attempts["ended"]
    assert attempts["ended"] == n_begun < 200
    assert threads_at_jobs() == []


def test_a_run_that_is_stopped_before_it_begins_does_nothing(client):
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError, match="stopped before all was done"):
        list(run_jobs(wait_at_gate, None, range(3), client=client, stop=stop))
    assert not attempts


def test_several_threads_share_a_client(client):
    def multiply_all(factor):
        return dict(run_jobs(multiply, factor, range(100), client=client))

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(multiply_all, range(1, 5)))
    assert results == [{n: factor * n for n in range(100)} for factor in range(1, 5)]


def test_a_failed_run_leaves_those_beside_it_alone(client):
    with ThreadPoolExecutor(2) as pool:
        failing = pool.submit(list, run_jobs(fail_at_five, None, range(1000), client=client))
        others = pool.submit(dict, run_jobs(multiply, 2, range(300), client=client))
        assert isinstance(failing.exception(), KeyError)
        assert others.result() == {n: 2 * n for n in range(300)}


@pytest.fixture(scope="module")
def processes():
    """Start two real workers; the scheduler gives a job up with the second that dies of it."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        local_workers(2, n_devices=0) as client,
    ):
        yield client


def test_a_job_whose_worker_is_killed_is_done_again(processes, tmp_path):
    def kill_once(folder, job):  # inside, so that the workers need not import this module
        try:
            (folder / str(job)).touch(exist_ok=job != 3)
        except FileExistsError:
            return job
        if job == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return job

    done = list(run_jobs(kill_once, tmp_path, range(40), client=processes))
    assert sorted(done) == [(job, job) for job in range(40)]


def test_a_job_that_kills_its_workers_is_named(processes):
    def kill(context, job):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ClusterError, match="2 workers died, one after the other, while doing 7"):
        list(run_jobs(kill, None, [7], client=processes))


def test_a_job_that_others_cancel_is_named(cluster):
    gate.clear()
    begun.clear()
    with Client(cluster, set_as_default=False) as client, ThreadPoolExecutor(1) as pool:
        done = pool.submit(list, run_jobs(wait_at_gate, None, [7], client=client))
        begun.wait(20)
        client.cancel([Future(key, client) for key in list(client.futures)])
        gate.set()
        with pytest.raises(ClusterError, match="7 was cancelled on the cluster"):
            done.result()


def test_a_client_that_is_closed_is_an_error(cluster):
    with Client(cluster, set_as_default=False) as client:
        jobs = run_jobs(multiply, 1, range(1000), client=client)
        next(jobs)
    with pytest.raises(ClusterError):
        list(jobs)
    with pytest.raises(ClusterError, match="the Dask scheduler is gone"):
        list(run_jobs(multiply, 1, range(3), client=client))
