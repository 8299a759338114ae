"""Targets that are dense: another table, an image, or the density estimate of a whole table."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import clone

from smlmkit.drawing import render_counts
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.localizations import Localizations
from smlmkit.nn.clouds import PointCloud, TargetImage
from smlmkit.nn.pairs import Draw
from smlmkit.samples import Target
from smlmkit.strategies._intervals import Share, check_share, first_share, window
from smlmkit.strategies._sources import (
    Slab,
    as_target_cloud,
    as_target_image,
    frames_of,
    spread_counts,
)
from smlmkit.strategies.base import Strategy


class NoiseToClean(Strategy):
    """Learn from a dense table or an image of the same field of view: supervised training.

    Parameters
    ----------
    keep : float or (low, high), default=1.0
        The share of the localizations that an input shows, in (0, 1], or the range from which each
        input's share is drawn uniformly.

    Raises
    ------
    InvalidInputError
        When pairs are made, if `keep` is out of range, or the targets are missing, of another
        number than the tables or do not cover their field of view, to half a pixel.

    See Also
    --------
    SparseToDense : Makes the targets from the tables themselves.

    Notes
    -----
    What Noise2Noise is compared with [1]_. Crops are those of `DynamicHalves`. The input counts the
    localizations of X, the target all those of the dense table in y at the same place and angle.

    An image in y is sampled bilinearly at the centres of the crop's pixels and multiplied by
    (pixel_size / its pixel size)², so that it stays in expected localizations per pixel. It should
    be smooth over the pixels of the crop: sampling does not average over finer pixels.

    References
    ----------
    .. [1] Lehtinen et al. (2018), Noise2Noise: learning image restoration without clean data.

    Examples
    --------
    >>> from smlmkit import make_microtubules
    >>> dense, _ = make_microtubules(field_size=2000, density=500, random_state=0)
    >>> sparse = dense.thin(0.1, random_state=0)
    >>> pairs = NoiseToClean().make_pairs([sparse], [dense], patch_size=32, pixel_size=20, seed=0)
    >>> inputs, targets = pairs.draw(100)
    >>> bool(5 < targets.sum() / inputs.sum() < 20)
    True
    """

    name: ClassVar[str] = "n2c"
    needs_targets: ClassVar[bool] = True

    def __init__(self, keep: Share = 1.0) -> None:
        self.keep = keep

    def check_parameters(self) -> None:
        """Refuse parameters that cannot be used.

        Raises
        ------
        InvalidInputError
            If `keep` is out of range.
        """
        check_share("keep", self.keep)

    def _draw(self) -> Draw:
        return Draw(partial(first_share, keep=check_share("keep", self.keep)))

    def _targets(
        self,
        slabs: Sequence[Slab],
        targets: Sequence[Target] | None,
        pixel_size: float,
        z_edges: NDArray[np.float64] | None,
    ) -> list[PointCloud] | list[TargetImage]:
        if targets is None:
            raise InvalidInputError("strategy 'n2c' needs y: a table or image for each of X")
        if len(targets) != len(slabs):
            raise InvalidInputError(f"X has {len(slabs)} fields of view, y has {len(targets)}")
        boxes = [slab.table.field_of_view for slab in slabs]
        tables = [target for target in targets if isinstance(target, Localizations)]
        if len(tables) == len(boxes):
            clouds = [
                as_target_cloud(table, box, pixel_size, z_edges, f"y[{i}]")
                for i, (table, box) in enumerate(zip(tables, boxes, strict=True))
            ]
            if not any(len(cloud.y) for cloud in clouds):
                raise InvalidInputError("y holds no localizations in the fields of view of X")
            return clouds
        images = [target for target in targets if isinstance(target, xr.DataArray)]
        if len(images) == len(boxes):
            return [
                as_target_image(image, box, z_edges, f"y[{i}]")
                for i, (image, box) in enumerate(zip(images, boxes, strict=True))
            ]
        kinds = ", ".join(sorted({type(target).__name__ for target in targets}))
        raise InvalidTypeError(
            f"y must hold tables (Localizations) or images (DataArray), one kind, got {kinds}"
        )


class SparseToDense(Strategy):
    """Learn the density estimate of all localizations from those of a short stretch of frames.

    Parameters
    ----------
    target : transformer, optional
        What estimates the density: it is cloned and gets each table's image of counts or, if it
        takes no images (a pipeline that starts with a `Renderer`), the table itself. By default the
        anisotropic density estimate of `AnisotropicKDE()`.
    share : float or (low, high), default=(0.05, 0.3)
        The share of a table's localizations that an input shows of its crop, in (0, 1], or the
        range from which each input's share is drawn uniformly.
    windows : {"auto", "frames", "random"}, default="auto"
        What an input shows: ``"frames"``: a random stretch of frames; ``"random"``: localizations
        of any frames; ``"auto"``: a stretch of frames of those tables that have a column ``frame``.

    Raises
    ------
    InvalidInputError
        When pairs are made, if a parameter is out of range, a table has no column ``frame`` with
        ``windows="frames"``, or the estimate does not cover the field of view, to half a pixel.
    InvalidTypeError
        When pairs are made, if `target` is no transformer, or gives no image.

    See Also
    --------
    NoiseToClean : Learns from given targets.

    Notes
    -----
    The training of [1]_, with crops like those of `DynamicHalves`, in which the target is sampled
    as in `NoiseToClean`. The target is the density of the whole table, not of the input's share.

    The localizations of a table are put in the order of their frames, those of one frame in random
    order, and without frames all of them. The window [s, s + share) of ranks over the number of
    localizations, with s uniform in [0, 1 - share), holds the share exactly; it may begin and end
    within a frame.

    References
    ----------
    .. [1] Berberich et al. (2021), Fourier ring correlation and anisotropic kernel density
       estimation improve deep learning based SMLM reconstruction of microtubules.

    Examples
    --------
    >>> from smlmkit import GaussianKDE, make_microtubules
    >>> blinks, _ = make_microtubules(field_size=2000, density=500, random_state=0)
    >>> strategy = SparseToDense(target=GaussianKDE(sigma=30), share=0.2)
    >>> strategy
    SparseToDense(share=0.2, target=GaussianKDE(sigma=30))
    >>> pairs = strategy.make_pairs([blinks], patch_size=32, pixel_size=20, seed=0)
    >>> inputs, targets = pairs.draw(100)
    >>> bool(0.15 < inputs.sum() / targets.sum() < 0.25)
    True
    """

    name: ClassVar[str] = "sparse2dense"

    def __init__(
        self,
        target: Any = None,
        share: Share = (0.05, 0.3),
        windows: Literal["auto", "frames", "random"] = "auto",
    ) -> None:
        self.target = target
        self.share = share
        self.windows = windows

    def check_parameters(self) -> None:
        """Refuse parameters that cannot be used.

        Raises
        ------
        InvalidInputError
            If one of them is out of range; the message names it.
        InvalidTypeError
            If `target` is no transformer.
        """
        check_share("share", self.share)
        if self.windows not in ("auto", "frames", "random"):
            raise InvalidInputError(
                f"windows must be 'auto', 'frames' or 'random', got {self.windows!r}"
            )
        is_transformer = hasattr(self.target, "fit_transform") and hasattr(
            self.target, "get_params"
        )
        if self.target is not None and (isinstance(self.target, type) or not is_transformer):
            raise InvalidTypeError(f"target must be a transformer or None, got {self.target!r}")

    def _draw(self) -> Draw:
        return Draw(partial(window, share=check_share("share", self.share)), lot=0.0)

    def _tickets(
        self, fov: Localizations, rng: np.random.Generator, label: str
    ) -> NDArray[np.float64]:
        coins = rng.random(len(fov))
        if self.windows == "random" or (self.windows == "auto" and "frame" not in fov):
            order = np.argsort(coins)
        else:
            order = np.lexsort((coins, frames_of(fov, label, "windows='frames'")))
        tickets = np.empty(len(fov))
        tickets[order] = np.arange(len(fov)) / max(len(fov), 1)
        return tickets

    def _targets(
        self,
        slabs: Sequence[Slab],
        targets: Sequence[Target] | None,  # noqa: ARG002
        pixel_size: float,
        z_edges: NDArray[np.float64] | None,
    ) -> list[TargetImage]:
        images = []
        for i, slab in enumerate(slabs):
            box, label = slab.table.field_of_view, f"the target of X[{i}]"
            estimate = self._estimate(slab, pixel_size, z_edges)
            images.append(as_target_image(estimate, box, z_edges, label))
        return images

    def _estimate(self, slab: Slab, pixel_size: float, z_edges: NDArray[np.float64] | None) -> Any:
        counts = render_counts(slab.table, pixel_size, z_edges)
        if self.target is None:
            return spread_counts(counts)
        try:
            return clone(self.target).fit_transform(counts)
        except TypeError as refusal:  # it may want the table
            try:
                return clone(self.target).fit_transform(slab.table)
            except TypeError as error:
                raise InvalidTypeError(
                    f"the target takes neither an image of counts ({refusal}) nor a table ({error})"
                ) from error
