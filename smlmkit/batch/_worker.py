"""What each worker process on this machine does first, see Dask's documentation of preloads."""

import logging
import signal


def dask_setup(_: object) -> None:
    """Leave Ctrl-C, which a terminal sends to all, and the tale of errors to the client."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed.worker").setLevel(logging.CRITICAL)
