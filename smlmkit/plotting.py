"""Images as pictures: one PNG with a scale bar, or several images side by side.

Figures are drawn by matplotlib without pyplot: no window, no state that outlives the call.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit import __version__
from smlmkit._atomic import whole_or_nothing
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import FieldOfView, PixelGrid, check_field_of_view
from smlmkit.images import grid_of, to_image

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

# Lengths in pixels of the picture. A power of two as resolution makes sizes in inches exact, so
# that matplotlib never rounds a row or a column away.
_DPI = 64
_MIN_SIDE_PX, _MAX_SIDE_PX = 256, 4096
_GAP_PX = 16
_BACKGROUND, _TEXT = "#101014", "#f2f2f2"


def save_image(
    image: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    cmap: "str | Colormap" = "inferno",
    percentile: float = 99.9,
    gamma: float = 1.0,
    overwrite: bool = False,
) -> None:
    """Draw an image with a scale bar as a PNG.

    One pixel of the image is one pixel of the picture, except that an image whose longer side is
    under 256 pixels is enlarged by a whole factor, so that the scale bar can be read, and one of
    more than 4096 pixels is reduced by a whole factor, each block to its mean.

    Parameters
    ----------
    image : DataArray of dims (y, x)
        The image. Pixels that are not finite are drawn transparent.
    path : path-like
        The PNG to write.
    cmap : str or Colormap, default="inferno"
        A colour map of matplotlib.
    percentile : float, default=99.9
        The brightest colour stands for this percentile of the pixels above zero, the darkest for
        zero and everything below. The PNG's description says which values these are.
    gamma : float, default=1.0
        The share of the brightest value is raised to this power: below 1 lifts dim structures.
    overwrite : bool, default=False
        Whether a file at `path` is replaced.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        If it is no image of real numbers on a grid, or an option is out of range.
    OutputError
        If `path` exists and is not to be replaced, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> grid = PixelGrid(origin=(0, 0), pixel_size=10, shape=(300, 400))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_image(to_image(np.eye(300, 400), grid), Path(folder, "line.png"), gamma=0.5)
    ...     [file.name for file in Path(folder).iterdir()]
    ['line.png']
    """
    look = _Look.checked(cmap, percentile, gamma)
    shown = _block_mean(_drawable(image, "the image"), _MAX_SIDE_PX)
    zoom = math.ceil(_MIN_SIDE_PX / max(shown.shape))
    height, width = (zoom * side for side in shown.shape)
    figure = _new_figure(height, width, "none")
    white = look.white_level(shown.to_numpy())
    axes = _add_axes(figure, 0, 0, height, width)
    box = grid_of(shown).field_of_view
    _draw_panel(axes, shown, look.colours(shown.to_numpy(), white), box)
    _save(figure, path, f"brightest: {white:.6g} {image.attrs.get('units', '')}", overwrite)


def save_comparison(
    images: Mapping[str, xr.DataArray],
    path: str | os.PathLike[str],
    *,
    field_of_view: FieldOfView | tuple[float, float, float, float] | None = None,
    contrast: Literal["each", "shared"] = "each",
    cmap: "str | Colormap" = "inferno",
    percentile: float = 99.9,
    gamma: float = 1.0,
    columns: int = 4,
    panel_px: int = 480,
    overwrite: bool = False,
) -> None:
    """Draw the same place in several images side by side as a PNG, each with a scale bar.

    Parameters
    ----------
    images : mapping of str to DataArray of dims (y, x)
        The images by title. They may have different pixel sizes.
    path : path-like
        The PNG to write.
    field_of_view : sequence of 4 numbers, optional
        The box ``(y_min, x_min, y_max, x_max)`` in nm that is shown of every image; by default
        the box that all images cover.
    contrast : {"each", "shared"}, default="each"
        Whether every panel has the brightest colour of its own pixels, which suits images of
        different methods, or all have that of all pixels shown, which needs one unit and one pixel
        size.
    cmap : str or Colormap, default="inferno"
        A colour map of matplotlib.
    percentile : float, default=99.9
        The brightest colour stands for this percentile of the pixels shown that are above zero,
        the darkest for zero and everything below.
    gamma : float, default=1.0
        The share of the brightest value is raised to this power: below 1 lifts dim structures.
    columns : int, default=4
        The most panels in a row.
    panel_px : int, default=480
        About how many pixels of the picture the longer side of a panel takes. Fewer pixels of an
        image are enlarged by the nearest whole factor, more are averaged.
    overwrite : bool, default=False
        Whether a file at `path` is replaced.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        If an image cannot be used or has nothing to show, or an option is out of range.
    OutputError
        If `path` exists and is not to be replaced, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> grid = PixelGrid(origin=(0, 0), pixel_size=10, shape=(200, 200))
    >>> images = {"raw": to_image(np.eye(200), grid), "flat": to_image(np.ones((200, 200)), grid)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_comparison(images, Path(folder, "zoom.png"), field_of_view=(0, 0, 500, 500))
    ...     [file.name for file in Path(folder).iterdir()]
    ['zoom.png']
    """
    look = _Look.checked(cmap, percentile, gamma)
    if contrast not in ("each", "shared"):
        raise InvalidInputError(f"contrast must be 'each' or 'shared', got {contrast!r}")
    if columns < 1 or panel_px < 1:
        raise InvalidInputError(
            f"columns and panel_px must be at least 1, got {columns} and {panel_px}"
        )
    box, crops = _crop_all(images, field_of_view)
    white = _white_levels(crops, look, shared=contrast == "shared")
    height, width = _panel_shape(box, min(grid_of(crop).pixel_size for crop in crops), panel_px)
    title_px = max(width, height) / 20
    columns = min(columns, len(crops))
    rows = math.ceil(len(crops) / columns)
    cell_height, cell_width = height + math.ceil(1.6 * title_px) + _GAP_PX, width + _GAP_PX
    figure = _new_figure(rows * cell_height + _GAP_PX, columns * cell_width + _GAP_PX, _BACKGROUND)
    for position, (title, crop, level) in enumerate(zip(images, crops, white, strict=True)):
        row, column = divmod(position, columns)
        top, left = (row + 1) * cell_height - height, column * cell_width + _GAP_PX
        axes = _add_axes(figure, top, left, height, width)
        _draw_panel(axes, crop, look.colours(crop.to_numpy(), level), box)
        _add_title(axes, str(title), title_px, width)
    levels = ", ".join(f"{title} {level:.6g}" for title, level in zip(images, white, strict=True))
    _save(figure, path, f"brightest: {levels}", overwrite)


@dataclass(frozen=True)
class _Look:
    """How values become colours."""

    cmap: "Colormap"
    percentile: float
    gamma: float

    @classmethod
    def checked(cls, cmap: "str | Colormap", percentile: float, gamma: float) -> "_Look":
        from matplotlib import colormaps

        try:
            colours = colormaps.get_cmap(cmap)
        except (ValueError, TypeError) as error:
            raise InvalidInputError(f"cmap: {error}") from None
        if not 0 < percentile <= 100:
            raise InvalidInputError(f"percentile must be in (0, 100], got {percentile!r}")
        if not 0 < gamma < math.inf:
            raise InvalidInputError(f"gamma must be positive and finite, got {gamma!r}")
        return cls(colours.with_extremes(bad=(0, 0, 0, 0)), percentile, gamma)

    def white_level(self, values: NDArray[np.floating]) -> float:
        """Give the value that gets the brightest colour; 1 where nothing is above zero."""
        lit = values[values > 0]
        return float(np.percentile(lit, self.percentile)) if lit.size else 1.0

    def colours(self, values: NDArray[np.floating], white: float) -> NDArray[np.uint8]:
        """Give the RGBA colours of values."""
        share = (np.clip(values, 0, white) / white) ** self.gamma
        rgba: NDArray[np.uint8] = self.cmap(share, bytes=True)
        return rgba


def _drawable(image: xr.DataArray, what: str) -> xr.DataArray:
    """Give an image as floating-point numbers, NaN where they are not finite."""
    grid_of(image)
    if image.dtype.kind not in "buif":
        raise InvalidTypeError(f"{what} must hold real numbers, got dtype {image.dtype}")
    values = image.to_numpy()
    values = values.astype(np.result_type(values, np.float32), copy=False)
    return image.copy(data=np.where(np.isfinite(values), values, np.nan))


def _block_mean(image: xr.DataArray, max_side: int) -> xr.DataArray:
    """Average blocks of pixels until no side is longer than `max_side`; NaN does not count."""
    factor = math.ceil(max(image.shape) / max_side)
    if factor == 1:
        return image
    grid = grid_of(image)
    blocks = image.coarsen(y=factor, x=factor, boundary="pad").mean()
    shape = (blocks.sizes["y"], blocks.sizes["x"])
    return to_image(blocks.to_numpy(), PixelGrid(grid.origin, grid.pixel_size * factor, shape))


def _crop_all(
    images: Mapping[str, xr.DataArray], field_of_view: object
) -> tuple[FieldOfView, list[xr.DataArray]]:
    """Give the box to show and the part of every image that lies in it."""
    if not isinstance(images, Mapping):
        raise InvalidTypeError(
            f"images must be a mapping of title to image, got {type(images).__name__}"
        )
    if not images:
        raise InvalidInputError("images is empty: there is nothing to compare")
    fields = [_field_of(image, title) for title, image in images.items()]
    box = _common_box(fields) if field_of_view is None else check_field_of_view(field_of_view)
    crops = []
    for (title, image), field in zip(images.items(), fields, strict=True):
        crop = _crop(image, box)
        if crop.size == 0:
            raise InvalidInputError(
                f"image {title!r} covers {field} and shows nothing of field_of_view {box}"
            )
        crops.append(_drawable(crop, f"image {title!r}"))
    return box, crops


def _field_of(image: xr.DataArray, title: str) -> FieldOfView:
    try:
        return grid_of(image).field_of_view
    except (InvalidInputError, InvalidTypeError) as error:
        raise type(error)(f"image {title!r}: {error}") from None


def _common_box(fields: list[FieldOfView]) -> FieldOfView:
    box = FieldOfView(
        max(field.y_min for field in fields),
        max(field.x_min for field in fields),
        min(field.y_max for field in fields),
        min(field.x_max for field in fields),
    )
    if box.height <= 0 or box.width <= 0:
        raise InvalidInputError(f"the images have no place in common: {fields}")
    return box


def _crop(image: xr.DataArray, box: FieldOfView) -> xr.DataArray:
    """Give the pixels that overlap a box: those with their centre less than half a pixel away."""
    reach = grid_of(image).pixel_size * 0.5 * (1 - 1e-6)
    return image.sel(
        y=slice(box.y_min - reach, box.y_max + reach), x=slice(box.x_min - reach, box.x_max + reach)
    )


def _white_levels(crops: list[xr.DataArray], look: _Look, *, shared: bool) -> list[float]:
    pixels = [crop.to_numpy() for crop in crops]
    if not shared:
        return [look.white_level(values) for values in pixels]
    meanings = {(crop.attrs["pixel_size"], crop.attrs.get("units")) for crop in crops}
    if len(meanings) > 1:
        raise InvalidInputError(
            "contrast='shared' compares values of one pixel size (nm) and unit, "
            f"got {sorted(meanings, key=str)}"
        )
    white = look.white_level(np.concatenate([values.ravel() for values in pixels]))
    return [white] * len(crops)


def _panel_shape(box: FieldOfView, pixel_size: float, panel_px: int) -> tuple[int, int]:
    """Give the height and width of a panel in pixels of the picture."""
    longer = max(box.height, box.width)
    side = longer / pixel_size
    if side < panel_px:
        side *= round(panel_px / side)
    else:
        side = panel_px
    return max(1, round(side * box.height / longer)), max(1, round(side * box.width / longer))


def _new_figure(height: int, width: int, background: str) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=background)


def _add_axes(figure: "Figure", top: int, left: int, height: int, width: int) -> "Axes":
    """Add axes without decoration that cover a box of pixels of the picture."""
    full_width, full_height = figure.get_size_inches() * _DPI
    axes = figure.add_axes(
        (
            left / full_width,
            1 - (top + height) / full_height,
            width / full_width,
            height / full_height,
        )
    )
    axes.set_axis_off()
    return axes


def _draw_panel(
    axes: "Axes", image: xr.DataArray, colours: NDArray[np.uint8], box: FieldOfView
) -> None:
    """Draw a box (nm) of an image in its colours, with a scale bar."""
    grid = grid_of(image)
    field = grid.field_of_view
    is_reduced = box.width / axes.bbox.width > grid.pixel_size * 1.001
    axes.imshow(
        colours,
        extent=(field.x_min, field.x_max, field.y_max, field.y_min),
        origin="upper",
        aspect="auto",
        interpolation="auto" if is_reduced else "nearest",
        interpolation_stage="rgba",
    )
    axes.set(xlim=(box.x_min, box.x_max), ylim=(box.y_max, box.y_min))
    axes.add_artist(_scale_bar(axes.bbox.height, axes.bbox.width))


def _scale_bar(height: float, width: float) -> "Artist":
    """Make a scale bar for axes in nm that take so many pixels of the picture."""
    from matplotlib_scalebar.scalebar import ScaleBar

    font_px = max(9, min(max(height, width) / 30, width / 8, height / 5))
    bar: Artist = ScaleBar(
        1,
        "nm",
        length_fraction=0.25,
        width_fraction=0.012,
        location="lower right",
        pad=0.4,
        border_pad=0.6,
        sep=3,
        color="white",
        box_color="black",
        box_alpha=0.35,
        scale_loc="top",
        # Equal scales along y and x are ours by construction, not by matplotlib's aspect.
        rotation="horizontal-only",
        font_properties={"size": _points(font_px)},
    )
    return bar


def _add_title(axes: "Axes", title: str, font_px: float, width: int) -> None:
    """Write a title above a panel, in smaller letters if it would not fit."""
    fitting_px = min(font_px, width / (0.6 * max(1, len(title))))
    axes.set_title(title, color=_TEXT, fontsize=_points(fitting_px), parse_math=False)


def _points(pixels: float) -> float:
    """Turn pixels of the picture into points, the unit of matplotlib's fonts."""
    return pixels * 72 / _DPI


def _save(
    figure: "Figure", path: str | os.PathLike[str], description: str, overwrite: bool
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with whole_or_nothing(path, overwrite=overwrite) as partial:
        # The canvas writes what was drawn; Figure.savefig would obey the user's rcParams.
        FigureCanvasAgg(figure).print_png(  # type: ignore[no-untyped-call]
            partial, metadata={"Software": f"smlmkit {__version__}", "Description": description}
        )
