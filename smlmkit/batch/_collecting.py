"""Warnings that belong into a record instead of on the screen, each thread's to its own list."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from smlmkit.errors import SmlmkitWarning

_lock = threading.Lock()
_of_thread = threading.local()
_n_collecting = 0
_show_others: Callable[..., None]
# What `warnings` makes of simplefilter("always", SmlmkitWarning).
_FILTER = ("always", None, SmlmkitWarning, None, 0)


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect smlmkit's warnings that this thread gives, each text once.

    `warnings.catch_warnings` would catch those of all threads of the process, and, where several
    threads enter and leave it in turns, leave Python's settings as one of them had made them.

    Yields
    ------
    list of str
        Grows with every warning.
    """
    outer = getattr(_of_thread, "texts", None)
    texts: list[str] = []
    _of_thread.texts = texts
    _install()
    try:
        yield texts
    finally:
        _of_thread.texts = outer
        _uninstall()


def _install() -> None:
    """Let the first who collects see to it that all of our warnings are shown, and to whom."""
    global _n_collecting, _show_others
    with _lock:
        _n_collecting += 1
        if _n_collecting == 1:
            _show_others = warnings.showwarning
            warnings.showwarning = _show  # type: ignore[assignment]
            warnings.simplefilter("always", SmlmkitWarning)


def _uninstall() -> None:
    """Let the last one take back what the first one did, and nothing that others did since."""
    global _n_collecting
    with _lock:
        _n_collecting -= 1
        if _n_collecting == 0:
            if warnings.showwarning is _show:
                warnings.showwarning = _show_others
            with suppress(ValueError):
                warnings.filters.remove(_FILTER)  # type: ignore[attr-defined]
            # Says what holds anyway; `warnings` notes that its filters have changed.
            warnings.simplefilter("default", SmlmkitWarning, append=True)


def _show(message: Warning | str, category: type[Warning], *place: Any) -> None:
    texts = getattr(_of_thread, "texts", None)
    if texts is None or not issubclass(category, SmlmkitWarning):
        _show_others(message, category, *place)
    elif str(message) not in texts:
        texts.append(str(message))
