"""Images as pictures: a PNG of one image or stack, or of several images side by side."""

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit._colours import DEPTH_COLOURS, Exposure, colour_channels, colour_slices, heights
from smlmkit._figure import add_axes, add_depth_bar, add_title, draw_panel, new_figure, save
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import FieldOfView, PixelGrid, check_field_of_view
from smlmkit.images import grid_of

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

# Lengths in pixels of the picture.
_MIN_SIDE_PX, _MAX_SIDE_PX = 256, 4096
_GAP_PX = 16
_BACKGROUND = "#101014"


def save_image(
    image: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    cmap: "str | Colormap | None" = None,
    percentile: float = 99.9,
    gamma: float = 1.0,
    overwrite: bool = False,
) -> None:
    """Draw an image or a stack with a scale bar as a PNG.

    A stack of slices is drawn depth-coloured: each slice has a colour, a pixel is as bright as the
    sum of its slices and has the mixture of their colours; a bar shows the colours from the centre
    of the lowest to that of the highest slice. Of a stack of channels, up to four, each is drawn in
    a colour, in this order: magenta, green, cyan, yellow; the colours add up like light.

    One pixel of the image is one pixel of the picture, except that an image whose longer side is
    under 256 pixels is enlarged by a whole factor, so that the scale bar can be read, and one of
    more than 4096 pixels is reduced by a whole factor, each block to its mean.

    Parameters
    ----------
    image : DataArray of dims (y, x), (z, y, x) or (channel, y, x)
        The image or stack. Pixels that are not finite, in any slice or channel, are drawn
        transparent.
    path : path-like
        The PNG to write.
    cmap : str or Colormap, optional
        A colour map of matplotlib: of the values of an image, by default "inferno", or of the
        depth of slices, by default a rainbow of one lightness from violet (low) to red (high). A
        map of slices should have no dark colours, since these hide what lies there. Channels have
        none.
    percentile : float, default=99.9
        The brightest colour stands for this percentile of the pixels above zero, the darkest for
        zero and everything below: of an image, of the sum of slices, of each channel. The PNG's
        description says which values these are.
    gamma : float, default=1.0
        The share of the brightest value is raised to this power: below 1 lifts dim structures.
    overwrite : bool, default=False
        Whether a file at `path` is replaced.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        If it is no image of real numbers on a grid, has slices and channels at once or too many
        channels, or an option is out of range.
    OutputError
        If `path` exists and is not to be replaced, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from smlmkit import PixelGrid, to_image
    >>> grid = PixelGrid(origin=(0, 0), pixel_size=10, shape=(300, 400))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_image(to_image(np.eye(300, 400), grid), Path(folder, "line.png"), gamma=0.5)
    ...     [file.name for file in Path(folder).iterdir()]
    ['line.png']
    """
    exposure = Exposure(percentile, gamma)
    grid_of(image, stacks=True)
    if "channel" in image.dims and cmap is not None:
        raise InvalidInputError("cmap: channels have colours of their own")
    colour_map = _colour_map(_default_map(image) if cmap is None else cmap)
    shown = _block_mean(_drawable(image, "the image"), _MAX_SIDE_PX)
    grid = grid_of(shown, stacks=True)
    zoom = math.ceil(_MIN_SIDE_PX / max(grid.shape))
    height, width = (zoom * side for side in grid.shape)
    figure = new_figure(height, width, "none")
    axes = add_axes(figure, 0, 0, height, width)
    colours, brightest = _colour(shown, colour_map, exposure)
    draw_panel(axes, grid, colours, grid.field_of_view)
    if "z" in shown.dims:
        add_depth_bar(axes, colour_map, shown["z"].to_numpy())
    save(figure, path, f"brightest: {brightest}", overwrite)


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
    >>> import numpy as np
    >>> from smlmkit import PixelGrid, to_image
    >>> grid = PixelGrid(origin=(0, 0), pixel_size=10, shape=(200, 200))
    >>> images = {"raw": to_image(np.eye(200), grid), "flat": to_image(np.ones((200, 200)), grid)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_comparison(images, Path(folder, "zoom.png"), field_of_view=(0, 0, 500, 500))
    ...     [file.name for file in Path(folder).iterdir()]
    ['zoom.png']
    """
    exposure, colour_map = Exposure(percentile, gamma), _colour_map(cmap)
    if contrast not in ("each", "shared"):
        raise InvalidInputError(f"contrast must be 'each' or 'shared', got {contrast!r}")
    if columns < 1 or panel_px < 1:
        raise InvalidInputError(
            f"columns and panel_px must be at least 1, got {columns} and {panel_px}"
        )
    box, crops = _crop_all(images, field_of_view)
    white = _white_levels(crops, exposure, shared=contrast == "shared")
    height, width = _panel_shape(box, min(grid_of(crop).pixel_size for crop in crops), panel_px)
    title_px = max(width, height) / 20
    columns = min(columns, len(crops))
    rows = math.ceil(len(crops) / columns)
    cell_height, cell_width = height + math.ceil(1.6 * title_px) + _GAP_PX, width + _GAP_PX
    figure = new_figure(rows * cell_height + _GAP_PX, columns * cell_width + _GAP_PX, _BACKGROUND)
    for position, (title, crop, level) in enumerate(zip(images, crops, white, strict=True)):
        row, column = divmod(position, columns)
        top, left = (row + 1) * cell_height - height, column * cell_width + _GAP_PX
        axes = add_axes(figure, top, left, height, width)
        shares = exposure.brightness(crop.to_numpy(), level)
        draw_panel(axes, grid_of(crop), colour_map(shares, bytes=True), box)
        add_title(axes, str(title), title_px, width)
    levels = ", ".join(f"{title} {level:.6g}" for title, level in zip(images, white, strict=True))
    save(figure, path, f"brightest: {levels}", overwrite)


def _colour_map(chosen: "str | Colormap") -> "Colormap":
    """Give a colour map that draws NaN transparent."""
    from matplotlib import colormaps

    try:
        return colormaps.get_cmap(chosen).with_extremes(bad=(0, 0, 0, 0))
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"cmap: {error}") from None


def _default_map(image: xr.DataArray) -> "str | Colormap":
    from matplotlib.colors import LinearSegmentedColormap

    is_deep = "z" in image.dims
    return LinearSegmentedColormap.from_list("depth", DEPTH_COLOURS) if is_deep else "inferno"


def _colour(
    image: xr.DataArray, colour_map: "Colormap", exposure: Exposure
) -> tuple[NDArray[np.uint8], str]:
    """Give the RGBA colours of an image or stack, and which values are brightest."""
    values, units = image.to_numpy(), image.attrs.get("units", "")
    match image.dims[:-2]:
        case ():
            white = exposure.white_level(values)
            colours = colour_map(exposure.brightness(values, white), bytes=True)
            return colours, f"{white:.6g} {units}"
        case ("z",):
            hues = colour_map(heights(image["z"].to_numpy()))[:, :3]
            colours, white = colour_slices(values, hues, exposure)
            return colours, f"{white:.6g} {units}, summed over z"
        case ("channel",):
            colours, levels = colour_channels(values, exposure)
            named = zip(image["channel"].to_numpy(), levels.items(), strict=True)
            brightest = ", ".join(
                f"channel {number} ({colour}) {white:.6g}" for number, (colour, white) in named
            )
            return colours, f"{brightest} {units}"
    raise InvalidInputError(
        "a picture shows slices or channels, not both: add up the slices, "
        "image.sum('z', keep_attrs=True), or choose a channel, image.sel(channel=...)"
    )


def _drawable(image: xr.DataArray, what: str) -> xr.DataArray:
    """Give an image as floating-point numbers, NaN where they are not finite."""
    if image.dtype.kind not in "buif":
        raise InvalidTypeError(f"{what} must hold real numbers, got dtype {image.dtype}")
    values = image.to_numpy()
    values = values.astype(np.result_type(values, np.float32), copy=False)
    return image.copy(data=np.where(np.isfinite(values), values, np.nan))


def _block_mean(image: xr.DataArray, max_side: int) -> xr.DataArray:
    """Average blocks of pixels until no side is longer than `max_side`; NaN does not count."""
    factor = math.ceil(max(image.shape[-2:]) / max_side)
    if factor == 1:
        return image
    fine = grid_of(image, stacks=True)
    blocks = image.coarsen(y=factor, x=factor, boundary="pad").mean()
    shape = (blocks.sizes["y"], blocks.sizes["x"])
    grid = PixelGrid(fine.origin, fine.pixel_size * factor, shape)
    return blocks.assign_coords(y=grid.centers_y, x=grid.centers_x).assign_attrs(
        pixel_size=grid.pixel_size
    )


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


def _white_levels(crops: list[xr.DataArray], exposure: Exposure, *, shared: bool) -> list[float]:
    pixels = [crop.to_numpy() for crop in crops]
    if not shared:
        return [exposure.white_level(values) for values in pixels]
    meanings = {(crop.attrs["pixel_size"], crop.attrs.get("units")) for crop in crops}
    if len(meanings) > 1:
        raise InvalidInputError(
            "contrast='shared' compares values of one pixel size (nm) and unit, "
            f"got {sorted(meanings, key=str)}"
        )
    white = exposure.white_level(np.concatenate([values.ravel() for values in pixels]))
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
