"""From structures to tables: curves are labelled, their emitters blink and are localized."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmkit._checks import (
    check_between,
    check_nonnegative,
    check_positive,
    check_whole,
    random_source,
)
from smlmkit._columns import freeze
from smlmkit._rows import inside
from smlmkit.errors import InvalidInputError
from smlmkit.grid import FieldOfView
from smlmkit.localizations import Localizations, RandomState
from smlmkit.simulate.blinks import (
    CAMERA_PIXEL_SIZE,
    draw_blink_counts,
    draw_errors,
    draw_frames,
    draw_uncertainty,
    photons_for,
)
from smlmkit.simulate.structures import Curves, Floats
from smlmkit.simulate.truth import Truth

AXIAL_FACTOR = 2.5
"""How many times as large the uncertainty along z is as those along x and y."""

# Sites outside of the field are drawn anew so many times; one in fifty has to lie inside.
_MOST_ROUNDS = 1000
# The ends of lines that were cut at the edge of the field may lie outside by rounding.
_ROUNDING = 1e-6


def make_blinks(
    curves: Curves,
    *,
    field_size: float | Sequence[float] = 20_000.0,
    density: float = 500.0,
    uncertainty: float = 10.0,
    uncertainty_spread: float = 0.3,
    blinks_per_emitter: float = 5.0,
    frames_between_blinks: float = 3.0,
    n_frames: int = 10_000,
    bleaching: float | None = None,
    background: float = 0.02,
    outliers: float = 0.0,
    background_photons: float = 0.0,
    linkage_error: float = 0.0,
    labelling_efficiency: float = 1.0,
    random_state: RandomState = None,
) -> tuple[Localizations, Truth]:
    """Simulate the acquisition of any structure.

    Parameters
    ----------
    curves : Curves
        The structure, as `smlmkit.simulate.Curves.through` makes it of points in nm. What lies
        outside of the field of view is not labelled.
    field_size : float or sequence of float, default=20_000
        Side of the square field of view in nm, or (height, width). Its corner is the origin.
    density : float, default=500
        Localizations per square micrometre of the whole field, background included, where all
        emitters are labelled.
    uncertainty : float, default=10
        Median uncertainty of a localization in nm. Photons follow from it: 169 at 10 nm without
        `background_photons`.
    uncertainty_spread : float, default=0.3
        Standard deviation of the logarithm of the uncertainty; 0 for localizations of one quality.
    blinks_per_emitter : float, default=5
        Mean number of blinks of an emitter, geometrically distributed. With 1, every localization
        has an emitter of its own, as in Lefebvre et al. 2020.
    frames_between_blinks : float, default=3
        Mean number of frames, at least 1, from one blink of an emitter to its next, geometrically
        distributed. Few are as in PALM, where an emitter blinks for a short while and is bleached;
        in dSTORM they are hundreds or thousands.
    n_frames : int, default=10_000
        Length of the acquisition. Emitters that blink for longer lose blinks before or after it:
        about exp(-n_frames / (blinks_per_emitter * frames_between_blinks)) of all blinks, by
        default none.
    bleaching : float, optional
        Mean number of frames until an emitter is bleached: first blinks become fewer as
        exp(-frame / bleaching). Without it they are uniform over the acquisition. It changes when
        emitters blink, and costs no localization: `density` is the total.
    background : float, default=0.02
        Share of localizations that lie uniformly in the field and come from no emitter.
    outliers : float, default=0
        Probability that the error of an emitter's blink is ten times as large as stated.
    background_photons : float, default=0
        Mean background photons in a camera pixel. The more there are, the more photons a blink has
        for its uncertainty; 0 is the limit of a dark background, where it needs the fewest.
    linkage_error : float, default=0
        Standard deviation in nm along each axis of the vector between an emitter's place on the
        structure and the fluorophore, which all of its blinks share.
    labelling_efficiency : float, default=1
        Share of the emitters that ever blink. The truth holds the others, too; the table has
        ``labelling_efficiency * density`` localizations per square micrometre.
    random_state : int, RandomState or None, default=None
        Source of randomness.

    Returns
    -------
    localizations : Localizations
        The blinks in the order of their frames, with the columns ``x``, ``y``, ``frame``,
        ``photons``, ``uncertainty_x`` and ``uncertainty_y``, for curves in space also ``z`` and
        ``uncertainty_z``, with background photons also ``background``. Exactly ``density * area``
        of them, rounded, are drawn where all emitters are labelled; the few that their error
        carries out of the field, and those before or after the acquisition, are left out.
    truth : Truth
        The emitters and curves they were drawn from.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range, which the message names, no curve lies in the field, or the
        blinks of an emitter take as long as the acquisition on average.

    Notes
    -----
    The steps are those of Lefebvre et al. 2020: emitters lie on the structure uniformly in arc
    length, on strips in area, and a blink's error is normal with the standard deviation that stands
    in its uncertainty, along z 2.5 times that along x and y. Everything that repeats or spoils
    localizations is added to them. `smlmkit.simulate.blinks` says how photons follow from the
    uncertainty. Background lies between the curves' lowest and highest z.

    No emitter lies outside of the field, from where errors would carry blinks into it: within about
    one uncertainty of its edge there are fewer localizations, down to half as many.

    Examples
    --------
    >>> from smlmkit.simulate import Curves
    >>> ring = 500 + 300 * np.exp(2j * np.pi * np.arange(360) / 360)
    >>> curves = Curves.through([np.column_stack([ring.imag + 500, ring.real])], closed=True)
    >>> blinks, truth = make_blinks(
    ...     curves, field_size=1000, density=3000, blinks_per_emitter=1, random_state=0
    ... )
    >>> len(blinks), len(truth.emitters), int((truth.emitter == -1).sum())
    (3000, 2940, 60)
    """
    field = field_of_size(field_size)
    check_positive(density=density, uncertainty=uncertainty)
    check_nonnegative(
        uncertainty_spread=uncertainty_spread,
        background_photons=background_photons,
        linkage_error=linkage_error,
    )
    check_between(
        1, 1e9, blinks_per_emitter=blinks_per_emitter, frames_between_blinks=frames_between_blinks
    )
    check_whole("n_frames", n_frames, low=1)
    blinking_time = (blinks_per_emitter - 1) * frames_between_blinks
    if blinking_time >= n_frames:
        raise InvalidInputError(
            f"n_frames must be above the {blinking_time:g} frames that the blinks of an emitter "
            f"take on average, got {n_frames}"
        )
    if bleaching is not None:
        check_positive(bleaching=bleaching)
    check_between(0, 1, background=background, outliers=outliers)
    check_between(0, 1, closed="right", labelling_efficiency=labelling_efficiency)
    rng = random_source(random_state)
    structure = curves.within(field)
    n_localizations = round(density * field.area_um2)
    n_background = round(background * n_localizations)

    blink_counts = draw_blink_counts(n_localizations - n_background, blinks_per_emitter, rng)
    sites, curve = _draw_sites(structure, len(blink_counts), field, rng)
    # Emitters are in random order, so that the first ones may be those that are labelled.
    blink_counts = blink_counts[: round(labelling_efficiency * len(blink_counts))]
    n_background = round(labelling_efficiency * n_background)
    emitter = np.repeat(np.arange(len(blink_counts)), blink_counts)
    n_drawn = len(emitter) + n_background
    sigma = draw_uncertainty(n_drawn, uncertainty, rng, spread=uncertainty_spread)
    positions = _blink_around(
        sites[:, : len(blink_counts)],
        blink_counts,
        draw_errors(sigma[: len(emitter)], len(sites), rng, outliers=outliers),
        linkage_error,
        rng,
    )
    strays = rng.uniform(*_corners(structure, field), size=(n_background, len(sites)))
    stray_frames = rng.randint(n_frames, size=n_background)
    frames = draw_frames(
        blink_counts,
        n_frames,
        rng,
        frames_between_blinks=frames_between_blinks,
        bleaching=bleaching,
    )

    table = {
        **_by_axis(np.append(positions, strays.T, axis=1)),
        "frame": np.append(frames, stray_frames),
        "uncertainty": sigma,
        "emitter": np.append(emitter, np.full(n_background, -1)),
    }
    seen = _seen_in_order(table, field, n_frames)
    emitter = seen.pop("emitter")
    localizations = Localizations(
        _as_columns(seen, background_photons),
        field_of_view=field,
        metadata={"camera_pixel_size": CAMERA_PIXEL_SIZE, "n_frames": int(n_frames)},
    )
    emitters = Localizations({**_by_axis(sites), "structure": curve}, field_of_view=field)
    return localizations, Truth(emitters, emitter, structure)


def field_of_size(field_size: float | Sequence[float]) -> FieldOfView:
    """Give the field of view with its corner in the origin.

    Parameters
    ----------
    field_size : float or sequence of float
        Side of a square in nm, or (height, width).

    Returns
    -------
    FieldOfView
        The field.

    Raises
    ------
    InvalidInputError
        If a side is not positive, or these are not two.

    Examples
    --------
    >>> field_of_size((1000, 2000)).area_um2
    2.0
    """
    sides = list(field_size) if isinstance(field_size, Sequence | np.ndarray) else [field_size] * 2
    if len(sides) != 2:
        raise InvalidInputError(f"field_size must be a side or (height, width), got {field_size!r}")
    for side in sides:
        check_positive(field_size=side)
    return FieldOfView(0.0, 0.0, float(sides[0]), float(sides[1]))


def _blink_around(
    sites: Floats,
    blink_counts: NDArray[np.intp],
    errors: Floats,
    linkage_error: float,
    rng: np.random.RandomState,
) -> Floats:
    """Give the positions of all blinks: around fluorophores, which are beside their sites."""
    positions = sites.repeat(blink_counts, axis=1)
    positions[:-2] += AXIAL_FACTOR * errors[:-2]
    positions[-2:] += errors[-2:]
    if linkage_error:
        linkage = rng.normal(scale=linkage_error, size=sites.shape)
        positions += linkage.repeat(blink_counts, axis=1)
    return positions


def _draw_sites(
    structure: Curves, n_sites: int, field: FieldOfView, rng: np.random.RandomState
) -> tuple[Floats, NDArray[np.intp]]:
    """Draw places in the field: their coordinates, one axis a row, and the curves they lie on."""
    if n_sites and not structure.measure:
        raise InvalidInputError(f"no part of the curves lies in the field of view {tuple(field)}")
    points, curve = structure.draw(n_sites, rng)
    lower, upper = np.array(field[:2]), np.array(field[2:])
    for _ in range(_MOST_ROUNDS):
        in_plane = points[:, -2:]
        is_outside = (in_plane < lower - _ROUNDING) | (in_plane > upper + _ROUNDING)
        outside = np.flatnonzero(is_outside.any(axis=1))
        if len(outside) == 0:
            break
        points[outside], curve[outside] = structure.draw(len(outside), rng)
    else:
        raise InvalidInputError(f"hardly any part of the curves lies in the field {tuple(field)}")
    sites = np.ascontiguousarray(points.T)
    sites[-2:].clip(lower[:, None], np.nextafter(upper, lower)[:, None], out=sites[-2:])
    return sites, curve


def _corners(structure: Curves, field: FieldOfView) -> tuple[Floats, Floats]:
    """Give the lower and the upper corner of the field, along z of the curves in it."""
    z = np.concatenate([structure.start, structure.end])[:, :-2]
    if len(z) == 0:
        z = np.zeros((1, z.shape[1]))
    return np.append(z.min(axis=0), field[:2]), np.append(z.max(axis=0), field[2:])


def _by_axis(positions: Floats) -> dict[str, Floats]:
    """Name the rows (y, x) or (z, y, x) of positions, x first."""
    return dict(zip("xyz", positions[::-1], strict=False))


def _seen_in_order(
    table: dict[str, NDArray[Any]], field: FieldOfView, n_frames: int
) -> dict[str, NDArray[Any]]:
    """Give the rows inside of the field and the acquisition in the order of their frames."""
    frame = table["frame"]
    in_time = (frame >= 0) & (frame < n_frames)
    seen = np.flatnonzero(in_time & inside(table["x"], table["y"], field))
    # numpy sorts numbers of up to 16 bits by radix.
    small = frame[seen].astype(np.min_scalar_type(n_frames - 1))
    rows = seen[np.argsort(small, kind="stable")]
    return {name: values[rows] for name, values in table.items()}


def _as_columns(seen: dict[str, NDArray[Any]], background_photons: float) -> dict[str, Any]:
    """Give the columns of a table; nobody else has their memory, so that it need not be copied."""
    sigma = seen.pop("uncertainty")
    columns = {**seen, "photons": photons_for(sigma, background=background_photons)}
    if background_photons:
        columns["background"] = np.full(len(sigma), float(background_photons))
    columns |= {"uncertainty_x": sigma, "uncertainty_y": sigma}
    if "z" in columns:
        columns["uncertainty_z"] = AXIAL_FACTOR * sigma
    return {name: freeze(values) for name, values in columns.items()}
