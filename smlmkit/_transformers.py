"""What transformers share that learn nothing: fit, lists, tags, errors that name the sample."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

from sklearn.base import BaseEstimator, TransformerMixin

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.samples import as_fovs, as_images


class StatelessTransformer(TransformerMixin, BaseEstimator, ABC):
    """Transforms each sample on its own; a subclass says which samples, and what is done to one."""

    @abstractmethod
    def _samples(self, X: Any) -> tuple[list[Any], bool]:
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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        return tags


class TableTransformer(StatelessTransformer):
    """Takes tables of localizations."""

    def _samples(self, X: Any) -> tuple[list[Any], bool]:
        return as_fovs(X)


class ImageTransformer(StatelessTransformer):
    """Takes images and stacks of images."""

    def _samples(self, X: Any) -> tuple[list[Any], bool]:
        return as_images(X)
