"""A folder of acquisitions: an OME-Zarr of each, records of what is known, and a summary."""

import importlib.metadata
import platform
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from smlmkit import __version__
from smlmkit.batch._acquisitions import FolderRun
from smlmkit.batch._models import Models
from smlmkit.batch._results import Format, Options, Results, find_acquisitions, refuse_clashes
from smlmkit.batch._tables import Tables
from smlmkit.batch.events import EventLog, Progress
from smlmkit.batch.identity import describe_estimator
from smlmkit.batch.jobs import Jobs
from smlmkit.batch.ledger import Ledger
from smlmkit.batch.needs import needs_of, steps_of
from smlmkit.batch.plan import check_opinions, check_tile
from smlmkit.batch.training import as_trainable, without_weights
from smlmkit.errors import ChangedRunError, InvalidInputError
from smlmkit.tiling import FieldFacts

if TYPE_CHECKING:
    from distributed import Client

_TOLD_VERSIONS = ("numpy", "numba", "torch", "zarr", "dask")


def reconstruct_folder(
    estimator: Any,
    folder: str | PathLike[str],
    out: str | PathLike[str],
    *,
    client: "Client | None" = None,
    tile: int | None = None,
    train: Literal["each", "pooled"] | None = None,
    formats: Sequence[Format] = ("ome-zarr",),
    ngff: Literal["0.5", "0.4"] = "0.5",
    pyramid: Literal["mean", "sum"] | None = "mean",
    deviation: bool = False,
    redo: bool = False,
    progress: bool | None = None,
    camera_pixel_size: float | None = None,
    seed: int = 0,
    command: str | None = None,
) -> pd.DataFrame:
    """Reconstruct every acquisition in a folder, of any size, and measure what came of it.

    What is done when a run ends, in whatever way, is kept: the same call goes on from there, down
    to the tiles of a field. An acquisition that fails is recorded, and the others go on; the next
    run tries it again.

    Parameters
    ----------
    estimator : estimator or Pipeline
        Makes an image of a table; fitted where it needs to be, unless `train` says otherwise.
    folder : path-like
        The folder of tables (Picasso .hdf5, ThunderSTORM .csv, .parquet), or a single table.
    out : path-like
        The folder of results; it is made if it is missing. Workers on other machines must see both
        folders under the same paths.
    client : distributed.Client, optional
        Whose workers to use; by default two threads of this process.
    tile : int, optional
        Side of a tile in pixels, as in `reconstruct_field`.
    train : {"each", "pooled"}, optional
        Train `estimator`, an `N2NReconstructor` or a Pipeline that ends with one: on each
        acquisition a model of its own, or one on all of them. The models are kept in ``models``.
    formats : sequence of {"ome-zarr", "tiff", "png"}, default=("ome-zarr",)
        OME-Zarr is always written; TIFFs and PNGs of large images are of a coarser level.
    ngff : {"0.5", "0.4"}, default="0.5"
        Version of OME-Zarr.
    pyramid : {"mean", "sum"} or None, default="mean"
        How pixels are joined in the coarser levels; None makes the finest level only.
    deviation : bool, default=False
        Whether the deviation of the estimator's opinions is written, too, as
        ``NAME_deviation.ome.zarr``.
    redo : bool, default=False
        Whether results of other parameters, or of files that have changed, are replaced. Those
        that are as they would be now are kept in either case.
    progress : bool, optional
        Whether bars are shown; by default in terminals and notebooks.
    camera_pixel_size : float, optional
        Edge of a camera pixel in nm, for tables that do not state it.
    seed : int, default=0
        Source of randomness of the splits that the scores need, and of a training without
        ``random_state``.
    command : str, optional
        The command line that asked for this, to be kept in ``run.json``.

    Returns
    -------
    DataFrame
        A row for each acquisition of `folder`, sorted by name, see
        `smlmkit.batch.summary.summarize`. Its ``attrs["n_tried"]`` counts those that this call
        worked on; the others were done before.

    Raises
    ------
    InvalidInputError
        If a parameter cannot be used, there are no tables, or two would have results of one name.
    ChangedRunError
        If `out` holds results of other parameters, or of files that have changed, and they are not
        to be redone.
    OutputError
        If the disk is full, results cannot be written, or another process is at work on them.

    See Also
    --------
    reconstruct_field : One acquisition.
    smlmkit.FRCScorer : What the held-out correlation is, of an estimator on several tables.

    Notes
    -----
    Beside the images, `out` holds ``summary.parquet`` and ``summary.csv``, which are up to date
    after every acquisition; a record of each in ``records``; ``run.json`` with all parameters; and
    the log of all runs, ``log.jsonl``.

    Every acquisition is scored without ground truth: its localizations are split in two, half A is
    reconstructed and compared with the raw half B. A network that was trained on these very
    localizations knows half B; its records say so.

    Examples
    --------
    >>> import tempfile
    >>> from smlmkit import Renderer, make_acquisitions, reconstruct_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = make_acquisitions(f"{folder}/acquisitions", 2, field_size=3000, random_state=0)
    ...     summary = reconstruct_folder(
    ...         Renderer(pixel_size=10), f"{folder}/acquisitions", f"{folder}/results"
    ...     )
    >>> summary[["acquisition", "status", "height_px"]]
      acquisition status  height_px
    0      fov_01   done        300
    1      fov_02   done        300
    """
    options = Options(
        tile, train, tuple(formats), ngff, pyramid, deviation, camera_pixel_size, seed
    )
    options.check()
    acquisitions = find_acquisitions(Path(folder))
    results = Results(Path(out))
    refuse_clashes(acquisitions, Path(folder), results.folder, deviation=deviation)
    estimator = _check_estimator(estimator, options)
    key = {
        "smlmkit": __version__,
        "estimator": describe_estimator(estimator),
        "options": options.key(),
    }
    results.make_folders()
    with (
        _open_ledger(results, key, redo=redo) as ledger,
        EventLog(results.folder / "log.jsonl") as log,
        Progress(progress) as bars,
    ):
        if ledger.is_new and redo:
            results.remove_records()
        jobs = Jobs(client, threading.Event(), bars)
        tables = Tables(results, ledger, jobs, options.camera_pixel_size)
        models = Models(estimator, options.train, tables, results, ledger, jobs, log)
        about = _describe_run(estimator, options, Path(folder), command)
        run = FolderRun(options, results, ledger, log, jobs, tables, models, redo, about)
        return run.reconstruct_all(acquisitions)


def _check_estimator(estimator: Any, options: Options) -> Any:
    """Refuse what would fail for every acquisition; give the estimator as it will be used."""
    if options.train is None:
        asked = estimator
        try:
            check_is_fitted(steps_of(estimator)[-1])
        except NotFittedError as error:
            raise InvalidInputError(f"{error} Or pass train='each' or 'pooled'.") from error
    else:
        estimator = as_trainable(estimator, options.seed)
        asked = without_weights(estimator)
    if options.deviation:
        check_opinions(asked)
    needs = needs_of(asked, FieldFacts(None, defaultdict(float)))
    check_tile(options.tile, needs, options.ngff)
    return estimator


def _open_ledger(results: Results, key: dict[str, Any], *, redo: bool) -> Ledger:
    """Go on with a run of the same parameters; start anew only what had others."""
    try:
        return Ledger.open(results.ledger, key)
    except ChangedRunError as error:
        if not redo:
            text = str(error).replace(str(results.work), str(results.folder))
            raise ChangedRunError(text) from None
        return Ledger.open(results.ledger, key, redo=True)


def _describe_run(
    estimator: Any, options: Options, folder: Path, command: str | None
) -> dict[str, Any]:
    versions = {"smlmkit": __version__, "python": platform.python_version()}
    for name in _TOLD_VERSIONS:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "estimator": describe_estimator(estimator),
        "parameters": {"folder": str(folder), **asdict(options)},
        "versions": versions,
        "command": command,
    }
