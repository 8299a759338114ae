"""Trains CAREamics' Noise2Noise and predicts, inside its own environment; started by `careamics`.

    python -m benchmarks.careamics_worker FOLDER

FOLDER holds `task.json` (see `make_careamist` for what it tells), `pair_0.npy` and so on: both
halves of a training field as counts, float32 of shape (2, height, width), and `input_0.npy` and so
on: the images to predict from. Written there are `prediction_0.npy` and so on and `figures.json`:
weights, samples seen, seconds of training and of prediction, and the versions.
"""

import argparse
import json
import logging
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback

try:
    import torchvision  # noqa: F401
except ImportError:
    # CAREamics imports it for networks that are not used here. What PyPI has needs CUDA. Others
    # that ask for it have been imported: they do without, but not with this one.
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules[name] = ModuleType(name)
    sys.modules["torchvision"].__version__ = "none"

from careamics import CAREamist
from careamics.config.factories import create_advanced_n2n_config
from careamics.models.unet import UNet

# What a U-Net of this depth sees around a pixel is less than half of the overlap of two tiles.
TILE, OVERLAP = (512, 512), (96, 96)


def main() -> None:
    """Train, predict and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    task = json.loads((folder / "task.json").read_text())
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    firsts, seconds = zip(*load_all(folder, "pair"), strict=True)
    progress = Progress()
    careamist = make_careamist(task, folder, progress)
    # Each half is once the input and once the target.
    careamist.train(train_data=[*firsts, *seconds], train_data_target=[*seconds, *firsts])
    last = folder / "last.ckpt"
    careamist.trainer.save_checkpoint(last)  # its own ones are of whole epochs
    started = time.monotonic()
    predictions, _ = careamist.predict(
        load_all(folder, "input"),
        batch_size=1,
        tile_size=TILE,
        tile_overlap=OVERLAP,
        checkpoint=last,
    )
    figures = {
        "weights": count_weights(careamist.model.model),
        "samples": progress.samples,
        "seconds": progress.seconds,
        "prediction_seconds": time.monotonic() - started,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("careamics", "lightning", "numpy", "torch")},
    }
    for number, prediction in enumerate(predictions):
        np.save(folder / f"prediction_{number}.npy", prediction.squeeze())
    (folder / "figures.json").write_text(json.dumps(figures))


class Progress(Callback):
    """Counts the samples and seconds of training, as its time limit does."""

    def __init__(self) -> None:
        self.samples = 0
        self.seconds = 0.0

    def on_train_start(self, *_: Any) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_batch_end(
        self, _trainer: Any, _module: Any, _out: Any, batch: Any, *_: Any
    ) -> None:
        """Count a batch; the last one of an epoch may be smaller."""
        self.samples += len(batch[0].data)
        self.seconds = time.monotonic() - self._started


def make_careamist(task: dict[str, Any], folder: Path, progress: Progress) -> CAREamist:
    """Configure CAREamics: what `task` names as told, all else as it comes.

    Told are the side of a patch in pixels, the number of pairs in a batch, the learning rate, the
    loss, the number of weights, the depth, the seed and the seconds that training may take.
    """
    channels = nearest_channels(task["weights"], task["depth"])
    config = create_advanced_n2n_config(
        experiment_name="n2n",
        data_type="array",
        axes="YX",
        patch_size=[task["patch"]] * 2,
        batch_size=task["batch"],
        num_epochs=-1,
        model_params={"depth": task["depth"], "num_channels_init": channels},
        optimizer_params={"lr": task["learning_rate"]},
        trainer_params={
            "accelerator": "cpu",
            "enable_model_summary": False,
            "max_time": {"seconds": task["seconds"]},
        },
        seed=task["seed"],
    )
    config.algorithm_config.loss = task["loss"]
    return CAREamist(config, work_dir=folder, callbacks=[progress], enable_progress_bar=False)


def nearest_channels(n_weights: int, depth: int) -> int:
    """Find the channels of CAREamics' U-Net, an even number, that come nearest to some weights."""

    def distance(channels: int) -> int:
        with torch.device("meta"):
            network = UNet(conv_dims=2, depth=depth, num_channels_init=channels)
        return abs(count_weights(network) - n_weights)

    return min(range(8, 130, 2), key=distance)


def count_weights(network: torch.nn.Module) -> int:
    """Count what training changes."""
    return sum(weights.numel() for weights in network.parameters())


def load_all(folder: Path, name: str) -> list[np.ndarray]:
    """Read NAME_0.npy, NAME_1.npy and so on."""
    n_files = len(list(folder.glob(f"{name}_*.npy")))
    return [np.load(folder / f"{name}_{number}.npy") for number in range(n_files)]


if __name__ == "__main__":
    main()
