"""Renderer: a table of localizations becomes an image."""

from typing import Any

from sklearn.base import BaseEstimator, TransformerMixin

from smlmkit.errors import InvalidTypeError
from smlmkit.grid import PixelGrid, check_pixel_size
from smlmkit.histogram import render_histogram
from smlmkit.samples import as_fovs


class Renderer(TransformerMixin, BaseEstimator):
    """Render tables of localizations as images: exact counts per pixel.

    Parameters
    ----------
    pixel_size : float, default=10.0
        Edge of a pixel in nm.
    grid : PixelGrid, optional
        One grid for every table, for images that must match pixel by pixel. By default each table
        gets the grid of `pixel_size` that covers its field of view.

    Notes
    -----
    A localization at (y, x) counts in pixel (floor((y - y0) / p), floor((x - x0) / p)), computed in
    float64, where (y0, x0) is the corner of the field of view and p the pixel size. The sum of an
    image is the number of localizations inside.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit import Localizations, Renderer
    >>> blinks = Localizations(np.array([[5.0, 15.0], [6.0, 18.0]]), field_of_view=(0, 0, 20, 30))
    >>> Renderer(pixel_size=10).fit_transform(blinks).values
    array([[0., 0., 0.],
           [2., 0., 0.]], dtype=float32)
    """

    def __init__(self, pixel_size: float = 10.0, grid: PixelGrid | None = None) -> None:
        self.pixel_size = pixel_size
        self.grid = grid

    def fit(self, X: object, y: object = None) -> "Renderer":  # noqa: ARG002
        """Check the parameters; nothing is learnt.

        Parameters
        ----------
        X : Localizations or list of Localizations
            The tables.
        y : None
            Ignored.

        Returns
        -------
        Renderer
            The renderer itself.
        """
        self._check_parameters()
        as_fovs(X)
        return self

    def transform(self, X: Any) -> Any:
        """Render one table or a list of tables.

        Parameters
        ----------
        X : Localizations or list of Localizations
            The tables.

        Returns
        -------
        DataArray or list of DataArray
            Localizations per pixel, float32; one image for one table, a list for a list.
        """
        self._check_parameters()
        fovs, single = as_fovs(X)
        images = [render_histogram(fov, self.pixel_size, self.grid) for fov in fovs]
        return images[0] if single else images

    def _check_parameters(self) -> None:
        check_pixel_size(self.pixel_size)
        if self.grid is not None and not isinstance(self.grid, PixelGrid):
            raise InvalidTypeError(f"grid must be a PixelGrid or None, got {self.grid!r}")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        return tags
