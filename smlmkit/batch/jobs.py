"""How the jobs of one run are done: where, who may stop them, and where they show."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smlmkit.batch.events import Progress
from smlmkit.batch.running import run_jobs

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Jobs:
    """Where jobs run, who may stop them, and where to show how far they are.

    Parameters
    ----------
    client : Client or None
        The Dask cluster that does the jobs; None for threads of this process.
    stop : Event or None
        Set it, from any thread, to end the run early.
    progress : Progress
        The bars.
    """

    client: "Client | None"
    stop: threading.Event | None
    progress: Progress

    def each(self, work: Callable[[Any, Any], Any], context: Any, jobs: Iterable[Any]) -> Any:
        """Do many jobs of one kind, as `run_jobs` does.

        Parameters
        ----------
        work : callable (context, job) -> result
            What does a job.
        context : object
            What all jobs need.
        jobs : iterable of object
            The jobs.

        Returns
        -------
        iterator of (job, result)
            In the order in which they are done.
        """
        return run_jobs(work, context, jobs, client=self.client, stop=self.stop)

    def one(self, work: Callable[[Any, Any], Any], context: Any, job: Any) -> Any:
        """Do one job where jobs are done, and wait for it.

        Parameters
        ----------
        work : callable (context, job) -> result
            What does it.
        context, job : object
            What it needs.

        Returns
        -------
        object
            Its result.
        """
        [(_, result)] = self.each(work, context, [job])
        return result
