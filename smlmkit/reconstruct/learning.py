"""Training of one network or an ensemble on tables."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from smlmkit import __version__
from smlmkit.errors import InvalidInputError
from smlmkit.images import grid_of
from smlmkit.localizations import Localizations
from smlmkit.nn.base import Network
from smlmkit.nn.checkpoint import Checkpoint, TrainingState
from smlmkit.nn.history import TrainingHistory
from smlmkit.nn.losses import parse_loss
from smlmkit.nn.networks import build_network
from smlmkit.nn.pairs import Pairs
from smlmkit.nn.plan import TrainingPlan
from smlmkit.nn.training import train
from smlmkit.reconstruct.parameters import network_spec, slice_edges
from smlmkit.reconstruct.validation import HeldOutFields
from smlmkit.samples import Target
from smlmkit.strategies import resolve_strategy

# As many pixels as 256 patches of 64 x 64.
_PIXELS_FOR_INTENSITY = 2**20
_BRIGHT_SHARE = 0.99

# What may differ between a training and the one that goes on from its checkpoint.
_NOT_OF_THE_TRAINING = (
    "checkpoint_folder", "device", "verbose", "tta", "n_splits", "warm_start",
)  # fmt: skip


@dataclass
class Member:
    """One network of an ensemble and how it came about.

    Parameters
    ----------
    network : Network
        The network.
    history : TrainingHistory
        Its training.
    pairs_state : dict or None
        Where its pairs are, so that further training does not begin with those that it has seen.
    state : TrainingState or None
        All that a further `partial_fit` goes on from.
    """

    network: Network
    history: TrainingHistory
    pairs_state: dict[str, Any] | None = None
    state: TrainingState | None = None


@dataclass(frozen=True)
class Lesson:
    """What members learn from: tables, maybe targets, and fields held out for validation.

    Parameters
    ----------
    fovs : sequence of Localizations
        The tables.
    targets : sequence of Localizations or DataArray, or None
        One a table, where the strategy needs them.
    held_out : sequence of Localizations
        The tables for validation; none without early stopping.
    """

    fovs: Sequence[Localizations]
    targets: Sequence[Target] | None
    held_out: Sequence[Localizations]


def hold_out_fields(
    fovs: Sequence[Localizations],
    targets: Sequence[Target] | None,
    share: float,
    source: np.random.RandomState,
) -> Lesson:
    """Keep fields of view for validation.

    Parameters
    ----------
    fovs : sequence of Localizations
        The tables.
    targets : sequence of Localizations or DataArray, or None
        One a table.
    share : float
        Share of the tables to keep; at least one, and not all.
    source : RandomState
        Source of randomness.

    Returns
    -------
    Lesson
        The tables in two parts.

    Raises
    ------
    InvalidInputError
        If there is only one table.
    """
    if len(fovs) < 2:
        raise InvalidInputError(
            "early_stopping holds out whole fields of view and needs at least two: pass a list, "
            "table.tiles(size) makes one of a large field, or set early_stopping=False"
        )
    n_held_out = min(max(1, round(share * len(fovs))), len(fovs) - 1)
    order = source.permutation(len(fovs))
    held_out, kept = order[:n_held_out], np.sort(order[n_held_out:])
    return Lesson(
        [fovs[i] for i in kept],
        None if targets is None else [targets[i] for i in kept],
        [fovs[i] for i in held_out],
    )


@dataclass(frozen=True)
class Course:
    """The training of an ensemble: what it learns from and how.

    Parameters
    ----------
    lesson : Lesson
        What to learn from.
    parameters : mapping
        The estimator's checked parameters.
    plan : TrainingPlan
        How long and how fast to train each network.
    device : torch.device
        Where to compute.
    keep_states : bool
        Whether members keep what a further `partial_fit` goes on from: some copies of the weights.
    """

    lesson: Lesson
    parameters: Mapping[str, Any]
    plan: TrainingPlan
    device: torch.device
    keep_states: bool

    def train_members(
        self, seeds: NDArray[np.int64], earlier: Sequence[Member] = (), intensity: float = 0.0
    ) -> tuple[list[Member], float]:
        """Train the networks of an ensemble one after the other.

        Each member of an ensemble of several learns from its own random subset of every table.
        Ctrl-C ends the present member and leaves out those to come.

        Parameters
        ----------
        seeds : ndarray of int, shape (n_estimators, 3)
            Seeds of the weights, the pairs and the subset of each member.
        earlier : sequence of Member
            Members to go on from; those beyond start from random weights.
        intensity : float, default=0.0
            Theirs; 0 finds it out.

        Returns
        -------
        members : list of Member
            The trained networks.
        intensity : float
            The number of localizations per pixel at which a target is bright.
        """
        validate = self._make_validation()
        members: list[Member] = []
        checkpoints: list[Checkpoint] = []
        for number, member_seeds in enumerate(seeds.tolist()):
            try:
                member, intensity, checkpoint = self._train_member(
                    number, member_seeds, earlier[number : number + 1], intensity, validate
                )
            except KeyboardInterrupt:
                if not members:
                    raise
                members[-1].history.stopped_by = "interrupt"
                return members, intensity
            members.append(member)
            checkpoints += [checkpoint] if checkpoint else []
            if member.history.stopped_by == "interrupt":
                return members, intensity
        for checkpoint in checkpoints:
            checkpoint.remove()
        return members, intensity

    def _train_member(
        self,
        number: int,
        seeds: list[int],
        earlier: Sequence[Member],
        intensity: float,
        validate: Callable[[Network], float] | None,
    ) -> tuple[Member, float, Checkpoint | None]:
        weights_seed, pairs_seed, subset_seed = seeds
        n_members = self.parameters["n_estimators"]
        try:
            pairs = self._make_pairs(pairs_seed, subset_seed if n_members > 1 else None)
        except InvalidInputError as error:
            if not self.lesson.held_out:
                raise
            numbering = (
                f"(numbered without the {len(self.lesson.held_out)} held-out fields of view)"
            )
            raise InvalidInputError(f"{error} {numbering}") from error
        intensity = intensity or _bright_intensity(pairs, self.parameters["patch_size"])
        state = None
        if earlier:
            network, state = copy.deepcopy(earlier[0].network), earlier[0].state
            if earlier[0].pairs_state is not None:
                pairs.set_state(earlier[0].pairs_state)
        else:
            network = build_network(network_spec(self.parameters), weights_seed, intensity)
        checkpoint = self._make_checkpoint(network, seeds)
        history, state = train(
            network,
            pairs,
            self.plan,
            self.device,
            loss=parse_loss(self.parameters["loss"], data_range=intensity),
            show_progress=self.parameters["verbose"],
            description="training" + (f" {number + 1} of {n_members}" if n_members > 1 else ""),
            validate=validate,
            state=state,
            checkpoint=checkpoint,
        )
        member = Member(
            network, history, state.numbers["pairs"], state if self.keep_states else None
        )
        return member, intensity, checkpoint

    def _make_validation(self) -> Callable[[Network], float] | None:
        if not self.lesson.held_out:
            return None
        return HeldOutFields(
            self.lesson.held_out,
            self.parameters["pixel_size"],
            slice_edges(self.parameters),
            self.device,
            self.parameters["precision"],
        ).score

    def _make_pairs(self, seed: int, subset_seed: int | None) -> Pairs:
        fovs = self.lesson.fovs
        if subset_seed is not None:
            source = np.random.RandomState(subset_seed)
            fovs = [fov.thin(self.parameters["subset_share"], source) for fov in fovs]
        return resolve_strategy(self.parameters["strategy"]).make_pairs(
            fovs,
            self.lesson.targets,
            patch_size=self.parameters["patch_size"],
            pixel_size=self.parameters["pixel_size"],
            z_edges=slice_edges(self.parameters),
            seed=seed,
        )

    def _make_checkpoint(self, network: Network, seeds: list[int]) -> Checkpoint | None:
        """Name a checkpoint by all that the training depends on."""
        folder = self.parameters["checkpoint_folder"]
        if folder is None:
            return None
        of_the_training = {
            name: value
            for name, value in self.parameters.items()
            if name not in _NOT_OF_THE_TRAINING
        }
        weights = [tensor.cpu().numpy() for tensor in network.state_dict().values()]
        targets = [
            target
            if isinstance(target, Localizations)
            else (target.to_numpy(), grid_of(target, stacks=True))
            for target in self.lesson.targets or ()
        ]
        data = [self.lesson.fovs, self.lesson.held_out, targets]
        facts = [__version__, self.plan, of_the_training, seeds, weights, data]
        fingerprint = joblib.hash(facts, hash_name="sha1")
        # Kept until all members are done: what is done must survive the training of the next one.
        return Checkpoint(Path(folder) / f"{fingerprint[:16]}.checkpoint", fingerprint, keep=True)


def _bright_intensity(pairs: Pairs, patch_size: int) -> float:
    """Give the pixel value below which 99 % of the mass of typical targets lies."""
    before = pairs.get_state()
    _, targets = pairs.draw(max(1, _PIXELS_FOR_INTENSITY // patch_size**2))
    pairs.set_state(before)
    values = np.sort(targets[targets > 0], axis=None).astype(np.float64)
    if not len(values):
        return 1.0
    mass = np.cumsum(values)
    return float(values[np.searchsorted(mass, _BRIGHT_SHARE * mass[-1])])
