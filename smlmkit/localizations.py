"""The table of localizations: columns, field of view, metadata.

Lengths are nm. A table never changes: whatever selects, splits or joins gives a new one, which
shares the columns' memory where it can.
"""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from smlmkit._checks import random_source
from smlmkit._columns import as_frames, check_columns, freeze, raw_columns
from smlmkit._rows import (
    bounding_field,
    check_rows,
    cut_into_tiles,
    frame_span,
    in_first_blocks,
    inside,
    usable_rows,
)
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import FieldOfView, check_field_of_view

Table = pd.DataFrame | Mapping[str, ArrayLike] | NDArray[Any]
RandomState = int | np.random.RandomState | None
Rows = slice | NDArray[np.bool_] | NDArray[np.integer]


class Localizations:
    """A table of localizations that knows its field of view.

    Rows whose x or y is not finite, or that lie outside the field of view, cannot be used: they are
    left out and counted in an `UnusedRowsWarning`. So every row of a table lies in its field.

    Parameters
    ----------
    table : DataFrame, mapping of columns, structured array or array of shape (n, 2) or (n, 3)
        The localizations. ``x`` and ``y`` (nm) are required; ``z``, ``frame`` (0-based),
        ``photons``, ``background``, ``uncertainty_x/y/z``, ``sigma_x/y``, ``channel`` and
        ``detections`` have a meaning; any other column survives under its own name. The columns
        of a plain array are x, y and z. Writable memory is copied; read-only memory is shared.
    field_of_view : FieldOfView or (y_min, x_min, y_max, x_max), optional
        The box in nm that was imaged. Without it, the smallest box of whole nm around the rows.
    metadata : mapping, optional
        What else is known of the acquisition: anything that JSON can hold. Warnings name its
        ``source``, the file that a table was read from.

    Raises
    ------
    InvalidTypeError
        If the table is of a kind that is not taken.
    InvalidInputError
        If a column is missing, of the wrong kind or of another length, or if an empty table comes
        without a field of view.

    Examples
    --------
    >>> import numpy as np
    >>> xy = np.array([[10.0, 20.0], [990.0, 480.0]])
    >>> blinks = Localizations(xy, field_of_view=(0, 0, 500, 1000))
    >>> len(blinks), blinks.columns, blinks.density
    (2, ('x', 'y'), 4.0)
    >>> blinks["x"]
    array([ 10., 990.])
    >>> left = blinks.crop((0, 0, 500, 500))
    >>> len(left), left.field_of_view.width
    (1, 500.0)
    """

    __slots__ = ("_columns", "_field_of_view", "_metadata_json")

    _columns: dict[str, NDArray[Any]]
    _field_of_view: FieldOfView
    _metadata_json: str

    def __init__(
        self,
        table: Table,
        *,
        field_of_view: FieldOfView | Sequence[float] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        raw = raw_columns(table)
        columns = check_columns(raw)
        box = None if field_of_view is None else check_field_of_view(field_of_view)
        source = (metadata or {}).get("source")
        usable = usable_rows(columns["x"], columns["y"], box, f"{source}: " if source else "")
        if usable is not None:
            columns = {name: values[usable] for name, values in columns.items()}
        if "frame" in columns:
            columns["frame"] = as_frames(columns["frame"])
        self._columns = {name: freeze(values, raw[name]) for name, values in columns.items()}
        self._field_of_view = box or bounding_field(columns["x"], columns["y"])
        self._metadata_json = _metadata_to_json(metadata or {})

    @classmethod
    def _from_valid(
        cls, columns: dict[str, NDArray[Any]], field_of_view: FieldOfView, metadata_json: str
    ) -> "Localizations":
        """Wrap columns that are known to be valid, without checks and without copies."""
        new = object.__new__(cls)
        new._columns = {name: freeze(values) for name, values in columns.items()}
        new._field_of_view = field_of_view
        new._metadata_json = metadata_json
        return new

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self._columns)

    @property
    def field_of_view(self) -> FieldOfView:
        """The box in nm that was imaged; every subset keeps it."""
        return self._field_of_view

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy of what else is known of the acquisition."""
        metadata: dict[str, Any] = json.loads(self._metadata_json)
        return metadata

    @property
    def x(self) -> NDArray[np.float64]:
        """The x of every row in nm (read-only)."""
        return self._columns["x"]

    @property
    def y(self) -> NDArray[np.float64]:
        """The y of every row in nm (read-only)."""
        return self._columns["y"]

    @property
    def density(self) -> float:
        """The number of localizations per square micrometre of the field of view."""
        return len(self) / self._field_of_view.area_um2

    @property
    def median_uncertainty(self) -> float | None:
        """The median of ``uncertainty_x`` in nm; None where none is known."""
        known = self._columns.get("uncertainty_x", np.empty(0))
        known = known[np.isfinite(known)]
        return float(np.median(known)) if len(known) else None

    def __len__(self) -> int:
        return len(self._columns["x"])

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if not isinstance(name, str):
            raise InvalidTypeError(
                f"a table is indexed by the name of a column, got {type(name).__name__}; rows: use "
                "select. For scikit-learn a single table is one sample: pass a list of fields of "
                "view or table.tiles(size)"
            )
        if name not in self._columns:
            raise KeyError(f"no column {name!r}; there are {', '.join(self._columns)}")
        return self._columns[name]

    def select(self, rows: Rows) -> "Localizations":
        """Give the table of some rows; a slice shares memory.

        Parameters
        ----------
        rows : slice, array of bool of shape (n,) or array of int of shape (m,)
            Which rows, in which order.

        Returns
        -------
        Localizations
            These rows, with the same field of view.

        Raises
        ------
        InvalidTypeError
            If `rows` is neither a slice nor a one-dimensional array of booleans or integers.
        InvalidInputError
            If a boolean array has another length than the table, or a row is not there.
        """
        if not isinstance(rows, slice):
            rows = check_rows(rows, len(self))
        return self._with_rows(rows, self._field_of_view)

    def crop(self, field_of_view: FieldOfView | Sequence[float]) -> "Localizations":
        """Give the rows inside a box; the box becomes the field of view.

        Parameters
        ----------
        field_of_view : FieldOfView or (y_min, x_min, y_max, x_max)
            The box in nm; only its overlap with the present field of view counts.

        Returns
        -------
        Localizations
            The rows in the box.

        Raises
        ------
        InvalidInputError
            If the box does not overlap the field of view.
        """
        box, own = check_field_of_view(field_of_view), self._field_of_view
        overlap = FieldOfView(
            max(box.y_min, own.y_min),
            max(box.x_min, own.x_min),
            min(box.y_max, own.y_max),
            min(box.x_max, own.x_max),
        )
        if overlap.height <= 0 or overlap.width <= 0:
            raise InvalidInputError(f"{box} does not overlap the field of view {own}")
        return self._with_rows(inside(self.x, self.y, overlap), overlap)

    def tiles(self, size: float, *, min_localizations: int = 0) -> list["Localizations"]:
        """Cut the field of view into square tiles: samples for cross-validation.

        Parameters
        ----------
        size : float
            Side of a tile in nm. Edges lie at whole multiples of it from the field's corner; the
            last row and column of tiles also take what is left over, less than one more tile.
        min_localizations : int, default=0
            Tiles with fewer localizations are left out: a scorer cannot split an empty one.

        Returns
        -------
        list of Localizations
            The tiles, row by row. Each localization is in one of them, in its order; a tile's field
            of view is its box. They share memory with one another.

        Raises
        ------
        InvalidInputError
            If `size` is not positive or makes more than 65,536 tiles, or `min_localizations` is
            negative.

        Examples
        --------
        >>> import numpy as np
        >>> blinks = Localizations(np.array([[10.0, 20.0], [990.0, 480.0]]))
        >>> [(len(tile), tile.field_of_view.width) for tile in blinks.tiles(400)]
        [(1, 400.0), (1, 581.0)]
        """
        order, tiles = cut_into_tiles(self.x, self.y, self._field_of_view, size, min_localizations)
        by_tile = self._with_rows(order, self._field_of_view)
        return [by_tile._with_rows(rows, box) for rows, box in tiles]

    def thin(self, fraction: float, random_state: RandomState = None) -> "Localizations":
        """Keep every row with the same probability, independently.

        Parameters
        ----------
        fraction : float
            Probability of keeping a row, in [0, 1].
        random_state : int, RandomState or None, default=None
            Source of randomness.

        Returns
        -------
        Localizations
            The kept rows, in their order.

        Raises
        ------
        InvalidInputError
            If `fraction` is not in [0, 1].
        """
        if not 0 <= fraction <= 1:
            raise InvalidInputError(f"fraction must be in [0, 1], got {fraction!r}")
        kept = random_source(random_state).random_sample(len(self)) < fraction
        return self._with_rows(kept, self._field_of_view)

    def split(
        self,
        by: Literal["auto", "frames", "random"] = "auto",
        *,
        n_blocks: int = 10,
        random_state: RandomState = None,
    ) -> tuple["Localizations", "Localizations"]:
        """Split into two disjoint tables that hold all rows together and share one field of view.

        Blocks of frames keep the blinks of one emitter, which follow one another, in one half. With
        a random split both halves see the same blink sequence, and their agreement (an FRC, say)
        looks better than it is.

        Parameters
        ----------
        by : {"auto", "frames", "random"}, default="auto"
            ``"frames"``: blocks of equally many frames; ``"random"``: each row by a fair coin;
            ``"auto"``: by frames where a ``frame`` column spans at least `n_blocks` frames.
        n_blocks : int, default=10
            Number of blocks of frames, at least 2.
        random_state : int, RandomState or None, default=None
            Source of randomness. With blocks, None alternates them, so that slow changes such as
            bleaching weigh on both halves alike; otherwise half of the blocks are drawn.

        Returns
        -------
        tuple of Localizations
            The two halves.

        Raises
        ------
        InvalidInputError
            If `by` is unknown, or frames are asked for and there are too few.
        """
        if by not in ("auto", "frames", "random"):
            raise InvalidInputError(f"by must be 'auto', 'frames' or 'random', got {by!r}")
        if by == "random" or (by == "auto" and frame_span(self._frame) < n_blocks):
            first = random_source(random_state).random_sample(len(self)) < 0.5
        else:
            first = in_first_blocks(self._frame, n_blocks, random_state)
        return (
            self._with_rows(first, self._field_of_view),
            self._with_rows(~first, self._field_of_view),
        )

    def to_frame(self) -> pd.DataFrame:
        """Give the columns as a DataFrame that may be changed freely.

        Returns
        -------
        DataFrame
            One column a column, in nm where they are lengths.
        """
        return pd.DataFrame(self._columns, copy=True)

    def _with_rows(self, rows: Rows, field_of_view: FieldOfView) -> "Localizations":
        columns = {name: values[rows] for name, values in self._columns.items()}
        return self._from_valid(columns, field_of_view, self._metadata_json)

    @property
    def _frame(self) -> NDArray[np.int64]:
        return self._columns.get("frame", np.empty(0, np.int64))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Localizations):
            return NotImplemented
        return (
            self.columns == other.columns
            and self._field_of_view == other._field_of_view
            and self._metadata_json == other._metadata_json
            and all(_same_values(self[name], other[name]) for name in self)
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Localizations._from_valid, (
            self._columns,
            self._field_of_view,
            self._metadata_json,
        )

    def __repr__(self) -> str:
        facts = ", ".join(f"{value} {label}".strip() for label, value in self._summary())
        return f"Localizations({facts}; {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{label or 'size'}</th><td>{value}</td></tr>"
            for label, value in self._summary()
        )
        names = html.escape(", ".join(self.columns))
        return (
            f"<table><caption>Localizations</caption>{rows}"
            f"<tr><th style='text-align:left'>columns</th><td>{names}</td></tr></table>"
        )

    def _summary(self) -> list[tuple[str, str]]:
        """List (label, value) of what a person wants to know first."""
        field = self._field_of_view
        facts = [
            ("localizations", f"{len(self):,}"),
            ("", f"{field.width / 1000:.4g} x {field.height / 1000:.4g} µm"),
            ("per µm²", f"{self.density:.4g}"),
        ]
        if n_frames := frame_span(self._frame):
            facts.append(("frames", f"{n_frames:,}"))
        if (median := self.median_uncertainty) is not None:
            facts.append(("nm median uncertainty", f"{median:.3g}"))
        return facts


def concat(tables: Sequence[Localizations]) -> Localizations:
    """Join tables row after row; the field of view is the smallest box around all of theirs.

    Parameters
    ----------
    tables : sequence of Localizations
        Tables with the same columns. Metadata that all of them agree on is kept.

    Returns
    -------
    Localizations
        All rows.

    Raises
    ------
    InvalidInputError
        If there is no table, or a table has other columns than the first one.
    InvalidTypeError
        If one of them is no table.

    Examples
    --------
    >>> import numpy as np
    >>> first, second = Localizations(np.array([[10.0, 20.0], [30.0, 40.0]])).split(random_state=0)
    >>> len(concat([first, second]))
    2
    """
    if len(tables) == 0:
        raise InvalidInputError("concat needs at least one table")
    if not all(isinstance(table, Localizations) for table in tables):
        raise InvalidTypeError(f"concat joins Localizations, got {list(map(type, tables))}")
    names = tables[0].columns
    for position, table in enumerate(tables):
        if set(table.columns) != set(names):
            differing = sorted(set(table.columns) ^ set(names))
            raise InvalidInputError(
                f"table {position} and table 0 do not have the same columns: {differing}"
            )
    field, common = tables[0].field_of_view, tables[0].metadata
    for table in tables[1:]:
        field = field.union(table.field_of_view)
        other = table.metadata
        common = {
            key: value for key, value in common.items() if key in other and other[key] == value
        }
    columns = {name: np.concatenate([table[name] for table in tables]) for name in names}
    return Localizations._from_valid(columns, field, _metadata_to_json(common))


def _same_values(first: NDArray[Any], second: NDArray[Any]) -> bool:
    return np.array_equal(first, second, equal_nan=first.dtype.kind == "f" == second.dtype.kind)


def _metadata_to_json(metadata: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(metadata), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(f"metadata must be what JSON can hold: {error}") from None
