"""N2NReconstructor: learns from sparse blinks, without ground truth, to draw dense images."""

import copy
import math
import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from smlmkit import __version__
from smlmkit._checks import check_positive, check_whole, random_source
from smlmkit.drawing import render_histogram
from smlmkit.errors import (
    EmptyPredictionWarning,
    FitInterruptedWarning,
    InvalidInputError,
    ModelFileError,
    SmlmkitError,
    TrainingDivergedError,
)
from smlmkit.localizations import Localizations, RandomState
from smlmkit.nn.inference import predict_image
from smlmkit.nn.model_file import read_model, write_model
from smlmkit.nn.pairs import DynamicPairs, FixedPairs, Pairs
from smlmkit.nn.training import (
    TrainingBudget,
    TrainingHistory,
    TrainingStep,
    move_network,
    resolve_device,
    train,
)
from smlmkit.nn.unet import UNet, build_unet, unet_without_weights
from smlmkit.samples import as_fovs

# What makes the pairs of each strategy, and which of the parameters it takes.
_STRATEGIES: dict[str, tuple[Callable[..., Pairs], tuple[str, ...]]] = {
    "fixed": (FixedPairs, ("patch_size", "pixel_size")),
    "dynamic": (DynamicPairs, ("patch_size", "pixel_size", "keep")),
}

# What belongs to the machine or the session rather than to the model stays out of model files.
_NOT_SAVED = ("device", "random_state", "verbose")
_STEPS_KEY = "history.steps"


class N2NReconstructor(BaseEstimator):
    """Reconstruct dense images from sparse localizations by Noise2Noise.

    A U-Net learns to predict one random half of the localizations from the other half. The halves
    are independent given the structure, so the best prediction is the expected density: no ground
    truth is needed. The defaults are those of the paper, which take hours on a GPU; `max_samples`,
    `max_seconds`, a smaller `width` and a larger `learning_rate` with ``schedule="linear"`` make
    minutes on a CPU worthwhile.

    Parameters
    ----------
    strategy : {"fixed", "dynamic"}, default="dynamic"
        How pairs are made: ``"fixed"`` splits every field of view once and crops both halves,
        ``"dynamic"`` crops, rotates, mirrors, thins and splits the points anew for every sample.
    pixel_size : float, default=10.0
        Edge of a pixel in nm, of training and of prediction.
    patch_size : int, default=64
        Side of a training crop in pixels.
    keep : float, default=0.95
        Share of the localizations that take part in a dynamic pair, in (0, 1]. All of them take
        part in fixed pairs.
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
        Step size of Adam, at most 1.
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
    fitted_parameters_ : dict
        The parameters that the network was trained with.

    See Also
    --------
    load_model : Read what `N2NReconstructor.save` wrote.

    Notes
    -----
    **Strategies.** With ``"fixed"``, each localization goes to one of two halves by a fair coin
    before training. A pair is the same crop of both halves' images, at a random place in whole
    pixels, in one of the eight orientations that flips and quarter turns give, and with either half
    as the input. It needs 8 bytes of memory for each pixel of the training fields, and shows the
    network the same noise again and again. With ``"dynamic"``, a pair is drawn from the points: a
    crop at any place and angle, mirrored or not, of which a share of `keep` takes part and goes to
    input or target by a fair coin. No pair is seen twice.

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
    fitted_parameters_: dict[str, Any]

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

        Ctrl-C ends training early, keeps the weights reached so far and warns. In a search over
        parameters it ends the present fit only, and the search goes on.

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
        TrainingDivergedError
            If the loss or a weight is not finite.

        Warns
        -----
        FitInterruptedWarning
            If Ctrl-C ended training early.
        """
        parameters = _check_parameters(self.get_params())
        device = resolve_device(self.device)
        fovs, _ = as_fovs(X)
        weights_seed, pairs_seed = random_source(self.random_state).randint(2**31, size=2)
        make_pairs, names = _STRATEGIES[parameters["strategy"]]
        pairs = make_pairs(
            [(fov.y, fov.x, fov.field_of_view) for fov in fovs],
            **{name: parameters[name] for name in names},
            seed=int(pairs_seed),
        )
        budget = TrainingBudget(
            max_samples=parameters["max_samples"],
            max_seconds=parameters["max_seconds"],
            batch_size=parameters["batch_size"],
            learning_rate=parameters["learning_rate"],
            schedule=parameters["schedule"],
        )
        module = build_unet(parameters["depth"], parameters["width"], seed=int(weights_seed))
        history = train(module, pairs, budget, device, show_progress=self.verbose)
        self.module_, self.history_, self.fitted_parameters_ = module, history, parameters
        if history.stopped_by == "interrupt":
            warnings.warn(
                f"training was interrupted after at least {history.steps[-1].samples:,} of "
                f"{self.max_samples:,} samples; the weights reached so far are kept",
                FitInterruptedWarning,
                stacklevel=2,
            )
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
        TrainingDivergedError
            If the network's output is not finite.

        Warns
        -----
        EmptyPredictionWarning
            If the network sees nothing in a table that holds localizations; the image is then 0.
        """
        check_is_fitted(self, "module_")
        fovs, single = as_fovs(X)
        device = resolve_device(self.device)
        module = move_network(copy.deepcopy(self.module_), device)
        pixel_size = self.fitted_parameters_["pixel_size"]
        images = [_predict_fov(module, fov, pixel_size, device) for fov in fovs]
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
        saved = self.fitted_parameters_.items()
        header = {
            "library_version": __version__,
            "estimator": "N2NReconstructor",
            "parameters": {name: value for name, value in saved if name not in _NOT_SAVED},
            "stopped_by": self.history_.stopped_by,
        }
        steps = torch.tensor(self.history_.steps, dtype=torch.float64).reshape(-1, 3)
        tensors = {**self.module_.state_dict(), _STEPS_KEY: steps}
        write_model(path, tensors, header, overwrite=overwrite)

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
    tensors, header = read_model(path)
    try:
        model = N2NReconstructor(**header["parameters"], device=device)
        parameters = _check_parameters(model.get_params())
        steps = [TrainingStep(int(n), loss, s) for n, loss, s in tensors.pop(_STEPS_KEY).tolist()]
        history = TrainingHistory(steps, str(header["stopped_by"]))
        module = unet_without_weights(parameters["depth"], parameters["width"])
        module.load_state_dict(tensors, assign=True)
    except (KeyError, OverflowError, RuntimeError, TypeError, ValueError, SmlmkitError) as error:
        raise ModelFileError(f"{path}: not a model of this smlmkit: {error}") from error
    for weights in tensors.values():
        if weights.dtype != torch.float32 or not torch.isfinite(weights).all():
            raise ModelFileError(f"{path}: not a model of this smlmkit: damaged weights")
    model.module_, model.history_ = module.eval(), history
    model.fitted_parameters_ = parameters
    return model


def _predict_fov(
    module: UNet, fov: Localizations, pixel_size: float, device: torch.device
) -> xr.DataArray:
    """Give the network's output for one table, scaled to the table's own mass."""
    image = render_histogram(fov, pixel_size)
    counts = image.to_numpy()
    density = np.maximum(predict_image(module, counts, device), 0)
    mass, predicted_mass = len(fov), float(density.sum(dtype=np.float64))
    if not math.isfinite(predicted_mass):
        raise TrainingDivergedError("the network's output is not finite: its training diverged")
    if mass and not predicted_mass:
        warnings.warn(
            f"the network sees nothing in a table of {mass:,} localizations: the image is 0",
            EmptyPredictionWarning,
            stacklevel=3,
        )
    factor = mass / predicted_mass if predicted_mass else 0.0
    image = image.copy(data=(density * np.float64(factor)).astype(np.float32))
    image.attrs["mass_factor"] = factor
    return image


def _check_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Check every parameter and give all of them as plain Python objects, which JSON can hold."""
    checked = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in parameters.items()
    }
    check_whole("depth", checked["depth"], 1, 8)
    check_whole("width", checked["width"], 1, 1024)
    check_whole("patch_size", checked["patch_size"], 1, 4096)
    check_whole("batch_size", checked["batch_size"], 1, 1_000_000)
    check_whole("max_samples", checked["max_samples"], 1, 10**15)
    check_positive(**{name: checked[name] for name in ("pixel_size", "keep", "learning_rate")})
    if checked["max_seconds"] is not None:
        check_positive(max_seconds=checked["max_seconds"])
    for name, allowed in (
        ("strategy", tuple(_STRATEGIES)),
        ("schedule", ("constant", "linear")),
    ):
        if checked[name] not in allowed:
            raise InvalidInputError(f"{name} must be one of {allowed}, got {checked[name]!r}")
    for name in ("keep", "learning_rate"):
        if checked[name] > 1:
            raise InvalidInputError(f"{name} must be at most 1, got {checked[name]!r}")
    if checked["patch_size"] % 2 ** checked["depth"]:
        raise InvalidInputError(
            f"patch_size must be a multiple of 2^depth = {2 ** checked['depth']}, "
            f"got {checked['patch_size']}"
        )
    return checked
