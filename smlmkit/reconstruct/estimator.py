"""N2NReconstructor: learns from sparse blinks, without ground truth, to draw dense images."""

import copy
import warnings
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from smlmkit._atomic import make_folder
from smlmkit._checks import random_source
from smlmkit.drawing import render_counts
from smlmkit.errors import (
    FitInterruptedWarning,
    InvalidInputError,
    InvalidTypeError,
    UnfamiliarTableWarning,
)
from smlmkit.localizations import Localizations, RandomState
from smlmkit.nn.base import Network
from smlmkit.nn.checkpoint import TrainingState
from smlmkit.nn.devices import move_network, resolve_device
from smlmkit.nn.history import TrainingHistory
from smlmkit.nn.plan import TrainingPlan
from smlmkit.reconstruct.familiarity import (
    describe_table,
    describe_tables,
    merge_descriptions,
    warn_if_unfamiliar,
)
from smlmkit.reconstruct.learning import Course, Lesson, Member, hold_out_fields
from smlmkit.reconstruct.model_files import read_members, write_members
from smlmkit.reconstruct.parameters import (
    check_parameters,
    network_spec,
    slice_edges,
    training_plan,
)
from smlmkit.reconstruct.pickling import members_from_plain, members_to_plain
from smlmkit.reconstruct.prediction import reconstruct_field
from smlmkit.samples import as_fovs, as_targets, numeric_column
from smlmkit.strategies import Strategy, resolve_strategy
from smlmkit.tiling import FieldFacts, TileNeeds

_MAX_SEED = 2**31


class N2NReconstructor(BaseEstimator):
    """Reconstruct dense images from sparse localizations by Noise2Noise.

    A U-Net learns to predict one random half of the localizations from the other half. The halves
    are independent given the structure, so the best prediction is the expected density: no ground
    truth is needed. The defaults are those of the paper, which take hours on a GPU; `max_samples`,
    `max_seconds`, a smaller `width` and a larger `learning_rate` with ``schedule="linear"`` make
    minutes on a CPU worthwhile.

    Parameters
    ----------
    strategy : {"dynamic", "fixed", "n2c", "sparse2dense"} or Strategy, default="dynamic"
        How training pairs are made. An object of `smlmkit.strategies` says more than its name:
        ``DynamicHalves(keep=(0.05, 0.95))``, ``SparseToDense(target=AnisotropicKDE(scale=2))``.
    pixel_size : float, default=10.0
        Edge of a pixel in nm, of training and of prediction.
    z_bins : sequence of float, optional
        Rising edges in nm of slices of depth. Tables then have a column ``z``, the network sees all
        slices at once, as channels, and images are stacks. Localizations beyond take no part.
    patch_size : int, default=64
        Side of a training crop in pixels, a multiple of 2^depth, of ``"light"`` twice that.
    network : {"unet", "pix2pix", "light"}, default="unet"
        The network of Lefebvre et al., that of Berberich et al., or a U-Net on blocks of 2 x 2
        pixels beside a learned blur: a quarter of the work with as many filters.
    depth : int, optional
        Levels of the network, 1 to 8; by default the paper's 4, of ``"pix2pix"`` 8.
    width : int, optional
        Filters of a convolution, of ``"pix2pix"`` at its first level, 1 to 1024; by default the
        paper's 48 or 64, of ``"light"`` 32.
    norm : {"none", "batch"}, optional
        Normalisation of features; by default as in the paper, none in the U-Net.
    residual : bool, optional
        Whether the network adds to a blur of its input, which is learnt along, so that training
        starts from a density estimate; by default the light one does.
    loss : str, default="smooth_l1"
        A sum of losses with factors, such as ``"ms_ssim + frc + 0.1*l1"``; see
        `smlmkit.nn.losses.parse_loss` for their names and options.
    batch_size : int, default=128
        Pairs a training step.
    max_samples : int, default=1_000_000
        Training budget in pairs.
    max_seconds : float, optional
        Time limit of the training of one network in seconds. Where it ends training, the result
        depends on the speed of the machine.
    learning_rate : float, default=1e-4
        Step size of Adam, at most 1.
    beta_1 : float, default=0.9
        Decay of Adam's mean of gradients; Berberich et al. take 0.5.
    schedule : {"constant", "linear", "cosine", "one_cycle"}, default="constant"
        Whether the step size stays, falls to 0 over the budget along a line or a cosine, or rises
        for the first 30 % and then falls.
    ema_decay : float, optional
        Decay a step of a moving mean of the weights, which then takes their place: 0.999, say.
    max_gradient_norm : float, optional
        Gradients of a larger norm are scaled down to it.
    epoch_size : int, default=100_000
        Pairs between two validations, less than `max_samples`, and of one `partial_fit`.
    early_stopping : bool, default=False
        Whether to hold out fields of view, to score the network on them after every epoch, to stop
        when the score no longer rises, and to keep the weights of the best one.
    validation_fraction : float, default=0.2
        Share of the fields of view that early stopping holds out, at least one.
    patience : int, default=5
        Epochs without a better score after which early stopping stops.
    n_estimators : int, default=1
        Networks of an ensemble. Each of several learns from its own random subset of the
        localizations, and all have the same budget.
    subset_share : float, default=0.9
        Share of the localizations in such a subset, in (0, 1].
    tta : bool, default=False
        Whether `predict` averages over the eight flips and quarter turns of a field.
    n_splits : int, default=0
        Random splits of a table over which `predict` averages: the network sees one half after the
        other. 0 shows it the table as a whole. Twice as many images of counts are in memory.
    warm_start : bool, default=False
        Whether `fit` goes on from the networks of an earlier `fit`, with new pairs. More
        `n_estimators` than before add networks.
    checkpoint_folder : path-like, optional
        Where `fit` saves its state every minute. The same `fit` after a crash goes on from there,
        to the same weights, bit for bit on the CPU. Files are named after data and parameters, so
        that the fits of a search do not meet, and removed when the fit is done; those of a fit that
        never ends stay. Needs an int `random_state`.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="float32"
        Of the convolutions; losses and weights are float32. bfloat16 takes half the time where the
        hardware has it (CPUs with AVX512_BF16, GPUs since Ampere), which ``"auto"`` finds out;
        float16 is for older GPUs.
    compile : bool, default=False
        Whether to train with `torch.compile`; worthwhile on GPUs, needs a C++ compiler.
    device : str, default="auto"
        ``"cpu"``, ``"cuda"``, ...; ``"auto"`` takes a GPU where there is one. Resolved at use;
        fitted weights always live on the CPU.
    random_state : int, RandomState or None, default=None
        Source of randomness. An int makes `fit` deterministic on the CPU.
    verbose : bool, default=True
        Whether `fit` shows a progress bar in terminals and notebooks.

    Attributes
    ----------
    networks_ : list of torch.nn.Module
        The `n_estimators` trained networks, on the CPU.
    n_opinions_ : int
        Opinions over which `predict` averages; it follows `tta` and `n_splits`.
    histories_ : list of TrainingHistory
        Of each network: samples, loss and seconds at every training step, held-out scores after
        every epoch, and why training stopped.
    training_summary_ : dict
        Of the training tables: ``n_fields``, ``n_localizations``, typical ``density`` per µm² and
        median ``uncertainty`` in nm, least and greatest of them; ``intensity``, see Notes; and
        ``held_out_score``, the best one of early stopping, else None.
    fitted_parameters_ : dict
        The parameters that the networks were trained with.

    See Also
    --------
    load_model : Read what `N2NReconstructor.save` wrote.
    smlmkit.FRCScorer : Scores it without ground truth.

    Notes
    -----
    **Strategies.** ``"fixed"`` and ``"dynamic"`` learn one half of the localizations from the other
    (Noise2Noise), ``"n2c"`` a dense table or image, given to `fit` as y, from a sparse one, and
    ``"sparse2dense"`` a density estimate of all localizations from a few of them.
    `smlmkit.strategies` says how each draws its pairs.

    **Scale.** The network maps the counts of one half of the training tables to the expected counts
    of the other half. At prediction its input is a whole table, about twice as dense. How far the
    output follows depends on training: a network that saw one density only tends to answer with
    that density. So the scale is taken from the table itself: negative output is set to 0, and the
    image is multiplied by the one factor that makes its sum the number of localizations in the
    field of view. The factor stands in the image's attribute ``mass_factor``.

    **Intensity.** Counts enter the networks as they are. Structural similarity needs a range of
    values and the pix2pix network a unit for its bounded output: both are ``intensity``, the pixel
    value below which 99 % of the mass of a million target pixels lies. It is one number for the
    whole training.

    **Uncertainty.** Every network of the ensemble, in every orientation and for every half of the
    splits, gives an opinion. `predict` gives their mean and, if asked, their mean absolute
    deviation from it, as in the paper's figure 3. Networks and orientations disagree where the
    network is at a loss. Halves disagree by the noise of the localizations: with f the network and
    A and B the halves, |f(A) - f(B)| is, for a linear f, the deviation that the image's own noise
    has. None of them knows a mistake that all opinions share: the error is larger than the
    deviation.

    **Tiles.** A field of view of any size is predicted in tiles that overlap by the network's
    receptive field, so the result does not depend on the tiling. What is empty takes no time.

    References
    ----------
    .. [1] Lefebvre et al. (2020), Noise2Noise for single-molecule localization microscopy.
    .. [2] Berberich et al., "Fourier ring correlation and anisotropic kernel density estimation
       improve deep learning based SMLM reconstruction of microtubules", Front. Bioinform. 1 (2021).

    Examples
    --------
    >>> from smlmkit import N2NReconstructor, make_microtubules
    >>> blinks, _ = make_microtubules(field_size=2000, density=2000, random_state=0)
    >>> n2n = N2NReconstructor(max_samples=8, batch_size=4, patch_size=32, width=4, random_state=0)
    >>> image = n2n.fit_predict(blinks)
    >>> image.shape, n2n.histories_[0].stopped_by
    ((200, 200), 'max_samples')
    >>> bool(abs(image.sum() - len(blinks)) < 0.01 * len(blinks))
    True
    """

    networks_: list[Network]
    histories_: list[TrainingHistory]
    training_summary_: dict[str, Any]
    fitted_parameters_: dict[str, Any]
    # Of each network: where its pairs are, and after partial_fit what the next one goes on from.
    _progress: list[tuple[dict[str, Any] | None, TrainingState | None]]

    def __init__(
        self,
        strategy: str | Strategy = "dynamic",
        *,
        pixel_size: float = 10.0,
        z_bins: Any = None,
        patch_size: int = 64,
        network: str = "unet",
        depth: int | None = None,
        width: int | None = None,
        norm: str | None = None,
        residual: bool | None = None,
        loss: str = "smooth_l1",
        batch_size: int = 128,
        max_samples: int = 1_000_000,
        max_seconds: float | None = None,
        learning_rate: float = 1e-4,
        beta_1: float = 0.9,
        schedule: str = "constant",
        ema_decay: float | None = None,
        max_gradient_norm: float | None = None,
        epoch_size: int = 100_000,
        early_stopping: bool = False,
        validation_fraction: float = 0.2,
        patience: int = 5,
        n_estimators: int = 1,
        subset_share: float = 0.9,
        tta: bool = False,
        n_splits: int = 0,
        warm_start: bool = False,
        checkpoint_folder: str | PathLike[str] | None = None,
        precision: str = "float32",
        compile: bool = False,  # noqa: A002 (torch's name for it)
        device: str = "auto",
        random_state: RandomState = None,
        verbose: bool = True,
    ) -> None:
        self.strategy = strategy
        self.pixel_size = pixel_size
        self.z_bins = z_bins
        self.patch_size = patch_size
        self.network = network
        self.depth = depth
        self.width = width
        self.norm = norm
        self.residual = residual
        self.loss = loss
        self.batch_size = batch_size
        self.max_samples = max_samples
        self.max_seconds = max_seconds
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.schedule = schedule
        self.ema_decay = ema_decay
        self.max_gradient_norm = max_gradient_norm
        self.epoch_size = epoch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.n_estimators = n_estimators
        self.subset_share = subset_share
        self.tta = tta
        self.n_splits = n_splits
        self.warm_start = warm_start
        self.checkpoint_folder = checkpoint_folder
        self.precision = precision
        self.compile = compile
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: object = None) -> "N2NReconstructor":
        """Train the networks on pairs drawn from the tables.

        Ctrl-C ends training early, keeps the weights reached so far and warns. In a search over
        parameters it ends the present fit only, and the search goes on.

        Parameters
        ----------
        X : Localizations or list of Localizations
            One table a field of view.
        y : Localizations, DataArray or list of these, optional
            The dense target of each field of view, for the strategy ``"n2c"`` only.

        Returns
        -------
        N2NReconstructor
            The fitted estimator.

        Raises
        ------
        InvalidInputError, InvalidTypeError
            If a parameter is out of range, a field of view is too small for a patch, there are no
            localizations, or targets are needed and missing.
        ModelFileError
            If a checkpoint is damaged.
        TrainingDivergedError
            If the loss or a weight is not finite.

        Warns
        -----
        FitInterruptedWarning
            If Ctrl-C ended training early.
        """
        parameters = check_parameters(self.get_params(deep=False))
        goes_on = self.warm_start and hasattr(self, "networks_")
        return self._train(X, y, parameters, training_plan(parameters), goes_on=goes_on)

    def partial_fit(self, X: Any, y: object = None) -> "N2NReconstructor":
        """Train for one more epoch, of `epoch_size` pairs, on these tables.

        The step size stays at `learning_rate`, and Adam's moments and the moving mean of the
        weights go on from call to call. Early stopping is not possible.

        Parameters
        ----------
        X : Localizations or list of Localizations
            One table a field of view.
        y : Localizations, DataArray or list of these, optional
            The dense target of each field of view, for the strategy ``"n2c"`` only.

        Returns
        -------
        N2NReconstructor
            The fitted estimator.

        Raises
        ------
        InvalidInputError, InvalidTypeError
            As `fit`; or if `early_stopping` is set, or the network's parameters were changed.
        TrainingDivergedError
            If the loss or a weight is not finite.

        Warns
        -----
        FitInterruptedWarning
            If Ctrl-C ended training early.
        """
        parameters = check_parameters(self.get_params(deep=False))
        if self.early_stopping:
            raise InvalidInputError("partial_fit needs early_stopping=False")
        plan = training_plan(parameters, max_samples=parameters["epoch_size"], schedule="constant")
        goes_on = hasattr(self, "networks_")
        return self._train(X, y, parameters, plan, goes_on=goes_on, keep_states=True)

    def predict(self, X: Any, *, return_deviation: bool = False, scale_to_mass: bool = True) -> Any:
        """Reconstruct the expected density of localizations.

        Parameters
        ----------
        X : Localizations or list of Localizations
            The tables.
        return_deviation : bool, default=False
            Whether the mean absolute deviation of the opinions is returned, too.
        scale_to_mass : bool, default=True
            Whether the output is scaled to the sum of the table, see Notes of the class. False
            gives the mean opinion as it is: of tables that are tiles of a field of view, whose
            images are scaled together. Only `warn_if_unfamiliar` then warns of such a field.

        Returns
        -------
        image : DataArray or list of DataArray, dims ([z,] y, x)
            Expected localizations per pixel, float32, of the same sum as the table; one image for
            one table, a list for a list. The attribute ``mass_factor`` says by how much the
            network's output was scaled; without scaling there is none.
        deviation : DataArray or list of DataArray, if asked
            On the same grids, in the same units.

        Raises
        ------
        NotFittedError
            If the estimator was not fitted.
        InvalidInputError
            If a deviation is asked for and there is only one opinion, or a table has no z.
        TrainingDivergedError
            If the network's output is not finite.

        Warns
        -----
        EmptyPredictionWarning
            If the network sees nothing in a table that holds localizations; the image is then 0.
        UnfamiliarTableWarning
            If a table's density or uncertainty is far from those of the training tables, or
            `pixel_size` or `z_bins` was changed after training.
        """
        check_is_fitted(self, "networks_")
        check_parameters(self.get_params(deep=False))
        if return_deviation and self.n_opinions_ < 2:
            raise InvalidInputError(
                "a single opinion has no deviation: n_estimators above 1, tta=True or n_splits "
                "above 0 give several"
            )
        fovs, single = as_fovs(X)
        fitted = self.fitted_parameters_
        edges, pixel_size = slice_edges(fitted), fitted["pixel_size"]
        if edges is not None:
            _check_depths(fovs)
        if scale_to_mass:
            self._warn_of_changes()
        device = resolve_device(self.device)
        networks = [move_network(copy.deepcopy(network), device) for network in self.networks_]
        source = random_source(self.random_state)
        images, deviations = [], []
        for position, fov in enumerate(fovs):
            if scale_to_mass:
                name = "the table" if single else f"X[{position}]"
                known = self.training_summary_
                warn_if_unfamiliar(*describe_table(fov), known, name, stacklevel=2)
            image, deviation = reconstruct_field(
                networks,
                fov,
                pixel_size,
                edges,
                device,
                tta=self.tta,
                split_seeds=source.randint(_MAX_SEED, size=self.n_splits).tolist(),
                precision=self.precision,
                return_deviation=return_deviation,
                scale_to_mass=scale_to_mass,
            )
            images.append(image)
            deviations.append(deviation)
        if not return_deviation:
            return images[0] if single else images
        return (images[0], deviations[0]) if single else (images, deviations)

    @property
    def n_opinions_(self) -> int:
        """Opinions over which `predict` averages."""
        return len(self.networks_) * (8 if self.tta else 1) * max(1, 2 * self.n_splits)

    def render_input(self, X: Any) -> Any:
        """Count localizations per pixel as the networks see them.

        Parameters
        ----------
        X : Localizations or list of Localizations
            The tables.

        Returns
        -------
        DataArray or list of DataArray, dims ([z,] y, x)
            Localizations per pixel, float32, on the grids of `predict`; those beyond all slices are
            not counted. One image for one table, a list for a list.

        Raises
        ------
        NotFittedError
            If the estimator was not fitted.
        InvalidInputError
            If a table has no z where there are slices.
        """
        check_is_fitted(self, "networks_")
        fovs, single = as_fovs(X)
        fitted = self.fitted_parameters_
        edges = slice_edges(fitted)
        if edges is not None:
            _check_depths(fovs)
        images = [render_counts(fov, fitted["pixel_size"], edges) for fov in fovs]
        return images[0] if single else images

    def tile_needs(self, facts: FieldFacts) -> TileNeeds:
        """Tell what is needed so that tiles come out as the parts of the whole do.

        Parameters
        ----------
        facts : FieldFacts
            What is known of the field of view.

        Returns
        -------
        TileNeeds
            How far around a tile the networks see, and to which grid they hold.

        Raises
        ------
        NotFittedError
            If the estimator was not fitted.
        InvalidInputError
            If images reach it instead of tables, or `n_splits` is above 0.
        """
        check_is_fitted(self, "networks_")
        check_parameters(self.get_params(deep=False))
        facts.check_tables("N2NReconstructor")
        if self.n_splits:
            raise InvalidInputError(
                f"n_splits={self.n_splits} would split tiles that overlap differently: set it to "
                "0; tta and n_estimators give opinions, too"
            )
        network, pixel_size = self.networks_[0], float(self.fitted_parameters_["pixel_size"])
        return TileNeeds(
            reach=network.halo * pixel_size,
            multiple=network.multiple,
            pixel_size=pixel_size,
            scales_to_mass=True,
            empty_is_zero=False,
        )

    def warn_if_unfamiliar(
        self, density: float | None, uncertainty: float | None, name: str = "the field of view"
    ) -> None:
        """Warn, as `predict` does, of a field of view that is predicted tile by tile.

        Parameters
        ----------
        density : float or None
            Its typical density in localizations per µm², as
            `smlmkit.reconstruct.familiarity.typical_density` gives it; None of an empty table.
        uncertainty : float or None
            Its median uncertainty in nm; None where it is not known.
        name : str, default="the field of view"
            What to call it.

        Raises
        ------
        NotFittedError
            If the estimator was not fitted.

        Warns
        -----
        UnfamiliarTableWarning
            As `predict`.
        """
        check_is_fitted(self, "networks_")
        self._warn_of_changes()
        warn_if_unfamiliar(density, uncertainty, self.training_summary_, name, stacklevel=2)

    def fit_predict(self, X: Any, y: object = None) -> Any:
        """Train on tables and reconstruct the same tables.

        Parameters
        ----------
        X : Localizations or list of Localizations
            The tables.
        y : Localizations, DataArray or list of these, optional
            As in `fit`.

        Returns
        -------
        DataArray or list of DataArray
            As `predict`.
        """
        return self.fit(X, y).predict(X)

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the fitted model to one file, read back by `load_model`.

        The file is a safetensors file. What belongs to the session is not saved:
        `checkpoint_folder`, `compile`, `device`, `precision`, `random_state`, `verbose`,
        `warm_start`, and a strategy's target unless it is one of smlmkit's own transformers with
        plain parameters.

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
        InvalidInputError
            If the strategy is an object of a class that smlmkit does not know.
        OutputError
            If the file exists or cannot be written; nothing half-written stays.
        """
        check_is_fitted(self, "networks_")
        write_members(
            *(path, self._members(), self.fitted_parameters_, self.training_summary_),
            overwrite=overwrite,
        )

    def _train(
        self,
        X: Any,
        y: object,
        parameters: dict[str, Any],
        plan: TrainingPlan,
        *,
        goes_on: bool,
        keep_states: bool = False,
    ) -> "N2NReconstructor":
        """Check the samples, train on them, and take over what came of it."""
        if goes_on:
            self._refuse_other_networks(parameters)
        device = resolve_device(self.device)
        tables, single = as_fovs(X)
        fovs = list(tables)  # training draws from all of them, again and again
        if parameters["z_bins"] is not None:
            _check_depths(fovs)
        needs_targets = resolve_strategy(self.strategy).needs_targets
        targets = as_targets(y, fovs, single) if needs_targets else None
        if self.checkpoint_folder is not None:
            make_folder(Path(self.checkpoint_folder))
        source = random_source(self.random_state)
        seeds = source.randint(_MAX_SEED, size=(self.n_estimators, 3))
        lesson = Lesson(fovs, targets, [])
        if self.early_stopping:
            lesson = hold_out_fields(fovs, targets, parameters["validation_fraction"], source)
        course = Course(lesson, parameters, plan, device, keep_states)
        if goes_on:
            known = self.training_summary_
            members, intensity = course.train_members(seeds, self._members(), known["intensity"])
            description = merge_descriptions(known, describe_tables(lesson.fovs))
        else:
            members, intensity = course.train_members(seeds)
            description = describe_tables(lesson.fovs)
        scores = [score for member in members for _, score in member.history.validation]
        best = max(scores) if scores and self.early_stopping else None
        summary = {**description, "intensity": intensity, "held_out_score": best}
        self._set_fitted(members, parameters, summary)
        self._warn_if_interrupted()
        return self

    def _members(self) -> list[Member]:
        fitted = zip(self.networks_, self.histories_, self._progress, strict=True)
        return [Member(network, history, *progress) for network, history, progress in fitted]

    def _set_fitted(
        self, members: list[Member], parameters: dict[str, Any], summary: dict[str, Any]
    ) -> None:
        self.networks_ = [member.network for member in members]
        self.histories_ = [member.history for member in members]
        self._progress = [(member.pairs_state, member.state) for member in members]
        self.fitted_parameters_, self.training_summary_ = parameters, summary

    def _refuse_other_networks(self, parameters: dict[str, Any]) -> None:
        """Refuse to go on with networks that parameters no longer describe."""
        fitted = self.fitted_parameters_
        is_other = {name: parameters[name] != fitted[name] for name in ("pixel_size", "z_bins")} | {
            "network": network_spec(parameters) != network_spec(fitted)
        }
        if any(is_other.values()):
            names = " and ".join(name for name, other in is_other.items() if other)
            raise InvalidInputError(
                f"the fitted networks have another {names}: fit without warm_start makes new ones"
            )
        if parameters["n_estimators"] < len(self.networks_):
            raise InvalidInputError(
                f"n_estimators={parameters['n_estimators']} would drop some of the "
                f"{len(self.networks_)} fitted networks: fit without warm_start makes new ones"
            )

    def _warn_of_changes(self) -> None:
        """Warn where parameters that prediction takes from the training are others now."""
        now, fitted = check_parameters(self.get_params(deep=False)), self.fitted_parameters_
        for name in ("pixel_size", "z_bins"):
            if now[name] != fitted[name]:
                warnings.warn(
                    f"{name} is {now[name]} now, but the network was trained, and predicts, with "
                    f"{fitted[name]}",
                    UnfamiliarTableWarning,
                    stacklevel=3,
                )

    def _warn_if_interrupted(self) -> None:
        history = self.histories_[-1]
        if history.stopped_by == "interrupt":
            warnings.warn(
                f"training was interrupted after {history.samples[-1]:,} samples of network "
                f"{len(self.networks_)} of {self.n_estimators}; the weights reached so far are "
                "kept",
                FitInterruptedWarning,
                stacklevel=4,
            )

    def __getstate__(self) -> dict[str, Any]:
        """Give plain values and numpy arrays, which load without a GPU and suit skops."""
        state: dict[str, Any] = super().__getstate__()
        return members_to_plain(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(members_from_plain(state))

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
    defaults = N2NReconstructor(device=device).get_params(deep=False)
    members, parameters, summary = read_members(path, defaults)
    model = N2NReconstructor(**parameters)
    model._set_fitted(members, parameters, summary)
    return model


def _check_depths(fovs: Iterable[Localizations]) -> None:
    """Refuse tables without depths before any work is done."""
    for position, fov in enumerate(fovs):
        try:
            numeric_column(fov, "z")
        except (InvalidInputError, InvalidTypeError) as error:
            raise type(error)(f"X[{position}]: {error}") from error
