"""What a folder of reconstructions says about itself: the run, and a record an acquisition."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError

Floats = NDArray[np.float64]

_MOST_JSON_BYTES = 2**25


class PixelBox(NamedTuple):
    """A box of pixels of an image.

    Parameters
    ----------
    top, left, bottom, right : int
        The first row and column inside, and the first ones beyond.
    """

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True)
class Curve:
    """A Fourier ring correlation as a record keeps it.

    Parameters
    ----------
    frequency : ndarray of float64, shape (n,)
        Spatial frequencies in cycles per nm.
    correlation : ndarray of float64, shape (n,)
        The correlation of each; NaN where there is none.
    threshold : ndarray of float64, shape (n,), or None
        What it has to exceed.
    resolution : float or None
        In nm; None for a curve that does not cross its threshold.
    area : float or None
        The area under the curve.
    reason : str
        Why there is no resolution.
    """

    frequency: Floats
    correlation: Floats
    threshold: Floats | None
    resolution: float | None
    area: float | None
    reason: str


@dataclass(frozen=True)
class Acquisition:
    """One acquisition: what came of it. None stands for what is not known.

    Parameters
    ----------
    name, file : str
        Its name and that of the table.
    error : str or None
        Why it failed; None if it is done.
    image : Path or None
        The reconstruction.
    pixels : Path
        The file of raw counts.
    n_localizations : int or None
        Rows of the table.
    density : float or None
        Localizations per square µm.
    uncertainty : float or None
        The median of ``uncertainty_x`` in nm.
    origin : tuple of 2 float
        The corner of the field of view, (y, x) in nm.
    pixel_size : float or None
        Edge of a pixel in nm.
    shape : tuple of 2 int or None
        Height and width in pixels.
    raw, held_out : Curve or None
        The correlation of two halves of the table, and of the reconstruction of one half with the
        other half.
    log_likelihood : float or None
        Of the other half, given the reconstruction of one half.
    is_seen : bool
        Whether the network was trained on the other half, too.
    seconds : mapping of str to float
        How long the stages took.
    warnings : tuple of str
        What was warned of.
    crop : PixelBox or None
        The box of the image of which `pixels` has the raw counts.
    measured : PixelBox or None
        The box of the image on which the curves were measured.
    """

    name: str
    file: str
    error: str | None
    image: Path | None
    pixels: Path
    n_localizations: int | None
    density: float | None
    uncertainty: float | None
    origin: tuple[float, float]
    pixel_size: float | None
    shape: tuple[int, int] | None
    raw: Curve | None
    held_out: Curve | None
    log_likelihood: float | None
    is_seen: bool
    seconds: Mapping[str, float]
    warnings: tuple[str, ...]
    crop: PixelBox | None
    measured: PixelBox | None


@dataclass(frozen=True)
class Results:
    """A folder of reconstructions.

    Parameters
    ----------
    folder : Path
        The folder.
    run : mapping
        Estimator, parameters, versions and command of the run.
    ended : datetime or None
        When the last run ended, in UTC.
    acquisitions : tuple of Acquisition
        Sorted by name.
    """

    folder: Path
    run: Mapping[str, Any]
    ended: datetime | None
    acquisitions: tuple[Acquisition, ...]


def read_results(folder: Path) -> Results:
    """Read what a folder of reconstructions says about itself, without the images.

    Parameters
    ----------
    folder : Path
        What `reconstruct_folder` wrote.

    Returns
    -------
    Results
        The run and its acquisitions.

    Raises
    ------
    FileFormatError
        If it is not such a folder, or a file in it is not what it should be.
    """
    records = sorted(folder.glob("records/*.json"))
    if not records:
        raise FileFormatError(
            f"{folder}: there are no records/*.json: is it a folder of reconstructions?"
        )
    acquisitions = [_read_acquisition(folder, path) for path in records]
    return Results(
        folder=folder,
        run=_read_object(folder / "run.json").values,
        ended=_end_of_run(folder),
        acquisitions=tuple(sorted(acquisitions, key=lambda acquisition: acquisition.name)),
    )


def _end_of_run(folder: Path) -> datetime | None:
    """Give the time of the log's last end of a run, or else that of the summary."""
    ended = None
    with suppress(OSError), (folder / "log.jsonl").open("rb") as log:
        for line in log:
            if b'"run ended"' in line:
                # A killed process may leave half a line behind.
                with suppress(ValueError, TypeError, KeyError, RecursionError):
                    ended = datetime.fromisoformat(json.loads(line)["time"]).astimezone(UTC)
    if ended is None:
        with suppress(OSError):
            changed = (folder / "summary.parquet").stat().st_mtime
            ended = datetime.fromtimestamp(changed, UTC)
    return ended


def _read_acquisition(folder: Path, path: Path) -> Acquisition:
    facts = _read_object(path)
    name = facts.text("acquisition")
    status = facts.text("status")
    if not name or status not in ("done", "failed"):
        raise facts.error(f"acquisition {name!r} with status {status!r} is no record")
    curves = facts.part("frc")
    corner = facts.numbers("field_of_view_nm", 4)
    shape = (facts.whole("height_px"), facts.whole("width_px"))
    return Acquisition(
        name=name,
        file=facts.text("file") or name,
        error=None if status == "done" else facts.text("error") or "unknown error",
        image=_image_path(folder, facts),
        pixels=path.with_suffix(".npz"),
        n_localizations=facts.whole("localizations"),
        density=facts.number("density_per_um2"),
        uncertainty=facts.number("median_uncertainty_nm"),
        origin=(0.0, 0.0) if corner is None else (corner[0], corner[1]),
        pixel_size=facts.number("pixel_size_nm"),
        shape=None if shape[0] is None or shape[1] is None else (shape[0], shape[1]),
        raw=None if curves is None else _curve(curves.part("raw")),
        held_out=None if curves is None else _curve(curves.part("held_out")),
        log_likelihood=facts.number("log_likelihood"),
        is_seen=facts.truth("held_out_is_seen"),
        seconds=_seconds(facts.part("seconds")),
        warnings=facts.texts("warnings"),
        crop=_box(facts, "crop_px"),
        measured=_box(facts, "measured_px"),
    )


def _read_object(path: Path) -> "_Facts":
    """Read a JSON file that holds an object."""
    try:
        if path.stat().st_size > _MOST_JSON_BYTES:
            raise FileFormatError(f"{path}: too large for a record")
        # JSON has no NaN; Python's reader lets it pass.
        values = json.loads(path.read_text("utf-8"), parse_constant=lambda _: None)
    except OSError as error:
        raise FileFormatError(f"{path}: cannot read it: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: no JSON: {error}") from error
    if not isinstance(values, dict):
        raise FileFormatError(f"{path}: it should hold an object, not {type(values).__name__}")
    return _Facts(path, values)


def _image_path(folder: Path, facts: "_Facts") -> Path | None:
    name = facts.text("image")
    if name is None:
        return None
    if name in ("", "..") or name != Path(name).name:
        raise facts.error(f"image {name!r} is not the name of an image in this folder")
    return folder / name


def _curve(facts: "_Facts | None") -> Curve | None:
    if facts is None:
        return None
    frequency = facts.numbers("frequency_per_nm")
    correlation = facts.numbers("correlation")
    threshold = facts.numbers("threshold")
    if frequency is None or correlation is None or len(frequency) != len(correlation):
        raise facts.error("a curve needs as many frequencies as correlations")
    if threshold is not None and len(threshold) != len(frequency):
        raise facts.error("a curve needs as many thresholds as frequencies")
    resolution = facts.number("resolution_nm")
    return Curve(
        frequency=frequency,
        correlation=correlation,
        threshold=threshold,
        resolution=resolution if resolution and resolution > 0 else None,
        area=facts.number("area"),
        reason=facts.text("reason") or "",
    )


def _seconds(facts: "_Facts | None") -> dict[str, float]:
    times = {} if facts is None else {name: facts.number(name) for name in facts.values}
    return {name: seconds for name, seconds in times.items() if seconds is not None}


def _box(facts: "_Facts", name: str) -> PixelBox | None:
    edges = facts.numbers(name, 4)
    if edges is None:
        return None
    if not (np.isfinite(edges).all() and (edges == np.rint(edges)).all()):
        raise facts.error(f"{name} {edges.tolist()} is not a box of pixels")
    box = PixelBox(*(int(edge) for edge in edges))
    height, width = facts.whole("height_px") or 0, facts.whole("width_px") or 0
    if not (0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width):
        raise facts.error(f"{name} {tuple(box)} does not lie in {height} x {width} pixels")
    return box


class _Facts:
    """The values of an object of a JSON file, each checked when it is asked for."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path = path
        self.values = values

    def error(self, message: str) -> FileFormatError:
        return FileFormatError(f"{self.path}: {message}")

    def number(self, name: str) -> float | None:
        """Give a finite number, None for any other one."""
        value = self._value(name, int | float)
        try:
            return None if value is None or not math.isfinite(value) else float(value)
        except OverflowError:
            return None

    def whole(self, name: str) -> int | None:
        value: int | None = self._value(name, int)
        if value is not None and not 0 <= value < 2**53:
            raise self.error(f"{name} must be a count, not {value}")
        return value

    def truth(self, name: str) -> bool:
        """Give whether something is so; what is not told is not so."""
        value = self.values.get(name)
        if not isinstance(value, bool | None):
            raise self.error(f"{name} must be true or false, not {value!r:.80}")
        return bool(value)

    def text(self, name: str) -> str | None:
        value: str | None = self._value(name, str)
        return value

    def part(self, name: str) -> "_Facts | None":
        values = self._value(name, dict)
        return None if values is None else _Facts(self.path, values)

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._value(name, list) or []
        if not all(isinstance(value, str) for value in values):
            raise self.error(f"{name} must be a list of texts")
        return tuple(values)

    def numbers(self, name: str, length: int | None = None) -> Floats | None:
        """Give an array of finite numbers, NaN for null and for any other one."""
        values = self._value(name, list)
        if values is None:
            return None
        try:
            numbers = np.array(values, np.float64)
        except (ValueError, TypeError, OverflowError):
            numbers = np.empty((0, 0))
        if numbers.ndim != 1 or (length is not None and len(numbers) != length):
            wanted = "numbers" if length is None else f"{length} numbers"
            raise self.error(f"{name} must be a list of {wanted}")
        return np.where(np.isfinite(numbers), numbers, np.nan)

    def _value(self, name: str, kind: Any) -> Any:
        value = self.values.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise self.error(f"{name} must not be {value!r:.80}")
        return value
