"""Outputs that are either whole or not there."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from smlmkit.errors import OutputError

_FLUSHES_AT_ONCE = 8


@contextmanager
def whole_or_nothing(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give a hidden path beside `path` to write a file or folder to; move it to `path` at the end.

    If the block raises or is interrupted, what it wrote is removed and whatever stood at `path`
    stays. A killed process leaves at most a hidden ``.<name>.<random>.partial``, or, killed just
    while a folder was exchanged, the old folder as ``.<name>.<random>.replaced``.

    Parameters
    ----------
    path : path-like
        Where the finished file or folder will stand.
    overwrite : bool, default=False
        Whether a file or folder at `path` is replaced. A file never replaces a folder.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    OutputError
        If `path` exists and is not to be replaced, its folder is missing, or writing fails.
    """
    with all_or_nothing([path], overwrite=overwrite) as (partial,):
        yield partial


@contextmanager
def all_or_nothing(
    paths: Sequence[str | os.PathLike[str]], *, overwrite: bool = False
) -> Iterator[list[Path]]:
    """Do what `whole_or_nothing` does for several outputs that only make sense together.

    The outputs that are to be replaced all step aside before the first new one moves in, so new
    and old never stand side by side, not even after a power cut. The first path moves in first:
    make it the one that is of use alone.

    Parameters
    ----------
    paths : sequence of path-like
        Where the finished files or folders will stand.
    overwrite : bool, default=False
        Whether what stands at the paths is replaced. A file never replaces a folder.

    Yields
    ------
    list of Path
        Where to write, in the order of `paths`.

    Raises
    ------
    OutputError
        If one of `paths` exists and is not to be replaced, its folder is missing, or writing fails.
    """
    targets = [Path(path) for path in paths]
    partials = [_check_target(target, overwrite) for target in targets]
    try:
        with _errors_as_output_error(targets):
            yield partials
            move_into_place(partials, targets, overwrite=overwrite)
    finally:
        for partial in partials:
            _remove(partial)


def move_into_place(
    partials: Sequence[Path],
    targets: Sequence[Path],
    *,
    overwrite: bool = False,
    aside: Path | None = None,
) -> None:
    """Move finished files or folders to their places, all of them or none.

    Parameters
    ----------
    partials : sequence of Path
        What is finished, each in its target's file system.
    targets : sequence of Path
        Where they will stand. The first one moves in first.
    overwrite : bool, default=False
        Whether what stands there is replaced. A file never replaces a folder.
    aside : Path, optional
        The folder, in the same file system, in which what is replaced waits for its end; by default
        that of each target.

    Raises
    ------
    OutputError
        If one of the targets exists and is not to be replaced, or moving fails.
    """
    with _errors_as_output_error(targets):
        for partial, target in zip(partials, targets, strict=True):
            _flush_to_disk(partial)
            _check_target(target, overwrite)  # it may have appeared in the meantime
        _move_into_place(partials, targets, aside)


def check_output(path: str | os.PathLike[str], *, overwrite: bool, is_folder: bool = False) -> None:
    """Refuse an output that could not be written, before the work that it shall hold.

    Parameters
    ----------
    path : path-like
        Where a file or folder will be written.
    overwrite : bool
        Whether what stands there is replaced.
    is_folder : bool, default=False
        Whether a folder will be written, which replaces files and folders.

    Raises
    ------
    OutputError
        If `path` exists and is not to be replaced, is a folder that a file would replace, or its
        folder is missing or not writable.
    """
    target = Path(path)
    _check_target(target, overwrite)
    if target.is_dir() and not is_folder:
        raise OutputError(f"{target} is a folder; a file does not replace it")
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"{target}: the folder {target.parent} is not writable")


def make_folder(folder: Path, *, exist_ok: bool = True) -> None:
    """Make an output folder, and those above it, where they are missing.

    Parameters
    ----------
    folder : Path
        The folder.
    exist_ok : bool, default=True
        Whether the folder may be there already.

    Raises
    ------
    OutputError
        If the folder cannot be made, or is there and may not be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        reason = f"{folder}: cannot make this folder: {error.strerror}"
        raise OutputError(error.errno, reason) from error


@contextmanager
def _errors_as_output_error(targets: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        names = ", ".join(map(str, targets))
        raise OutputError(error.errno or errno.EIO, f"cannot write {names}: {reason}") from error


def _check_target(target: Path, overwrite: bool) -> Path:
    """Give the hidden path to write to instead of `target`, if `target` may be written at all."""
    if not target.name:
        raise OutputError(f"{str(target)!r} is not the name of an output")
    if not target.parent.is_dir():
        raise OutputError(f"{target}: the folder {target.parent} does not exist")
    if not overwrite and os.path.lexists(target):
        raise OutputError(f"{target} exists already; pass overwrite=True to replace it")
    return _hidden(target, "partial")


def _hidden(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.{kind}")


def _flush_to_disk(path: Path) -> None:
    """Make sure that what was written survives a power cut."""
    if not path.exists():
        raise OutputError(f"nothing was written to {path}")
    if path.is_file():
        _flush_file(path)
        return
    # Side by side, for a disk flushes many small files at once in the time of one.
    with ThreadPoolExecutor(_FLUSHES_AT_ONCE) as pool:
        list(pool.map(_flush_file, (file for file in path.rglob("*") if file.is_file())))


def _flush_file(file: Path) -> None:
    with file.open("rb+") as handle:  # Windows flushes writable handles only
        os.fsync(handle.fileno())


def _move_into_place(partials: Sequence[Path], targets: Sequence[Path], aside: Path | None) -> None:
    hidden = [_hidden(target, "replaced") for target in targets]
    olds = [path if aside is None else aside / path.name for path in hidden]
    outputs = list(zip(partials, targets, olds, strict=True))
    try:
        for partial, target, old in reversed(outputs):
            if target.is_dir() and not partial.is_dir():
                raise OutputError(f"{target} is a folder; a file does not replace it")
            # A single file is replaced in one step; nothing else can be.
            if os.path.lexists(target) and (len(targets) > 1 or target.is_dir()):
                target.rename(old)
        for partial, target, _ in outputs:
            partial.replace(target)
    except BaseException:
        if any(map(os.path.lexists, partials)):
            _undo(outputs)
        raise
    for target, old in zip(targets, olds, strict=True):
        _remove(old)
        _flush_folder(target.parent)


def _undo(outputs: list[tuple[Path, Path, Path]]) -> None:
    """Put everything back as it was; the files themselves tell how far the move had come."""
    for partial, target, old in outputs:
        if not os.path.lexists(partial):
            _remove(target)
        if os.path.lexists(old):
            old.rename(target)


def _flush_folder(folder: Path) -> None:
    """Make sure that a rename survives a power cut, where folders can be flushed."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
