"""Many jobs of one kind, on threads of this process or on a Dask cluster."""

import asyncio
import errno
import itertools
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeGuard, TypeVar

from smlmkit.errors import ClusterError, OutputError, StoppedError

if TYPE_CHECKING:
    from distributed import Client, Worker

Context = TypeVar("Context")
Job = TypeVar("Job")
Result = TypeVar("Result")

_N_THREADS = 2
# Of those at work, so that a thread that is done finds the next job waiting for it.
_JOBS_PER_THREAD = 2
_JOBS_PER_WORKER_THREAD = 4
# Sending jobs to a scheduler one by one would take most of its time.
_LEAST_JOBS_OF_CLUSTER = 64
# How often those who wait look whether they are to stop.
_GLANCE_SECONDS = 0.1
# How often a client asks for the size of its cluster.
_CENSUS_SECONDS = 1.0
# Before the second and the third attempt at a job that a disk or a network failed.
_PAUSES_SECONDS = (0.1, 1.0)
# A job at work cannot be interrupted; this is how long the end of a run waits for it.
_LONGEST_WAIT_SECONDS = 60.0
_DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

_settings_lock = threading.Lock()


def run_jobs(
    work: Callable[[Context, Job], Result],
    context: Context,
    jobs: Iterable[Job],
    *,
    client: "Client | None" = None,
    stop: threading.Event | None = None,
) -> Iterator[tuple[Job, Result]]:
    """Do many jobs of one kind and give each with its result as soon as it is done.

    Parameters
    ----------
    work : callable (context, job) -> result
        What does a job; on a cluster a function that the workers can import.
    context : object
        What all jobs need; each worker gets it once. Jobs may use it at the same time.
    jobs : iterable of object
        The jobs, small things. A generator is drawn from only as fast as they are done.
    client : Client, optional
        The Dask cluster that does the jobs; by default two threads of this process, so that one
        can compute while the other reads and writes. Several threads may use one client at once.
    stop : Event, optional
        Set it, from any thread, to end the run early.

    Yields
    ------
    job : object
        A job that is done; the order is not that of `jobs`.
    result : object
        What `work` returned for it.

    Raises
    ------
    StoppedError
        If `stop` was set before all jobs were done.
    OutputError
        If a disk was full.
    ClusterError
        If the workers of a job died, several in succession, or the scheduler is gone.
    Exception
        What a job raised, with a note that names the job.

    Notes
    -----
    A job that raises an OSError, as network file systems do now and then, gets two more attempts;
    one whose worker dies is done again by another. So a job has to bear being done twice. After an
    error, and when the iterator is closed or interrupted, jobs that have not begun are cancelled
    and those at work are waited for, on a cluster for a minute at most.

    Examples
    --------
    >>> sorted(run_jobs(pow, 2, range(4)))
    [(0, 1), (1, 2), (2, 4), (3, 8)]
    """
    task = _Task(work, context)
    crew: _Crew = _Threads(task, stop) if client is None else _Cluster(task, stop, client)
    waiting = iter(jobs)
    try:
        while True:
            crew.check()
            crew.begin(waiting)
            if not crew.at_work:
                return
            yield from crew.finish_some()
    finally:
        crew.dismiss()


class _Task(NamedTuple):
    """What is the same for all jobs."""

    work: Callable[[Any, Any], Any]
    context: Any


class _Crew(ABC):
    """Those who do the jobs, and what they are at."""

    def __init__(self, task: _Task, stop: threading.Event | None) -> None:
        self._task: Any = task
        self._stop = stop
        self._done: SimpleQueue[Any] = SimpleQueue()
        self.at_work: dict[Any, Any] = {}  # the job of each future

    def check(self) -> None:
        """Refuse to go on where there is a reason; those who wait ask now and then."""
        if self._stop is not None and self._stop.is_set():
            raise StoppedError("stopped before all was done")

    def begin(self, waiting: Iterator[Any]) -> None:
        """Take as many of the jobs that are waiting as there is room for."""
        jobs = list(itertools.islice(waiting, self._count_wanted()))
        for job, future in zip(jobs, self._submit(jobs), strict=True):
            self.at_work[future] = job
            future.add_done_callback(self._done.put)

    def finish_some(self) -> Iterator[tuple[Any, Any]]:
        """Wait until a job is done; give it, those done by then, and their results."""
        for future, result in self._collect(self._take_done()):
            if isinstance(result, _Failure):
                self._raise(result.error, self.at_work[future])
            yield self.at_work.pop(future), result

    def _take_done(self) -> list[Any]:
        taken: list[Any] = []
        while not taken:
            self.check()
            with suppress(Empty):
                taken.append(self._done.get(timeout=_GLANCE_SECONDS))
                while True:
                    taken.append(self._done.get_nowait())
        return taken

    def _raise(self, error: BaseException, job: Any) -> NoReturn:
        """Raise what a job has raised, and say which job."""
        if is_disk_full(error):
            reason = f"disk full while doing {job}: free space and run again ({error})"
            raise OutputError(error.errno, reason) from error
        error.add_note(f"while doing {job}")
        raise error

    @abstractmethod
    def dismiss(self) -> None:
        """Cancel what has not begun and wait for what has."""

    @abstractmethod
    def _count_wanted(self) -> int: ...

    @abstractmethod
    def _submit(self, jobs: list[Any]) -> Sequence[Any]: ...

    @abstractmethod
    def _collect(self, done: list[Any]) -> Iterator[tuple[Any, Any]]: ...


class _Threads(_Crew):
    """Threads of this process."""

    def __init__(self, task: _Task, stop: threading.Event | None) -> None:
        super().__init__(task, stop)
        self._pool = futures.ThreadPoolExecutor(_N_THREADS, thread_name_prefix="smlmkit-jobs")

    def dismiss(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _count_wanted(self) -> int:
        return _N_THREADS * _JOBS_PER_THREAD - len(self.at_work)

    def _submit(self, jobs: list[Any]) -> Sequence[Any]:
        return [self._pool.submit(_attempt, self._task, job) for job in jobs]

    def _collect(self, done: list[Any]) -> Iterator[tuple[Any, Any]]:
        for future in done:
            error = future.exception()
            yield future, future.result() if error is None else _Failure(error)


class _Cluster(_Crew):
    """The workers of a Dask cluster."""

    def __init__(self, task: _Task, stop: threading.Event | None, client: "Client") -> None:
        self._client: Any = client
        self._name = f"{getattr(task.work, '__name__', 'job')}-{uuid.uuid4().hex}"
        self._numbers = itertools.count()
        # Short work does not ask for the size of the cluster at all.
        self._room = _LEAST_JOBS_OF_CLUSTER
        self._last_census = time.monotonic()
        self._shared: Any = None
        super().__init__(task, stop)

    def check(self) -> None:
        super().check()
        if self._client.status == "closed":
            raise ClusterError("the Dask scheduler is gone, or the client was closed")

    def dismiss(self) -> None:
        if self.at_work and self._client.status == "running":
            with suppress(OSError):  # without a scheduler there is nobody to dismiss
                self._client.cancel([*self.at_work, self._shared])
                self._client.run(_finish, self._name, on_error="ignore")

    def _count_wanted(self) -> int:
        if len(self.at_work) > self._room // 2:
            return 0
        now = time.monotonic()
        if now - self._last_census > _CENSUS_SECONDS:
            with self._explain_connection():
                n_threads = sum(self._client.nthreads().values())  # workers come and go
            self._room = max(_LEAST_JOBS_OF_CLUSTER, _JOBS_PER_WORKER_THREAD * n_threads)
            self._last_census = now
        return max(0, self._room - len(self.at_work))  # it shrinks with the cluster

    def _submit(self, jobs: list[Any]) -> Sequence[Any]:
        if not jobs:
            return []
        if self._shared is None:
            self._shared = self._share(jobs)
        sealed = [_Sealed(job) for job in jobs]
        # Keys of this form make one group of tasks. A large group is handed out to whoever is
        # idle, not preferably to those who have the context already.
        keys = [(self._name, number) for number in itertools.islice(self._numbers, len(jobs))]
        with self._explain_connection(), _without_a_limit():
            submitted: Sequence[Any] = self._client.map(
                _attempt_sealed, sealed, task=self._shared, key=keys, pure=False
            )
        return submitted

    def _share(self, first_jobs: list[Any]) -> Any:
        """Hand out what all jobs need, once to each worker; to a single job along with it."""
        if len(first_jobs) == 1:
            return _Sealed(self._task)
        # As the result of a task, it is made anew if the worker that holds it dies.
        with self._explain_connection(), _without_a_limit():
            return self._client.submit(
                _give, _Sealed(self._task), key=f"context-of-{self._name}", pure=False
            )

    def _collect(self, done: list[Any]) -> Iterator[tuple[Any, Any]]:
        with self._explain_connection():
            results = self._gather(done)
        for number, future in enumerate(done):
            if future.status == "error":
                yield future, _Failure(future.exception())
            elif future.status in ("cancelled", "lost"):
                yield future, _Failure(futures.CancelledError())
            else:
                yield future, results[number]

    def _gather(self, done: list[Any]) -> dict[int, Any]:
        """Fetch results, which may have to be made anew first; None for failures."""
        gathering = asyncio.run_coroutine_threadsafe(
            self._client.gather(dict(enumerate(done)), errors="skip", asynchronous=True),
            self._client.loop.asyncio_loop,
        )
        # To cancel it would cancel what other threads fetch at the same time.
        while not futures.wait([gathering], timeout=_GLANCE_SECONDS).done:
            self.check()
        results: dict[int, Any] = gathering.result()
        return results

    def _raise(self, error: BaseException, job: Any) -> NoReturn:
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            raise ClusterError(
                f"{error.allowed_failures + 1} workers died, one after the other, while doing "
                f"{job}: if they ran out of memory, use smaller tiles or fewer workers a machine"
            ) from error
        if isinstance(error, futures.CancelledError):
            raise ClusterError(f"{job} was cancelled on the cluster, or the scheduler is gone")
        super()._raise(error, job)

    @contextmanager
    def _explain_connection(self) -> Iterator[None]:
        """Say what it means when the client cannot reach the scheduler."""
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError) or self._client.status == "closed":
                raise ClusterError(f"the Dask scheduler is gone: {error}") from error
            raise


def is_disk_full(error: BaseException) -> TypeGuard[OSError]:
    """Tell whether an error says that a disk or a quota is full.

    Parameters
    ----------
    error : BaseException
        The error.

    Returns
    -------
    bool
        Whether it does.
    """
    return isinstance(error, OSError) and error.errno in _DISK_FULL


@dataclass(frozen=True)
class _Failure:
    """What stands in for the result of a job that raised an error."""

    error: BaseException


@dataclass(frozen=True)
class _Sealed:
    """An object into which Dask does not look for keys, futures and further tasks."""

    content: Any


def _attempt(task: _Task, job: Any) -> Any:
    """Do a job, again if a disk or a network failed it."""
    for pause in _PAUSES_SECONDS:
        try:
            return task.work(task.context, job)
        except OSError as error:
            if is_disk_full(error):
                raise
            time.sleep(pause)
    return task.work(task.context, job)


def _attempt_sealed(job: _Sealed, task: _Sealed) -> Any:
    return _attempt(task.content, job.content)


def _give(content: Any) -> Any:
    return content


async def _finish(name: str, dask_worker: "Worker") -> None:
    """Wait on a worker until it has finished or forgotten the tasks of a group."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
            while any(isinstance(key, tuple) and key[0] == name for key in dask_worker.state.tasks):
                await asyncio.sleep(_GLANCE_SECONDS)


@contextmanager
def _without_a_limit() -> Iterator[None]:
    """Submit what may be large, such as networks, without a warning."""
    import dask

    no_limit = {"distributed.admin.large-graph-warning-threshold": "1 PiB"}
    with _settings_lock, dask.config.set(no_limit):
        yield
