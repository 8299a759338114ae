"""Figures of matplotlib, drawn without pyplot: no window, no state that outlives the call."""

import math
import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smlmkit import __version__
from smlmkit._atomic import whole_or_nothing
from smlmkit._colours import heights
from smlmkit.grid import FieldOfView, PixelGrid

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

# Lengths in pixels of the picture. A power of two as resolution makes sizes in inches exact, so
# that matplotlib never rounds a row or a column away.
_DPI = 64
_TEXT = "#f2f2f2"


def new_figure(height: int, width: int, background: str) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=background)


def add_axes(figure: "Figure", top: int, left: int, height: int, width: int) -> "Axes":
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


def draw_panel(axes: "Axes", grid: PixelGrid, colours: NDArray[np.uint8], box: FieldOfView) -> None:
    """Draw a box (nm) of coloured pixels, with a scale bar."""
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
        font_properties={"size": _points(_font_px(height, width))},
    )
    return bar


def add_depth_bar(axes: "Axes", colour_map: "Colormap", z: NDArray[np.floating]) -> None:
    """Add a bar of the colours of slices, from the lowest centre to the highest (nm)."""
    from matplotlib.offsetbox import AnchoredOffsetbox, OffsetImage, TextArea, VPacker

    font_px = _font_px(axes.bbox.height, axes.bbox.width)
    places = heights(z)
    colours = colour_map(np.linspace(places[0], places[-1], max(1, int(axes.bbox.width / 4))))
    rows = np.tile(colours, (math.ceil(font_px / 2), 1, 1))
    bar = OffsetImage(rows, zoom=_points(1), interpolation="nearest")
    ends = dict.fromkeys(f"{round(float(end))}" for end in z[[0, -1]])  # one for one slice
    label = f"z {' to '.join(ends)} nm".replace("-", "\N{MINUS SIGN}")
    text = TextArea(label, textprops={"color": "white", "size": _points(font_px)})
    box = AnchoredOffsetbox(
        "lower left",
        child=VPacker(children=[text, bar], align="center", pad=0, sep=3),
        pad=0.4,
        borderpad=0.6,
    )
    box.patch.set_color("black")
    box.patch.set_alpha(0.35)
    axes.add_artist(box)


def _font_px(height: float, width: float) -> float:
    return max(9, min(max(height, width) / 30, width / 8, height / 5))


def add_title(axes: "Axes", title: str, font_px: float, width: int) -> None:
    """Write a title above a panel, in smaller letters if it would not fit."""
    fitting_px = min(font_px, width / (0.6 * max(1, len(title))))
    axes.set_title(title, color=_TEXT, fontsize=_points(fitting_px), parse_math=False)


def _points(pixels: float) -> float:
    """Turn pixels of the picture into points, the unit of matplotlib's fonts."""
    return pixels * 72 / _DPI


def save(figure: "Figure", path: str | os.PathLike[str], description: str, overwrite: bool) -> None:
    """Write a figure with a description as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with whole_or_nothing(path, overwrite=overwrite) as partial:
        # The canvas writes what was drawn; Figure.savefig would obey the user's rcParams.
        FigureCanvasAgg(figure).print_png(  # type: ignore[no-untyped-call]
            partial, metadata={"Software": f"smlmkit {__version__}", "Description": description}
        )
