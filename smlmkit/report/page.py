"""The page: what stands in it, and how it becomes one file."""

import base64
import hashlib
import os
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from smlmkit import __version__
from smlmkit._atomic import check_output, whole_or_nothing
from smlmkit.errors import InvalidInputError, SmlmkitError
from smlmkit.io.ome_zarr import read_image
from smlmkit.io.pyramids import level_shapes
from smlmkit.report import charts
from smlmkit.report.charts import Chart, highest_frequency, make_chart
from smlmkit.report.pictures import Crop, Thumbnail, colour_table, make_crop, make_thumbnail
from smlmkit.report.recipe import outline, read_steps, write_command
from smlmkit.report.results import Acquisition, Results, read_results
from smlmkit.report.table import COLUMNS, summarize, write_resolution

if TYPE_CHECKING:
    import jinja2

_MOST_BYTES = 64e6
_MOST_CROP_BYTES = 6e6
_TEXT_BYTES = 24e3  # what an acquisition takes besides its pictures
_SCRIPTS = ("table.js", "viewer.js")
_STYLE = "report.css"


def write_report(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a page about a folder of reconstructions.

    The page shows every field with a scale bar, a table that can be sorted, the Fourier ring
    correlations, the raw counts and the reconstruction of the same place for comparison, what
    failed or was warned of, and how to do it again. It is a single file that opens without a
    server or a network.

    Parameters
    ----------
    folder : path-like
        What `reconstruct_folder` wrote.
    path : path-like, optional
        Where to write the page, by default ``report.html`` in `folder`.
    overwrite : bool, default=False
        Whether a file at `path` is replaced.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    FileFormatError
        If `folder` is no folder of reconstructions, or a record is damaged. An image that cannot
        be read is a problem that the page tells of.
    OutputError
        If `path` exists and is not to be replaced, or cannot be written.

    Notes
    -----
    The page of 200 acquisitions is smaller than 64 MB: the more there are, the smaller is the part
    of each crop that can be compared. Its pixels are kept as square roots in eight bits. Names and
    messages are text wherever they come from, never markup, and the page's security policy runs its
    own two scripts and loads nothing.

    Examples
    --------
    >>> write_report("results")  # doctest: +SKIP
    PosixPath('results/report.html')
    """
    target = Path(folder, "report.html") if path is None else Path(path)
    results = read_results(Path(folder))
    check_output(target, overwrite=overwrite)
    page = _render(results, _entries(results.acquisitions))
    with whole_or_nothing(target, overwrite=overwrite) as partial:
        partial.write_bytes(page.encode("utf-8", "replace"))
    return target


@dataclass(frozen=True)
class _Entry:
    """All that the page shows of an acquisition."""

    number: int
    acquisition: Acquisition
    thumbnail: Thumbnail | None
    crop: Crop | None
    chart: Chart | None
    problems: tuple[str, ...]

    @property
    def comparison(self) -> dict[str, Any] | None:
        """What the viewer needs to know of the crop."""
        if self.crop is None:
            return None
        pixel_size = self.acquisition.pixel_size or 1.0
        return {
            "name": self.acquisition.name,
            "pixel_size": pixel_size,
            "origin": [
                corner + pixel_size * first
                for corner, first in zip(self.acquisition.origin, self.crop.box[:2], strict=True)
            ],
            "before": asdict(self.crop.before),
            "after": asdict(self.crop.after),
        }


def _entries(acquisitions: tuple[Acquisition, ...]) -> list[_Entry]:
    highest = highest_frequency(acquisitions)
    most_bytes = min(_MOST_BYTES / len(acquisitions) - _TEXT_BYTES, _MOST_CROP_BYTES)
    entries = []
    in_order = sorted(acquisitions, key=lambda acquisition: acquisition.error is not None)
    for number, acquisition in enumerate(in_order):
        thumbnail, crop, problems = _draw(acquisition, most_bytes)
        problems = (*acquisition.warnings, *problems)
        chart = make_chart(acquisition, highest)
        entries.append(_Entry(number, acquisition, thumbnail, crop, chart, problems))
    return entries


def _draw(
    acquisition: Acquisition, most_bytes: float
) -> tuple[Thumbnail | None, Crop | None, tuple[str, ...]]:
    """Make the pictures of an acquisition, and say why if there are none."""
    thumbnail = None
    if acquisition.image is None or acquisition.error is not None:
        return None, None, ()
    try:
        image = read_image(acquisition.image)
        thumbnail = make_thumbnail(image, _smallest_level(acquisition.image, image))
        crop = make_crop(acquisition, image, most_bytes - len(thumbnail.source))
        return thumbnail, crop, ()
    except (SmlmkitError, OSError) as error:
        return thumbnail, None, (str(error),)


def _smallest_level(path: Path, image: xr.DataArray) -> xr.DataArray:
    """Give the top of an image's pyramid, or the image itself if it has none."""
    try:
        return read_image(path, level=len(level_shapes(image.shape)) - 1)
    except InvalidInputError:
        return image


def _render(results: Results, entries: list[_Entry]) -> str:
    """Fill the page; the security policy names what may run or style it by digest."""
    from markupsafe import Markup

    style = _source(_STYLE)
    scripts = [_source(name) for name in _SCRIPTS]
    page = _environment().get_template("report.html")
    return page.render(
        title=_title(results),
        folder=results.folder.resolve().name,
        ended=results.ended,
        # Our own, without anything that would end the element.
        style=Markup(style),  # noqa: S704
        scripts=[Markup(script) for script in scripts],  # noqa: S704
        style_digest=_digest(style),
        script_digests=[_digest(script) for script in scripts],
        colours=colour_table(),
        figures=summarize(results.acquisitions),
        entries=entries,
        done=[entry for entry in entries if entry.acquisition.error is None],
        seen=[entry for entry in entries if entry.acquisition.is_seen],
        failed=[entry for entry in entries if entry.acquisition.error is not None],
        warned=[entry for entry in entries if entry.problems],
        charted=[entry for entry in entries if entry.chart is not None],
        groups=[(name, list(columns)) for name, columns in groupby(COLUMNS, lambda c: c.group)],
        command=write_command(str(results.run.get("command") or "")),
        steps=read_steps(results.run.get("estimator")),
        run=[
            list(outline(values, name))
            for name, values in results.run.items()
            if name not in ("command", "estimator")
        ],
        chart_size=charts,
        version=__version__,
    )


def _title(results: Results) -> str:
    """Name what was reconstructed rather than the folder, which is called "out" all too often."""
    parameters = results.run.get("parameters")
    source = parameters.get("folder") if isinstance(parameters, dict) else None
    if isinstance(source, str) and (name := Path(source).name):
        return f"Reconstructions of {name}"
    return f"Reconstructions in {results.folder.resolve().name}"


@cache
def _environment() -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("smlmkit.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["resolution"] = write_resolution
    return environment


def _source(name: str) -> str:
    return Path(__file__).with_name("templates").joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
