"""The demonstration: from a simulated acquisition folder to reconstructed images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import xarray as xr

from smlmkit._atomic import make_folder
from smlmkit.io.images import write_image
from smlmkit.io.tables import read_localizations
from smlmkit.kde import GaussianKDE
from smlmkit.localizations import Localizations
from smlmkit.plotting import save_comparison
from smlmkit.reconstruct import N2NReconstructor
from smlmkit.render import Renderer
from smlmkit.scoring import compare_held_out
from smlmkit.simulate.datasets import make_acquisitions

PIXEL_SIZE = 10.0
SIGMAS = (10.0, 15.0, 20.0, 30.0, 40.0)
N_ACQUISITIONS = 4
N_SPLITS = 3


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration found.

    Parameters
    ----------
    scores : DataFrame
        One row a method, with the measures of `compare_held_out` as columns.
    pictures : list of Path
        The PNGs.
    model : Path
        The trained model.
    """

    scores: pd.DataFrame
    pictures: list[Path]
    model: Path


def run_demo(
    folder: Path, *, minutes: float, seed: int, report: Callable[[str], None]
) -> DemoResult:
    """Simulate acquisitions, train on all but the last one, reconstruct and score that one.

    Parameters
    ----------
    folder : Path
        Where everything is written; it must not exist.
    minutes : float
        Time limit of training.
    seed : int
        Seed of the simulation, the training and the splits.
    report : callable
        Told in a line what is done.

    Returns
    -------
    DemoResult
        Scores and files.

    Raises
    ------
    OutputError
        If the folder exists or cannot be made.
    KeyboardInterrupt
        On Ctrl-C; a model that was being trained is saved before.
    """
    make_folder(folder, exist_ok=False)
    acquisitions = folder / "acquisitions"
    paths, _ = make_acquisitions(
        acquisitions,
        N_ACQUISITIONS,
        field_size=10_000,
        n_filaments=25,
        density=150,
        uncertainty=12,
        blinks_per_emitter=1.5,
        random_state=seed,
    )
    report(f"simulated {len(paths)} acquisitions in {acquisitions}")
    fovs = [read_localizations(path) for path in paths]
    model = N2NReconstructor(
        pixel_size=PIXEL_SIZE,
        network="light",
        patch_size=128,
        batch_size=16,
        loss="mse + 0.02*frc",
        learning_rate=1e-3,
        schedule="linear",
        max_gradient_norm=0.1,
        precision="auto",
        tta=True,
        max_seconds=60 * minutes,
        random_state=seed,
    )
    model.fit(fovs[:-1])
    [history] = model.histories_
    report(
        f"trained on {len(fovs) - 1} of them: {history.samples[-1]:,} pairs in "
        f"{history.seconds[-1]:.0f} s, without ground truth"
    )
    model_path = folder / "model.smlmkit"
    model.save(model_path)
    if history.stopped_by == "interrupt":
        raise KeyboardInterrupt
    scores = score_methods(fovs[-1], model, seed)
    return DemoResult(scores, draw_pictures(fovs[-1], model, scores, folder), model_path)


def score_methods(fov: Localizations, model: N2NReconstructor, seed: int) -> pd.DataFrame:
    """Reconstruct half of a table by each method and compare it with the raw other half.

    Parameters
    ----------
    fov : Localizations
        The table.
    model : N2NReconstructor
        The fitted model.
    seed : int
        Seed of the splits.

    Returns
    -------
    DataFrame
        Means over the splits, one row a method.
    """
    rows = []
    for split in range(N_SPLITS):
        half_a, half_b = fov.split(random_state=seed + split)
        for method, image in reconstruct(half_a, model).items():
            rows.append({"method": method, **compare_held_out(image, half_a, half_b)})
    return pd.DataFrame(rows).groupby("method", sort=False).mean()


def reconstruct(fov: Localizations, model: N2NReconstructor) -> dict[str, xr.DataArray]:
    """Reconstruct a table by every method.

    Parameters
    ----------
    fov : Localizations
        The table.
    model : N2NReconstructor
        The fitted model.

    Returns
    -------
    dict of DataArray
        The images by method.
    """
    raw = Renderer(PIXEL_SIZE).transform(fov)
    smoothed = {f"Gaussian {sigma:g} nm": GaussianKDE(sigma).transform(raw) for sigma in SIGMAS}
    return {"raw": raw, **smoothed, "Noise2Noise": model.predict(fov)}


def draw_pictures(
    fov: Localizations, model: N2NReconstructor, scores: pd.DataFrame, folder: Path
) -> list[Path]:
    """Write the whole reconstructed field and a zoom of raw, best Gaussian and Noise2Noise.

    Parameters
    ----------
    fov : Localizations
        The table.
    model : N2NReconstructor
        The fitted model.
    scores : DataFrame
        As `score_methods` gives them.
    folder : Path
        Where to write.

    Returns
    -------
    list of Path
        The pictures.
    """
    images = reconstruct(fov, model)
    gaussians = scores[scores.index.str.startswith("Gaussian")]
    best = str(gaussians["log_likelihood"].idxmax())
    shown = {name: images[name] for name in ("raw", best, "Noise2Noise")}
    zoom, whole = folder / "zoom.png", folder / "reconstruction.png"
    middle_y = fov.field_of_view.y_min + fov.field_of_view.height / 2
    middle_x = fov.field_of_view.x_min + fov.field_of_view.width / 2
    box = (middle_y - 1500, middle_x - 1500, middle_y + 1500, middle_x + 1500)
    save_comparison(shown, zoom, field_of_view=box)
    write_image(images["Noise2Noise"], whole)
    return [whole, zoom]
