"""What an estimator or a pipeline needs so that it can work tile by tile."""

import math
from collections import ChainMap
from collections.abc import Iterator
from typing import Any

from sklearn.pipeline import Pipeline

from smlmkit._checks import check_nonnegative
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.tiling import FieldFacts, TileNeeds


def needs_of(estimator: Any, facts: FieldFacts, reach: float | None = None) -> TileNeeds:
    """Tell what an estimator, or the steps of a pipeline together, need of a tile.

    Parameters
    ----------
    estimator : estimator or Pipeline
        From tables to images. It, or each of the pipeline's steps, has a method ``tile_needs`` that
        takes `FieldFacts` and gives `TileNeeds`.
    facts : FieldFacts
        What is known of the field of view.
    reach : float, optional
        How far around a tile the estimator sees, in nm, instead of what the steps say.

    Returns
    -------
    TileNeeds
        The sum of the steps' reaches, and what else all of them ask for.

    Raises
    ------
    InvalidInputError
        If a step cannot work tile by tile, no image comes out, or `reach` is negative.
    InvalidTypeError
        If a step does not say what it needs.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from smlmkit import GaussianKDE, IsolatedFilter, Renderer
    >>> smooth = make_pipeline(IsolatedFilter(radius=50), Renderer(pixel_size=10), GaussianKDE(20))
    >>> needs = needs_of(smooth, FieldFacts(pixel_size=None, maxima={}))
    >>> needs.reach, needs.halo_px
    (135.0, 14)
    """
    total = TileNeeds(pixel_size=facts.pixel_size)
    for name, step in _named_steps(estimator):
        needs = _needs_of_step(name, step, facts)
        total = TileNeeds(
            reach=total.reach + needs.reach,
            multiple=math.lcm(total.multiple, needs.multiple),
            pixel_size=needs.pixel_size,
            scales_to_mass=total.scales_to_mass or needs.scales_to_mass,
            empty_is_zero=total.empty_is_zero and needs.empty_is_zero,
        )
        lowered = dict(needs.maxima or {})
        maxima = ChainMap(lowered, facts.maxima)  # type: ignore[arg-type]  # nothing is written
        facts = FieldFacts(needs.pixel_size, maxima)
    if total.pixel_size is None:
        raise InvalidInputError(f"{estimator!r} makes no image of a table: put a Renderer last")
    if reach is None:
        return total
    check_nonnegative(reach=reach)
    return total._replace(reach=float(reach))


def steps_of(estimator: Any) -> list[Any]:
    """List the steps of a pipeline, and of pipelines in it, that do something.

    Parameters
    ----------
    estimator : estimator or Pipeline
        An estimator is its own only step.

    Returns
    -------
    list of estimator
        The steps, in order.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from smlmkit import IsolatedFilter, Renderer
    >>> steps_of(make_pipeline(make_pipeline(IsolatedFilter(), "passthrough"), Renderer(20)))
    [IsolatedFilter(), Renderer(pixel_size=20)]
    """
    return [step for _, step in _named_steps(estimator)]


def _named_steps(estimator: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give the steps of a pipeline, and of pipelines in it, by their names."""
    if not isinstance(estimator, Pipeline):
        yield prefix or type(estimator).__name__, estimator
        return
    for name, step in estimator.steps:
        if step is not None and step != "passthrough":
            yield from _named_steps(step, f"{prefix}__{name}" if prefix else name)


def _needs_of_step(name: str, step: Any, facts: FieldFacts) -> TileNeeds:
    if not hasattr(step, "tile_needs"):
        raise InvalidTypeError(
            f"the step {name!r}, {type(step).__name__}, does not say what it needs to work tile by "
            "tile: it has no method tile_needs"
        )
    try:
        needs = step.tile_needs(facts)
    except InvalidInputError as error:
        raise InvalidInputError(f"the step {name!r} cannot work tile by tile: {error}") from error
    if not isinstance(needs, TileNeeds):
        raise InvalidTypeError(f"tile_needs of the step {name!r} gives no TileNeeds but {needs!r}")
    return needs
