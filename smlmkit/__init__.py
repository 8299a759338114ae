"""Super-resolved images from single-molecule localizations, in scikit-learn's style.

The public names are imported when they are first used, so that ``import smlmkit`` stays light.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

_HOME_OF_NAME = {
    "AdaptiveKDE": "kde",
    "AnisotropicKDE": "kde",
    "AreaFRCLoss": "nn.losses",
    "CountFilter": "filters",
    "DynamicHalves": "strategies",
    "FRCCurve": "resolution",
    "FRCScorer": "scoring",
    "FieldOfView": "grid",
    "FixedHalves": "strategies",
    "FrameWindow": "filters",
    "GaussianKDE": "kde",
    "IsolatedFilter": "filters",
    "LocalizationFilter": "filters",
    "Localizations": "localizations",
    "MSSSIMScorer": "scoring",
    "N2NReconstructor": "reconstruct",
    "NoiseToClean": "strategies",
    "PSNRScorer": "scoring",
    "PixelGrid": "grid",
    "PoissonScorer": "scoring",
    "Renderer": "render",
    "SSIMScorer": "scoring",
    "SmlmkitError": "errors",
    "SmlmkitWarning": "errors",
    "SparseToDense": "strategies",
    "Thin": "filters",
    "TiledPoints": "batch.points",
    "concat": "localizations",
    "decorrelation_resolution": "resolution",
    "filament_profile": "resolution",
    "fourier_shell_correlation": "resolution",
    "frc_by_fraction": "resolution",
    "frc_curve": "resolution",
    "frc_map": "resolution",
    "frc_of_slices": "resolution",
    "frc_resolution": "resolution",
    "load_model": "reconstruct",
    "make_acquisitions": "simulate.datasets",
    "make_actin": "simulate.datasets",
    "make_blinks": "simulate.acquisition",
    "make_microtubules": "simulate.datasets",
    "make_primitives": "simulate.datasets",
    "make_two_filaments": "simulate.datasets",
    "read_image": "io",
    "read_localizations": "io",
    "read_pipeline": "pipelines",
    "reconstruct_dask": "batch.lazy",
    "reconstruct_field": "batch.field",
    "reconstruct_folder": "batch.folder",
    "scan_acquisitions": "io",
    "sort_by_tiles": "batch.points",
    "to_image": "images",
    "write_image": "io",
    "write_localizations": "io",
    "write_report": "report",
}

__all__ = ["__version__", *_HOME_OF_NAME]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF_NAME:
        raise AttributeError(f"module 'smlmkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"smlmkit.{_HOME_OF_NAME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if TYPE_CHECKING:
    from smlmkit.batch.field import reconstruct_field as reconstruct_field
    from smlmkit.batch.folder import reconstruct_folder as reconstruct_folder
    from smlmkit.batch.lazy import reconstruct_dask as reconstruct_dask
    from smlmkit.batch.points import TiledPoints as TiledPoints
    from smlmkit.batch.points import sort_by_tiles as sort_by_tiles
    from smlmkit.errors import SmlmkitError as SmlmkitError
    from smlmkit.errors import SmlmkitWarning as SmlmkitWarning
    from smlmkit.filters import CountFilter as CountFilter
    from smlmkit.filters import FrameWindow as FrameWindow
    from smlmkit.filters import IsolatedFilter as IsolatedFilter
    from smlmkit.filters import LocalizationFilter as LocalizationFilter
    from smlmkit.filters import Thin as Thin
    from smlmkit.grid import FieldOfView as FieldOfView
    from smlmkit.grid import PixelGrid as PixelGrid
    from smlmkit.images import to_image as to_image
    from smlmkit.io import read_image as read_image
    from smlmkit.io import read_localizations as read_localizations
    from smlmkit.io import scan_acquisitions as scan_acquisitions
    from smlmkit.io import write_image as write_image
    from smlmkit.io import write_localizations as write_localizations
    from smlmkit.kde import AdaptiveKDE as AdaptiveKDE
    from smlmkit.kde import AnisotropicKDE as AnisotropicKDE
    from smlmkit.kde import GaussianKDE as GaussianKDE
    from smlmkit.localizations import Localizations as Localizations
    from smlmkit.localizations import concat as concat
    from smlmkit.nn.losses import AreaFRCLoss as AreaFRCLoss
    from smlmkit.pipelines import read_pipeline as read_pipeline
    from smlmkit.reconstruct import N2NReconstructor as N2NReconstructor
    from smlmkit.reconstruct import load_model as load_model
    from smlmkit.render import Renderer as Renderer
    from smlmkit.report import write_report as write_report
    from smlmkit.resolution import FRCCurve as FRCCurve
    from smlmkit.resolution import decorrelation_resolution as decorrelation_resolution
    from smlmkit.resolution import filament_profile as filament_profile
    from smlmkit.resolution import fourier_shell_correlation as fourier_shell_correlation
    from smlmkit.resolution import frc_by_fraction as frc_by_fraction
    from smlmkit.resolution import frc_curve as frc_curve
    from smlmkit.resolution import frc_map as frc_map
    from smlmkit.resolution import frc_of_slices as frc_of_slices
    from smlmkit.resolution import frc_resolution as frc_resolution
    from smlmkit.scoring import FRCScorer as FRCScorer
    from smlmkit.scoring import MSSSIMScorer as MSSSIMScorer
    from smlmkit.scoring import PoissonScorer as PoissonScorer
    from smlmkit.scoring import PSNRScorer as PSNRScorer
    from smlmkit.scoring import SSIMScorer as SSIMScorer
    from smlmkit.simulate.acquisition import make_blinks as make_blinks
    from smlmkit.simulate.datasets import make_acquisitions as make_acquisitions
    from smlmkit.simulate.datasets import make_actin as make_actin
    from smlmkit.simulate.datasets import make_microtubules as make_microtubules
    from smlmkit.simulate.datasets import make_primitives as make_primitives
    from smlmkit.simulate.datasets import make_two_filaments as make_two_filaments
    from smlmkit.strategies import DynamicHalves as DynamicHalves
    from smlmkit.strategies import FixedHalves as FixedHalves
    from smlmkit.strategies import NoiseToClean as NoiseToClean
    from smlmkit.strategies import SparseToDense as SparseToDense
