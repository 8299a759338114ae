import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import dask
import joblib
import numpy as np
import pytest

from smlmkit import Localizations, Renderer
from smlmkit._threads import check_threads, default_threads, run_bands
from smlmkit.errors import InvalidInputError


@pytest.mark.parametrize("n_rows", [1, 7, 100, 1001])
@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("min_rows", [1, 30])
def test_every_row_is_in_one_band(n_rows, n_threads, min_rows):
    visits = np.zeros(n_rows, int)

    def visit(start, stop):
        assert stop > start
        assert stop - start >= min(min_rows, n_rows)
        visits[start:stop] += 1

    run_bands(visit, n_rows, n_threads, min_rows=min_rows)
    assert (visits == 1).all()


def test_an_error_in_a_band_reaches_the_caller():
    def fail(start, stop):
        raise ArithmeticError(f"band at {start}")

    with pytest.raises(ArithmeticError, match="band at"):
        run_bands(fail, 100, 2)


def test_one_thread_is_the_callers():
    names = []
    run_bands(lambda start, stop: names.append(threading.current_thread().name), 100, 1)
    assert names == [threading.current_thread().name]


def threads_of_a_new_process(value):
    """Import the library where OMP_NUM_THREADS has a value."""
    code = "from smlmkit._threads import *; print(check_threads(None), check_threads(8))"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "OMP_NUM_THREADS": value}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


def test_the_environment_limits_the_threads():
    assert threads_of_a_new_process("1") == [1, 1]
    assert threads_of_a_new_process("1,2") == [1, 1]


@pytest.mark.parametrize("unusable", ["0", "", "many"])
def test_an_environment_that_says_nothing_leaves_all_cores(unusable):
    assert threads_of_a_new_process(unusable)[0] == joblib.cpu_count()


def test_a_cluster_that_limits_its_workers_does_not_limit_this_process(monkeypatch):
    before = default_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(before + 1))
    assert default_threads() == check_threads(None) == before
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as distributed does while it starts workers
    assert default_threads() == before


@pytest.mark.parametrize("bad", [0, -1, 1.5, "two", True])
def test_a_number_of_threads_that_is_none_is_refused(bad):
    with pytest.raises(InvalidInputError, match="n_threads must be a whole number"):
        check_threads(bad)


class Watch:
    """Counts how many threads work at once."""

    def __init__(self):
        self.lock, self.working, self.most = threading.Lock(), 0, 0

    def work(self, start, stop):
        with self.lock:
            self.working += 1
            self.most = max(self.most, self.working)
        np.linalg.norm(np.ones((300, 300)) * start)
        with self.lock:
            self.working -= 1


def test_callers_of_many_threads_share_one_pool():
    watch = Watch()
    with ThreadPoolExecutor(16) as callers:
        for done in [callers.submit(run_bands, watch.work, 64, 2) for _ in range(32)]:
            done.result()
    assert 1 <= watch.most <= default_threads()


def table_of(seed):
    rng = np.random.default_rng(seed)
    points = {name: rng.uniform(0, 5000, 4000) for name in ("x", "y")}
    return Localizations(points, field_of_view=(0, 0, 5000, 5000))


def test_dask_threads_give_the_same_images_without_more_threads():
    renderer = Renderer(10, "gaussian", sigma=15)
    tables = [table_of(seed) for seed in range(8)]
    expected = [renderer.transform(table) for table in tables]
    before = threading.active_count()
    images = dask.compute(
        *[dask.delayed(renderer.transform)(table) for table in tables],
        scheduler="threads",
        num_workers=8,
    )
    for image, alone in zip(images, expected, strict=True):
        np.testing.assert_array_equal(image, alone)
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("smlmkit")]
    assert len(ours) <= default_threads()
    assert threading.active_count() <= before + 8 + default_threads()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_makes_its_own_pool():
    """A child inherits the pool's object and none of its threads: it would wait for ever."""
    program = (
        "import os, sys\n"
        "from smlmkit._threads import run_bands\n"
        "run_bands(lambda a, b: None, 100, 2)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    run_bands(lambda a, b: None, 100, 2)\n"
        "    os._exit(7)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == 7
