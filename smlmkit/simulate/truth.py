"""What a simulated table was drawn from."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit.drawing import canvas_for
from smlmkit.grid import FieldOfView
from smlmkit.images import to_image
from smlmkit.localizations import Localizations
from smlmkit.simulate.structures import Curves


@dataclass(frozen=True, eq=False)
class Truth:
    """What a simulated table was drawn from.

    Parameters
    ----------
    emitters : Localizations
        The m emitters at their true places on the structure, those included that were never seen.
        The column ``structure`` holds the number of the curve each one sits on.
    emitter : ndarray of shape (n,)
        For each of the n localizations the row of its emitter in `emitters`, -1 for background.
    curves : Curves
        The labelled structures inside the field of view. Lines end at its edge; of strips, the
        segments that may reach into it are there as a whole.

    Examples
    --------
    >>> from smlmkit import make_microtubules
    >>> blinks, truth = make_microtubules(field_size=2000, random_state=0)
    >>> from_emitter = truth.emitter >= 0
    >>> error = blinks.x[from_emitter] - truth.emitters.x[truth.emitter[from_emitter]]
    >>> bool(np.median(np.abs(error)) < 10)
    True
    """

    emitters: Localizations
    emitter: NDArray[np.intp]
    curves: Curves

    def image(
        self, pixel_size: float = 2.0, *, field_of_view: FieldOfView | None = None
    ) -> xr.DataArray:
        """Draw the structure: the localizations to expect per pixel if none had an error.

        Parameters
        ----------
        pixel_size : float, default=2.0
            Edge of a pixel in nm.
        field_of_view : FieldOfView or (y_min, x_min, y_max, x_max), optional
            The box in nm to draw, such as one tile of a field that is too large for one image; only
            its overlap with the field of view counts. By default the whole field.

        Returns
        -------
        DataArray of float32, dims (y, x)
            Expected localizations per pixel, without background. Over the whole field they sum to
            the number of localizations in the table that come from emitters. A tile whose edges are
            edges of pixels is that part of the whole.

        Raises
        ------
        InvalidInputError
            If the box does not overlap the field of view, or holds more than 2^31 pixels.

        Examples
        --------
        >>> from smlmkit import make_microtubules
        >>> _, truth = make_microtubules(field_size=2000, background=0, random_state=0)
        >>> image = truth.image(pixel_size=10)
        >>> image.shape, round(float(image.sum())), len(truth.emitter)
        ((200, 200), 1992, 1992)
        >>> tile = truth.image(pixel_size=10, field_of_view=(500, 0, 1000, 2000))
        >>> bool(np.allclose(tile, image[50:100]))
        True
        """
        none = self.emitters.select(slice(0))
        box = none if field_of_view is None else none.crop(field_of_view)
        grid, _ = canvas_for(box, pixel_size, None)
        raster = self.curves.raster(grid, self.emitters.field_of_view)
        raster *= self._localizations_per_measure
        return to_image(raster.astype(np.float32), grid)

    @cached_property
    def _localizations_per_measure(self) -> float:
        """Localizations of emitters per nm of line or nm^2 of strip in the field."""
        measure = self.curves.measure_within(self.emitters.field_of_view)
        return np.count_nonzero(self.emitter >= 0) / measure if measure else 0.0
