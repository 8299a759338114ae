"""What transformers share that learn nothing: fit, lists, tags, errors that name the sample."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from sklearn.base import BaseEstimator, TransformerMixin

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.samples import as_fovs, as_images
from smlmkit.tiling import FieldFacts, TileNeeds


class StatelessTransformer(TransformerMixin, BaseEstimator, ABC):
    """Transforms each sample on its own; a subclass says which samples, and what is done to one."""

    @abstractmethod
    def _samples(self, X: Any) -> tuple[Sequence[Any], bool]:
        """Check X; give the list of samples, and whether X was a single one."""

    @abstractmethod
    def _transformation(self) -> Callable[[Any], Any]:
        """Check the parameters; give the function that transforms one sample."""

    def fit(self, X: Any, y: object = None) -> Self:  # noqa: ARG002
        """Check the parameters and the kind of samples; nothing is learnt.

        Parameters
        ----------
        X : sample or list of samples
            What `transform` takes.
        y : None
            Ignored.

        Returns
        -------
        estimator
            The estimator itself.
        """
        self._transformation()
        self._samples(X)
        return self

    def transform(self, X: Any) -> Any:
        """Transform one sample or a list of samples, each on its own.

        Parameters
        ----------
        X : sample or list of samples
            Tables or images, as the class says.

        Returns
        -------
        sample or list of samples
            One for one, a list for a list.
        """
        transform_one = self._transformation()
        samples, single = self._samples(X)
        if single:
            return transform_one(samples[0])
        results = []
        for position, sample in enumerate(samples):
            try:
                results.append(transform_one(sample))
            except (InvalidInputError, InvalidTypeError) as error:
                raise type(error)(f"X[{position}]: {error}") from error
        return results

    def tile_needs(self, facts: FieldFacts) -> TileNeeds:
        """Tell what is needed so that tiles come out as the parts of the whole do.

        Parameters
        ----------
        facts : FieldFacts
            What is known of the field of view when it reaches this transformer.

        Returns
        -------
        TileNeeds
            How far around a tile to read, and what leaves the transformer.

        Raises
        ------
        InvalidInputError
            If a parameter is out of range, tables come where images are taken or the other way
            round, or the transformer needs all of its input at once.
        """
        self._transformation()
        return self._tile_needs(facts)

    @abstractmethod
    def _tile_needs(self, facts: FieldFacts) -> TileNeeds:
        """Give the needs; the parameters were checked."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        return tags


class TableTransformer(StatelessTransformer):
    """Takes tables of localizations."""

    def _samples(self, X: Any) -> tuple[Sequence[Any], bool]:
        return as_fovs(X)

    def _tile_needs(self, facts: FieldFacts) -> TileNeeds:
        facts.check_tables(type(self).__name__)
        return self._table_needs(facts.maxima)

    @abstractmethod
    def _table_needs(self, maxima: Mapping[str, float]) -> TileNeeds:
        """Give the needs where the columns' largest values are these."""


class ImageTransformer(StatelessTransformer):
    """Takes images and stacks of images."""

    def _samples(self, X: Any) -> tuple[Sequence[Any], bool]:
        return as_images(X)

    def _tile_needs(self, facts: FieldFacts) -> TileNeeds:
        return self._image_needs(facts.pixel_size_for(type(self).__name__))

    @abstractmethod
    def _image_needs(self, pixel_size: float) -> TileNeeds:
        """Give the needs where images of this pixel size come in."""
