"""The pictures of a report: thumbnails, and crops whose pixels the viewer colours."""

import base64
import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit._colours import Exposure
from smlmkit.errors import FileFormatError
from smlmkit.report.results import Acquisition, PixelBox

Pixels = NDArray[np.float32]

COLOUR_MAP = "inferno"
EXPOSURE = Exposure(percentile=99.9, gamma=1)

_MOST_CROP_PX = 4096**2
_LEAST_CROP_SIDE = 64
_ROOM = 16  # a code reaches so many times as far as the value that is drawn white
_OVERVIEW_PX = 512
_BAR_SHARE = 0.3


@dataclass(frozen=True)
class Thumbnail:
    """A picture of a whole field in a square frame, with a scale bar.

    Lengths are shares of the frame's side.

    Parameters
    ----------
    source : str
        The picture as a data URL.
    left, top, width, height : float
        Where it lies in the frame.
    bar : float
        Length of the scale bar.
    bar_label : str
        The same in words.
    side : int
        The frame's side in pixels of the image.
    """

    source: str
    left: float
    top: float
    width: float
    height: float
    bar: float
    bar_label: str
    side: int

    def place(self, box: PixelBox) -> tuple[float, float, float, float]:
        """Give where a box of pixels of the image lies in the frame.

        Parameters
        ----------
        box : PixelBox
            The box.

        Returns
        -------
        tuple of 4 float
            Left, top, width and height as shares of the frame's side.
        """
        height, width = box.shape
        return (
            self.left + box.left / self.side,
            self.top + box.top / self.side,
            width / self.side,
            height / self.side,
        )


@dataclass(frozen=True)
class CodedPicture:
    """Pixels as eight bits: a value is ``top * (code / 255)**2``.

    The square root makes the steps as fine as counting noise at every brightness.

    Parameters
    ----------
    source : str
        A PNG of the codes as a data URL.
    top : float
        The value of code 255, which stands for all above, too.
    white : float
        The value that is drawn as bright as can be.
    """

    source: str
    top: float
    white: float


@dataclass(frozen=True)
class Crop:
    """The same place before and after.

    Parameters
    ----------
    box : PixelBox
        The place.
    before, after : CodedPicture
        Raw counts and reconstruction.
    """

    box: PixelBox
    before: CodedPicture
    after: CodedPicture

    @property
    def n_bytes(self) -> int:
        """How much of a page it takes."""
        return len(self.before.source) + len(self.after.source)


def make_thumbnail(image: xr.DataArray, level: xr.DataArray) -> Thumbnail:
    """Draw a whole field.

    Parameters
    ----------
    image : DataArray of dims (..., y, x)
        Its reconstruction.
    level : DataArray of dims (..., y, x)
        What is drawn: the smallest level of the pyramid, or the image itself.

    Returns
    -------
    Thumbnail
        The picture.
    """
    height, width = image.shape[-2:]
    side = max(height, width)
    side_nm = side * float(image.attrs["pixel_size"])
    bar = _round_length(_BAR_SHARE * side_nm)
    return Thumbnail(
        source=_jpeg(_overview(level)),
        left=(side - width) / 2 / side,
        top=(side - height) / 2 / side,
        width=width / side,
        height=height / side,
        bar=bar / side_nm,
        bar_label=f"{bar / 1000:g} µm" if bar >= 1000 else f"{bar:g} nm",
        side=side,
    )


def make_crop(acquisition: Acquisition, image: xr.DataArray, most_bytes: float) -> Crop | None:
    """Read the crop of an acquisition and code it, from its middle only if it would be too large.

    Parameters
    ----------
    acquisition : Acquisition
        The acquisition.
    image : DataArray of dims (..., y, x)
        Its reconstruction.
    most_bytes : float
        What both pictures may take of the page.

    Returns
    -------
    Crop or None
        The pictures; None if no crop was kept.

    Raises
    ------
    FileFormatError
        If the file of raw counts is damaged, or is not of this image.
    """
    box = acquisition.crop
    if box is None:
        return None
    if acquisition.shape != image.shape[-2:]:
        raise FileFormatError(
            f"{acquisition.image}: the record tells of {acquisition.shape} pixels, the image has "
            f"{image.shape[-2:]}"
        )
    before = _read_counts(acquisition.pixels, box)
    after = _flat(image[..., box.top : box.bottom, box.left : box.right])
    inner = PixelBox(0, 0, *before.shape)
    while True:
        rows, columns = slice(inner.top, inner.bottom), slice(inner.left, inner.right)
        crop = Crop(
            PixelBox(
                box.top + inner.top,
                box.left + inner.left,
                box.top + inner.bottom,
                box.left + inner.right,
            ),
            code_pixels(before[rows, columns]),
            code_pixels(after[rows, columns]),
        )
        excess = crop.n_bytes / max(most_bytes, 1)
        if excess <= 1 or max(inner.shape) <= _LEAST_CROP_SIDE:
            return crop
        least = _LEAST_CROP_SIDE / max(inner.shape)
        inner = _shrink(inner, max(0.95 / math.sqrt(excess), least))


def code_pixels(values: Pixels) -> CodedPicture:
    """Code pixels as eight bits each.

    Parameters
    ----------
    values : ndarray of float32, shape (height, width)
        Localizations per pixel; what is negative or not finite counts as zero.

    Returns
    -------
    CodedPicture
        The codes.

    Examples
    --------
    >>> picture = code_pixels(np.array([[0, 1, 4]], np.float32))
    >>> picture.top, picture.source[:22]
    (4.0, 'data:image/png;base64,')
    """
    from PIL import Image

    lit = _lit(values)
    white = EXPOSURE.white_level(lit)
    top = min(float(lit.max()) or 1.0, _ROOM * white)
    codes = np.rint(255 * np.sqrt(lit.clip(max=top) / top)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(codes).save(buffer, "PNG")
    return CodedPicture(_data_url("image/png", buffer), top, white)


def colour_table() -> str:
    """Give the colours of the codes of brightness 0 to 255.

    Returns
    -------
    str
        Six hexadecimal digits a colour.

    Examples
    --------
    >>> len(colour_table()) == 256 * 6, colour_table()[:6]
    (True, '000003')
    """
    from matplotlib import colormaps

    return bytes(colormaps[COLOUR_MAP](np.arange(256), bytes=True)[:, :3]).hex()


def _jpeg(values: Pixels) -> str:
    from matplotlib import colormaps
    from PIL import Image

    lit = _lit(values)
    brightness = EXPOSURE.brightness(lit, EXPOSURE.white_level(lit))
    colours = colormaps[COLOUR_MAP](brightness, bytes=True)[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(colours)).save(
        buffer, "JPEG", quality=85, subsampling=0, optimize=True
    )
    return _data_url("image/jpeg", buffer)


def _data_url(kind: str, buffer: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(buffer.getbuffer()).decode()}"


def _overview(image: xr.DataArray) -> Pixels:
    """Give an image with sides of a few hundred pixels: the means of blocks, read in bands."""
    height, width = image.shape[-2:]
    factor = math.ceil(max(height, width) / _OVERVIEW_PX)
    rows, columns = min(factor, height), min(factor, width)
    height, width = height - height % rows, width - width % columns
    n_at_a_time = rows * math.ceil(_OVERVIEW_PX / rows)
    bands = (
        _flat(image[..., top : min(top + n_at_a_time, height), :width])
        for top in range(0, height, n_at_a_time)
    )
    blocks = (band.reshape(-1, rows, width // columns, columns) for band in bands)
    return np.concatenate([block.mean(axis=(1, 3)) for block in blocks])


def _flat(image: xr.DataArray) -> Pixels:
    """Add up the planes of a stack."""
    planes = image.to_numpy()
    total: Pixels = planes.reshape(-1, *planes.shape[-2:]).sum(axis=0, dtype=np.float32)
    return total


def _lit(values: Pixels) -> Pixels:
    """Put zero where a value is negative or not finite."""
    return np.where(np.isfinite(values) & (values > 0), values, np.float32(0))


def _shrink(box: PixelBox, factor: float) -> PixelBox:
    """Give the middle of a box, its sides shorter by a factor of less than 1."""
    height, width = (max(1, int(side * factor)) for side in box.shape)
    top = box.top + (box.shape[0] - height) // 2
    left = box.left + (box.shape[1] - width) // 2
    return PixelBox(top, left, top + height, left + width)


def _round_length(length: float) -> float:
    """Give the largest of 1, 2 and 5 times a power of ten that is not longer.

    Examples
    --------
    >>> [_round_length(length) for length in (1, 4.9, 700, 2001)]
    [1.0, 2.0, 500.0, 2000.0]
    """
    power = 10.0 ** math.floor(math.log10(length) + 1e-9)
    return max(factor * power for factor in (1, 2, 5) if factor * power <= length * (1 + 1e-9))


def _read_counts(path: Path, box: PixelBox) -> Pixels:
    """Read `before` of a file of NumPy whose header is checked before anything is allocated."""
    if box.shape[0] * box.shape[1] > _MOST_CROP_PX:
        raise FileFormatError(f"{path}: a crop of {box.shape} pixels is too large for a report")
    header = np.lib.format
    try:
        with zipfile.ZipFile(path) as archive, archive.open("before.npy") as file:
            header.read_magic(file)
            shape, is_transposed, dtype = header.read_array_header_1_0(file)
            planes = shape[:-2]
            if shape[-2:] != box.shape or dtype != np.float32 or is_transposed or planes:
                raise FileFormatError(
                    f"{path}: the raw counts should be float32 of shape {box.shape}, not {dtype} "
                    f"of shape {shape}"
                )
            data = file.read(4 * box.shape[0] * box.shape[1])
        return np.frombuffer(data, np.float32).reshape(box.shape)
    except FileFormatError:
        raise
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, EOFError, RuntimeError) as error:
        raise FileFormatError(f"{path}: cannot read the raw counts: {error}") from error
