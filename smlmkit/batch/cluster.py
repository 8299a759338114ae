"""Dask clusters: one that runs already, processes of this machine, jobs of SLURM."""

import logging
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import joblib
from threadpoolctl import threadpool_info

from smlmkit import __version__
from smlmkit._checks import check_whole
from smlmkit._threads import default_threads
from smlmkit.errors import ClusterError, InvalidInputError

if TYPE_CHECKING:
    from distributed import Client

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",  # also of torch, of pyarrow and of smlmkit's own pool
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# A worker that does not give memory back would wait for it forever; Dask replaces it if it takes
# still more.
_NEVER_PAUSE = {"DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False"}
# Dask looks 50 times a second whether its processes hang, and 100 times what workers are at, which
# takes a few percent of the cores.
_LOOK_LESS_OFTEN = {
    "distributed.admin.tick.interval": "500 ms",
    "distributed.worker.profile.interval": "100 ms",
}
# In this process too, and left there.
_SET_BY_DASK = ("PYTHONHASHSEED", "__DASK_PARENT_PID")
_CONNECT_SECONDS = 10
_CORES_OF_SLURM_JOB = 4
_MEMORY_OF_SLURM_JOB = "16 GiB"


def connect(address: str) -> "Client":
    """Connect to a Dask cluster that is running.

    Parameters
    ----------
    address : str
        The address of its scheduler, such as ``"tcp://10.0.0.5:8786"``.

    Returns
    -------
    Client
        The connection, a context manager that closes it. It does not become Dask's default.

    Raises
    ------
    ClusterError
        If no scheduler answers there within ten seconds, or a worker has another version of
        smlmkit, or none.
    InvalidInputError
        If the address is none.
    """
    import distributed
    from distributed.comm.addressing import get_address_host_port

    try:
        get_address_host_port(address)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{address!r} is not the address of a scheduler") from error
    try:
        client: Any = distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except OSError as error:
        raise ClusterError(f"no Dask scheduler answers at {address!r}: {error}") from error
    try:
        _refuse_other_versions(client)
    except BaseException:
        client.close()
        raise
    checked: Client = client
    return checked


@contextmanager
def local_workers(
    n_workers: int, *, n_threads: int | None = None, n_devices: int | None = None
) -> "Iterator[Client]":
    """Start worker processes on this machine and stop them at the end.

    Parameters
    ----------
    n_workers : int
        How many processes; each does one job at a time.
    n_threads : int, optional
        Threads that a job may use; by default each worker's share of the cores.
    n_devices : int, optional
        How many GPUs they share out among themselves; by default all there are.

    Yields
    ------
    Client
        The connection to them. It does not become Dask's default.

    Raises
    ------
    InvalidInputError
        If a number is not a whole number, or negative, or there are no workers.

    Notes
    -----
    OMP_NUM_THREADS and its kin tell the workers' libraries how many threads they may use. The
    memory is shared out, too: a worker that takes more than its share is replaced, and its job is
    done again. A script that starts workers has to do so below ``if __name__ == "__main__":``,
    because they import it.
    """
    check_whole("n_workers", n_workers, low=1)
    if n_threads is None:
        n_threads = max(1, default_threads() // n_workers)
    check_whole("n_threads", n_threads, low=1)
    if n_devices is not None:
        check_whole("n_devices", n_devices, low=0)
    import dask
    import distributed
    from distributed.system import MEMORY_LIMIT

    devices = _visible_devices(n_devices)
    threads = dict.fromkeys(_THREAD_VARIABLES, str(n_threads))
    # Other machines cannot reach it.
    scheduler = {
        "cls": distributed.Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"},
    }
    with tempfile.TemporaryDirectory(prefix="smlmkit-") as folder, _environment(threads):
        options = {
            "host": "127.0.0.1",
            "nthreads": 1,
            "memory_limit": MEMORY_LIMIT // n_workers,
            "config": {
                "distributed.worker.memory.pause": False,  # as _NEVER_PAUSE
                **_LOOK_LESS_OFTEN,
            },
            "local_directory": folder,
            "silence_logs": logging.WARNING,
            "preload": ["smlmkit.batch._worker"],
        }
        workers = {}
        for number in range(n_workers):
            device = {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {}
            workers[number] = {
                "cls": distributed.Nanny,
                "options": {**options, "env": {**threads, **device}},
            }
        with ExitStack() as stack:
            # Dask would have the allocator give all memory back at once, and ask for it anew for
            # every image: that took a third of the time.
            settings = {"distributed.nanny.pre-spawn-environ": threads, **_LOOK_LESS_OFTEN}
            with dask.config.set(settings):
                cluster = stack.enter_context(
                    distributed.SpecCluster(workers, scheduler, silence_logs=logging.WARNING)
                )
            yield stack.enter_context(distributed.Client(cluster, set_as_default=False))


@contextmanager
def slurm_workers(
    n_workers: int, *, cores: int | None = None, memory: str | None = None, **options: Any
) -> "Iterator[Client]":
    """Have SLURM start workers, one in each of its jobs, and cancel them at the end.

    Parameters
    ----------
    n_workers : int
        How many SLURM jobs; each is one worker, which does one of our jobs at a time. Those that
        end early, for their time is up, are submitted anew.
    cores : int, optional
        Cores of each, by default what Dask's configuration says (``jobqueue.slurm.cores``), or 4.
    memory : str, optional
        Memory of each, by default ``jobqueue.slurm.memory``, or ``"16 GiB"``.
    **options
        Further options of `dask_jobqueue.SLURMCluster`: ``queue``, ``account``, ``walltime``,
        ``log_directory``, ``job_extra_directives=["--gres=gpu:1"]``, ... by default as Dask's
        configuration has them.

    Yields
    ------
    Client
        The connection to them. It does not become Dask's default. Workers join as SLURM starts
        them.

    Raises
    ------
    ClusterError
        If dask-jobqueue is not installed, or SLURM does not take the jobs.
    InvalidInputError
        If a number is not a positive whole number.
    """
    check_whole("n_workers", n_workers, low=1)
    import dask
    import distributed

    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise ClusterError(
            f"workers of SLURM need dask-jobqueue: pip install 'smlmkit[slurm]' ({error})"
        ) from error
    settings = dask.config.get("jobqueue.slurm")
    if cores is None:
        cores = settings["cores"] or _CORES_OF_SLURM_JOB
    check_whole("cores", cores, low=1)
    environment = {**dict.fromkeys(_THREAD_VARIABLES, cores), **_NEVER_PAUSE}
    prologue = options.pop("job_script_prologue", settings["job-script-prologue"])
    scheduler = options.pop("scheduler_options", settings["scheduler-options"])
    # For Dask a worker has one core, for it does one job at a time; its libraries use all cores.
    with (
        SLURMCluster(
            cores=1,
            processes=1,
            job_cpu=cores,
            memory=memory or settings["memory"] or _MEMORY_OF_SLURM_JOB,
            job_script_prologue=[
                *(f"export {variable}={value}" for variable, value in environment.items()),
                *prologue,
            ],
            scheduler_options={"dashboard_address": ":0", **scheduler},
            **options,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        _refuse_rejected_jobs(cluster.job_script())
        cluster.adapt(minimum_jobs=n_workers, maximum_jobs=n_workers)
        yield client


def describe_worker() -> dict[str, Any]:
    """Tell what a process has to work with; ``client.run(describe_worker)`` asks all workers.

    Returns
    -------
    dict
        ``host``, ``pid``, version of ``smlmkit``, ``cores`` that the process may use, ``threads``
        of smlmkit's kernels, ``torch_threads``, ``library_threads`` (of each library that has a
        pool of its own, by its file) and ``devices`` (CUDA_VISIBLE_DEVICES, None for all).

    Examples
    --------
    >>> facts = describe_worker()
    >>> facts["threads"] <= facts["cores"]
    True
    """
    import torch

    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "smlmkit": __version__,
        "cores": int(joblib.cpu_count()),
        "threads": default_threads(),
        "torch_threads": torch.get_num_threads(),
        "library_threads": {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()},
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


def _refuse_other_versions(client: Any) -> None:
    """Refuse workers that would not give the same images, or none."""
    for address, about in client.get_versions(packages=["smlmkit"])["workers"].items():
        found = about["packages"]["smlmkit"]
        if found != __version__:
            raise ClusterError(
                f"the worker {address} has {f'smlmkit {found}' if found else 'no smlmkit'}, "
                f"and here is smlmkit {__version__}"
            )


def _visible_devices(n_devices: int | None) -> list[str]:
    """Name GPUs as CUDA_VISIBLE_DEVICES does, which may have limited this process to some."""
    if n_devices is None:
        import torch

        n_devices = torch.cuda.device_count()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = allowed if len(allowed) >= n_devices else [str(number) for number in range(n_devices)]
    return names[:n_devices]


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for processes that are started meanwhile."""
    names = [*variables, *_SET_BY_DASK]
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _refuse_rejected_jobs(script: str) -> None:
    """Ask SLURM whether it would take a job, since a job is submitted where no error is seen."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise ClusterError("there is no SLURM here: no command sbatch")
    asked = subprocess.run(  # noqa: S603 (the script is Dask's and is only looked at)
        [sbatch, "--test-only"], input=script, capture_output=True, text=True, check=False
    )
    if asked.returncode:
        raise ClusterError(f"SLURM does not take the jobs: {asked.stderr.strip()}")
