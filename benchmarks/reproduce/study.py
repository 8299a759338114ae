"""A study of one figure: what it may cost, which of its steps are done, and what it leaves.

Training takes nearly all of the time. A budget in minutes is turned into a number of training
pairs by rates that were measured once, on two cores, and stand in the recipes: so the same command
gives the same figures on every machine, and takes about as long as it says on one like that.
"""

import argparse
import hashlib
import json
import pickle
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from matplotlib.figure import Figure as Canvas

from smlmkit import N2NReconstructor
from smlmkit._atomic import whole_or_nothing
from smlmkit._figure import save

PAPER_SAMPLES = 1_000_000
_MINUTES_PER_UNIT = {"min": 1.0, "h": 60.0}

Row = dict[str, Any]


class Recipe(NamedTuple):
    """How networks of a study are trained."""

    parameters: dict[str, Any]
    pairs_per_minute: float  # on two cores


class Claim(NamedTuple):
    """A published finding beside ours.

    `holds` says whether ours is what was published or better: the order, the trend, at least the
    level. It does not say that the numbers are the same.
    """

    published: str
    ours: str
    holds: bool


@dataclass(frozen=True)
class Finding:
    """What a study found: its table, its claims, and how its picture is drawn."""

    rows: list[Row]
    claims: list[Claim]
    draw: Callable[[Canvas], None]
    facts: Row = field(default_factory=dict)
    size: tuple[float, float] = (9.6, 4.8)


class Budget(NamedTuple):
    """What the trainings of a study may cost: minutes of two cores, or pairs for each.

    `is_paper` asks for the papers' own recipes.
    """

    minutes: float | None = None
    samples: int | None = None
    is_paper: bool = False

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read ``"10min"``, ``"2h"``, ``"50000samples"`` or ``"paper"``."""
        if text == "paper":
            return cls(samples=PAPER_SAMPLES, is_paper=True)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(min|h|samples)", text)
        if not match or not float(match[1]) > 0:
            raise argparse.ArgumentTypeError(f"10min, 2h, 50000samples or paper, not {text!r}")
        if match[2] == "samples":
            return cls(samples=int(float(match[1])))
        return cls(minutes=float(match[1]) * _MINUTES_PER_UNIT[match[2]])

    def samples_each(self, n_trainings: int, recipe: Recipe) -> int:
        """Share minutes equally among trainings, in whole batches; or give each its samples."""
        batch = recipe.parameters["batch_size"]
        if self.minutes is None:
            return max(batch, self.samples or 0)
        pairs = self.minutes * recipe.pairs_per_minute / n_trainings
        return max(batch, int(pairs // batch) * batch)


class Study:
    """A folder that keeps what is done, so that an interrupted study goes on where it was.

    Parameters
    ----------
    name : str
        The figure.
    budget : Budget
        What its trainings may cost.
    seed : int
        The seed of all of its random numbers.
    folder : Path
        Where its results are written. What it keeps is beside it, in ``steps``: figures share
        networks that are trained alike.
    """

    def __init__(self, name: str, budget: Budget, seed: int, folder: Path) -> None:
        self.name = name
        self.budget = budget
        self.seed = seed
        self.folder = folder
        self.steps = folder.parent / "steps"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.steps.mkdir(exist_ok=True)
        self._started = time.monotonic()

    def report(self, text: str) -> None:
        """Say what is done, and how long it took since the start."""
        print(f"{self.name} [{time.monotonic() - self._started:6.0f} s] {text}", flush=True)

    def keep(self, name: str, settings: Row, compute: Callable[[], Any]) -> Any:
        """Compute what JSON can hold, unless it stands in the folder already.

        `settings` is all that the outcome depends on beside the seed.
        """
        path = self._path(name, {"figure": self.name, **settings}, ".json")
        if not path.exists():
            outcome = compute()
            with whole_or_nothing(path) as partial:
                partial.write_text(json.dumps(outcome))
            self.report(name)
        return json.loads(path.read_text())

    def fit(
        self, name: str, model: N2NReconstructor, X: Any, y: Any = None, **settings: Any
    ) -> N2NReconstructor:
        """Train, unless the trained model stands in the folder; a killed training goes on.

        `settings` is what X and y depend on beside the seed.
        """
        parameters = {key: repr(value) for key, value in model.get_params().items()}
        # Pickled, for a model file cannot hold the strategies that a study brings along.
        path = self._path(name, {**settings, **parameters}, ".pickle")
        if not path.exists():
            model.set_params(checkpoint_folder=self.steps)
            model.fit(X, y)
            model.set_params(checkpoint_folder=None)
            with whole_or_nothing(path) as partial:
                partial.write_bytes(pickle.dumps(model))
            [history] = model.histories_
            self.report(
                f"{name}: {history.samples[-1]:,} pairs in {history.seconds[-1]:.0f} s, "
                f"loss {history.loss[-1]:.4g}"
            )
        fitted: N2NReconstructor = pickle.loads(path.read_bytes())
        return fitted

    def write(self, finding: Finding) -> None:
        """Write the table (CSV), everything (JSON) and the picture (PNG)."""
        stem = self.folder / self.name
        with whole_or_nothing(stem.with_suffix(".csv"), overwrite=True) as partial:
            pd.DataFrame(finding.rows).to_csv(partial, index=False, float_format="%.6g")
        record = {
            "figure": self.name,
            "budget": self.budget._asdict(),
            "seed": self.seed,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
            "versions": {name: version(name) for name in ("smlmkit", "torch", "numpy")},
            "claims": [claim._asdict() for claim in finding.claims],
            "facts": finding.facts,
            "rows": finding.rows,
        }
        with whole_or_nothing(stem.with_suffix(".json"), overwrite=True) as partial:
            partial.write_text(json.dumps(record, indent=1) + "\n")
        canvas = Canvas(figsize=finding.size, dpi=100, layout="constrained")
        finding.draw(canvas)
        save(canvas, stem.with_suffix(".png"), self.name, overwrite=True)

    def _path(self, name: str, settings: Row, suffix: str) -> Path:
        described = json.dumps(
            {"seed": self.seed, "version": version("smlmkit"), **settings}, sort_keys=True
        )
        digest = hashlib.sha256(described.encode()).hexdigest()[:12]
        return self.steps / f"{name.replace(' ', '-')}-{digest}{suffix}"
