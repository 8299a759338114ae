"""N2NReconstructor: learns from sparse blinks, without ground truth, to draw dense images."""

import copy
import math
from collections.abc import Mapping
from numbers import Integral, Real
from os import PathLike
from typing import Any

import numpy as np
import torch
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from smlmkit import __version__
from smlmkit.errors import InvalidInputError, ModelFileError, SmlmkitError
from smlmkit.histogram import render_histogram
from smlmkit.localizations import Localizations, RandomState
from smlmkit.nn.inference import predict_image
from smlmkit.nn.model_file import read_model, write_model
from smlmkit.nn.pairs import DynamicPairs
from smlmkit.nn.training import TrainingBudget, TrainingHistory, move_network, resolve_device, train
from smlmkit.nn.unet import UNet, build_unet
from smlmkit.samples import as_fovs

# What belongs to the machine or the session rather than to the model stays out of model files.
_NOT_SAVED = ("device", "random_state", "verbose")


class N2NReconstructor(BaseEstimator):
    """Reconstruct dense images from sparse localizations by Noise2Noise.

    A U-Net learns to predict one random half of the localizations from the other half. The halves
    are independent given the structure, so the best prediction is the expected density: no ground
    truth is needed. The defaults are those of the paper, which take hours on a GPU; `max_samples`,
    `max_seconds`, a smaller `width` and a larger `learning_rate` with ``schedule="linear"`` make
    minutes on a CPU worthwhile.

    Parameters
    ----------
    strategy : {"dynamic"}, default="dynamic"
        How pairs are made: cropped, rotated, mirrored, thinned and split anew for every sample.
    pixel_size : float, default=10.0
        Edge of a pixel in nm, of training and of prediction.
    patch_size : int, default=64
        Side of a training crop in pixels.
    keep : float, default=0.95
        Share of the localizations that take part in a pair, in (0, 1].
    depth : int, default=4
        Levels of the U-Net, 1 to 8; `patch_size` is a multiple of 2^depth.
    width : int, default=48
        Filters of every convolution, 1 to 1024.
    batch_size : int, default=128
        Pairs a training step.
    max_samples : int, default=1_000_000
        Training budget in pairs.
    max_seconds : float, optional
        Time limit of training in seconds. Where it ends training, the result depends on the speed
        of the machine.
    learning_rate : float, default=1e-4
        Step size of Adam.
    schedule : {"constant", "linear"}, default="constant"
        Whether the step size stays, or falls linearly to 0 over the budget.
    device : str, default="auto"
        ``"cpu"``, ``"cuda"``, ...; ``"auto"`` takes a GPU where there is one. Resolved at use;
        fitted weights always live on the CPU.
    random_state : int, RandomState or None, default=None
        Source of randomness. An int makes `fit` deterministic on the CPU.
    verbose : bool, default=True
        Whether `fit` shows a progress bar in terminals and notebooks.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained network, on the CPU.
    history_ : TrainingHistory
        Samples, loss and seconds at every training step, and why training stopped.

    See Also
    --------
    load_model : Read what `N2NReconstructor.save` wrote.

    Notes
    -----
    **Scale.** The network maps the counts of one half of the training tables to the expected counts
    of the other half. At prediction its input is a whole table, about twice as dense. How far the
    output follows depends on training: a network that saw one density only tends to answer with
    that density. So the scale is taken from the table itself: negative output is set to 0, and the
    image is multiplied by the one factor that makes its sum the number of localizations in the
    field of view. The factor stands in the image's attribute ``mass_factor``.

    **Tiles.** A field of view of any size is predicted in tiles that overlap by the network's
    receptive field, so the result does not depend on the tiling.

    References
    ----------
    Lefebvre et al. (2020), Noise2Noise for single-molecule localization microscopy.

    Examples
    --------
    >>> from smlmkit import N2NReconstructor, make_filaments
    >>> blinks, _ = make_filaments(field_size=2000, density=2000, random_state=0)
    >>> n2n = N2NReconstructor(max_samples=8, batch_size=4, patch_size=32, width=4, random_state=0)
    >>> image = n2n.fit_predict(blinks)
    >>> image.shape, n2n.history_.stopped_by
    ((200, 200), 'max_samples')
    >>> bool(abs(image.sum() - len(blinks)) < 0.01 * len(blinks))
    True
    """

    module_: UNet
    history_: TrainingHistory

    def __init__(
        self,
        strategy: str = "dynamic",
        *,
        pixel_size: float = 10.0,
        patch_size: int = 64,
        keep: float = 0.95,
        depth: int = 4,
        width: int = 48,
        batch_size: int = 128,
        max_samples: int = 1_000_000,
        max_seconds: float | None = None,
        learning_rate: float = 1e-4,
        schedule: str = "constant",
        device: str = "auto",
        random_state: RandomState = None,
        verbose: bool = True,
    ) -> None:
        self.strategy = strategy
        self.pixel_size = pixel_size
        self.patch_size = patch_size
        self.keep = keep
        self.depth = depth
        self.width = width
        self.batch_size = batch_size
        self.max_samples = max_samples
        self.max_seconds = max_seconds
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: object = None) -> "N2NReconstructor":  # noqa: ARG002
        """Train the network on pairs drawn from the tables.

        Ctrl-C ends training early, keeps the weights reached so far and warns.

        Parameters
        ----------
        X : Localizations or list of Localizations
            One table a field of view.
        y : None
            Ignored: there is no ground truth.

        Returns
        -------
        N2NReconstructor
            The fitted estimator.

        Raises
        ------
        InvalidInputError
            If a parameter is out of range, a field of view is too small for a patch, or there are
            no localizations.
        """
        _check_parameters(self.get_params())
        device = resolve_device(self.device)
        fovs, _ = as_fovs(X)
        weights_seed, pairs_seed = check_random_state(self.random_state).randint(2**31, size=2)
        pairs = DynamicPairs(
            [(fov.y, fov.x, fov.field_of_view) for fov in fovs],
            patch_size=self.patch_size,
            pixel_size=self.pixel_size,
            keep=self.keep,
            seed=int(pairs_seed),
        )
        budget = TrainingBudget(
            max_samples=self.max_samples,
            max_seconds=self.max_seconds,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
        )
        module = build_unet(self.depth, self.width, seed=int(weights_seed))
        self.history_ = train(module, pairs, budget, device, show_progress=self.verbose)
        self.module_ = module
        return self

    def predict(self, X: Any) -> Any:
        """Reconstruct the expected density of localizations.

        Parameters
        ----------
        X : Localizations or list of Localizations
            The tables.

        Returns
        -------
        DataArray or list of DataArray, dims (y, x)
            Expected localizations per pixel, float32, of the same sum as the table; one image for
            one table, a list for a list. The attribute ``mass_factor`` says by how much the
            network's output was scaled.

        Raises
        ------
        NotFittedError
            If the estimator was not fitted.
        """
        check_is_fitted(self, "module_")
        fovs, single = as_fovs(X)
        device = resolve_device(self.device)
        module = move_network(copy.deepcopy(self.module_), device)
        images = [_predict_fov(module, fov, self.pixel_size, device) for fov in fovs]
        return images[0] if single else images

    def fit_predict(self, X: Any, y: object = None) -> Any:
        """Train on tables and reconstruct the same tables.

        Parameters
        ----------
        X : Localizations or list of Localizations
            The tables.
        y : None
            Ignored.

        Returns
        -------
        DataArray or list of DataArray
            As `predict`.
        """
        return self.fit(X, y).predict(X)

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the fitted model to one file, read back by `load_model`.

        The file is a safetensors file. `device`, `random_state` and `verbose` are not saved.

        Parameters
        ----------
        path : path-like
            The file, by custom ``*.smlmkit``.
        overwrite : bool, default=False
            Whether an existing file is replaced.

        Raises
        ------
        NotFittedError
            If the estimator was not fitted.
        OutputError
            If the file exists or cannot be written; nothing half-written stays.
        """
        check_is_fitted(self, "module_")
        parameters = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params().items()
            if name not in _NOT_SAVED
        }
        header = {
            "library_version": __version__,
            "estimator": "N2NReconstructor",
            "parameters": parameters,
            "history": vars(self.history_),
        }
        write_model(path, self.module_.state_dict(), header, overwrite=overwrite)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        return tags


def load_model(path: str | PathLike[str], *, device: str = "auto") -> N2NReconstructor:
    """Read a fitted model that `N2NReconstructor.save` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    device : str, default="auto"
        Where the model shall compute.

    Returns
    -------
    N2NReconstructor
        The fitted estimator.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, of another version, or not such a model.
    """
    weights, header = read_model(path)
    try:
        parameters = header["parameters"]
        model = N2NReconstructor(**parameters, device=device)
        _check_parameters(model.get_params())
        module = build_unet(model.depth, model.width, seed=0)
        module.load_state_dict(weights)
        history = TrainingHistory(**header["history"])
    except (KeyError, TypeError, RuntimeError, SmlmkitError) as error:
        raise ModelFileError(f"{path}: not a model of this smlmkit: {error}") from error
    model.module_, model.history_ = module.eval(), history
    return model


def _predict_fov(
    module: UNet, fov: Localizations, pixel_size: float, device: torch.device
) -> xr.DataArray:
    """Give the network's output for one table, scaled to the table's own mass."""
    image = render_histogram(fov, pixel_size)
    counts = image.to_numpy()
    density = np.maximum(predict_image(module, counts, device), 0)
    mass, predicted_mass = len(fov), float(density.sum(dtype=np.float64))
    # Nothing in, nothing out; and a network that predicts nothing cannot be scaled.
    factor = mass / predicted_mass if predicted_mass > 0 else 0.0
    image = image.copy(data=density * np.float32(factor))
    image.attrs["mass_factor"] = factor
    return image


def _check_parameters(parameters: Mapping[str, Any]) -> None:
    """Check every parameter; the message names each that is out of range."""
    whole = {
        "patch_size": (1, 4096),
        "depth": (1, 8),
        "width": (1, 1024),
        "batch_size": (1, 1_000_000),
        "max_samples": (1, 10**15),
    }
    problems = [
        f"{name} must be a whole number from {low:,} to {high:,}, got {parameters[name]!r}"
        for name, (low, high) in whole.items()
        if not (isinstance(parameters[name], Integral) and low <= parameters[name] <= high)
    ]
    positive = ["pixel_size", "keep", "learning_rate"]
    if parameters["max_seconds"] is not None:
        positive.append("max_seconds")
    problems += [
        f"{name} must be a positive number, got {parameters[name]!r}"
        for name in positive
        if not (_is_finite(parameters[name]) and parameters[name] > 0)
    ]
    choices = {"strategy": ("dynamic",), "schedule": ("constant", "linear")}
    problems += [
        f"{name} must be one of {allowed}, got {parameters[name]!r}"
        for name, allowed in choices.items()
        if parameters[name] not in allowed
    ]
    if not problems and parameters["keep"] > 1:
        problems.append(f"keep must be at most 1, got {parameters['keep']!r}")
    if not problems and parameters["patch_size"] % 2 ** parameters["depth"]:
        problems.append(
            f"patch_size must be a multiple of 2^depth = {2 ** parameters['depth']}, "
            f"got {parameters['patch_size']}"
        )
    if problems:
        raise InvalidInputError("; ".join(problems))


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
