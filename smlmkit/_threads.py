"""One pool of threads for the whole process, for kernels that release the GIL.

All callers share the pool. So when a scheduler such as Dask's calls from several threads at once,
their bands wait for one another and do not take each other's cores. What is a single band, because
the image is small or one thread was asked for, the caller does itself.
"""

import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from joblib import cpu_count

from smlmkit._checks import check_whole


@functools.cache
def default_threads() -> int:
    """Give OMP_NUM_THREADS, which Dask and joblib set in their worker processes, or the cores.

    It is read once, on import, as by OpenMP: a cluster that is started later sets the variable for
    its workers in this process, too.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # of nested levels, the first
    n_cores = int(cpu_count())
    return min(int(asked), n_cores) if asked.isdigit() and int(asked) > 0 else n_cores


def check_threads(n_threads: int | None) -> int:
    """Turn the parameter `n_threads` into a number of threads: None means all."""
    if n_threads is None:
        return default_threads()
    check_whole("n_threads", n_threads, low=1)
    return min(int(n_threads), default_threads())


def run_bands(
    work: Callable[[int, int], None],
    n_rows: int,
    n_threads: int,
    *,
    min_rows: int = 1,
    bands_per_thread: int = 4,
) -> None:
    """Call ``work(start, stop)`` for bands of rows that together are all rows, each once.

    Several bands a thread even out work that is not spread evenly; they have at least `min_rows`
    rows.
    """
    n_bands = 1
    if n_threads > 1:
        n_bands = max(1, min(bands_per_thread * n_threads, n_rows // min_rows))
    run_between(work, [n_rows * band // n_bands for band in range(n_bands + 1)], n_threads)


def run_between(work: Callable[[int, int], None], edges: Sequence[int], n_threads: int) -> None:
    """Call ``work(start, stop)`` for every two successive edges; `work` must not run bands itself.

    A single band is the caller's own work.
    """
    waiting = deque(itertools.pairwise(edges))
    if len(waiting) == 1:
        work(*waiting.pop())
        return

    def work_through() -> None:
        while True:
            try:
                start, stop = waiting.popleft()
            except IndexError:
                return
            try:
                work(start, stop)
            except BaseException:
                waiting.clear()
                raise

    for done in [_pool.submit(work_through) for _ in range(min(n_threads, len(waiting)))]:
        done.result()


def _new_pool() -> ThreadPoolExecutor:
    """Make a pool; its threads start when they are first needed."""
    return ThreadPoolExecutor(default_threads(), thread_name_prefix="smlmkit")


def _renew_pool() -> None:
    global _pool
    _pool = _new_pool()


_pool = _new_pool()
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    # A forked child has none of the threads.
    os.register_at_fork(after_in_child=_renew_pool)
