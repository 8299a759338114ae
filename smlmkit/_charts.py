"""Charts: curves over axes, drawn with matplotlib for the objects that have a `plot`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from smlmkit._figure import save

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from smlmkit.resolution.curve import FRCCurve


def draw_frc(curve: "FRCCurve", ax: "Axes | None" = None, *, label: str = "") -> "Axes":
    """Draw a correlation over frequency, with its error, its threshold and where it crosses it."""
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots(layout="constrained")
    label = label or describe_resolution(curve)
    (line,) = ax.plot(curve.frequency[1:], curve.smoothed[1:], label=label)
    ax.plot(curve.frequency[1:], curve.correlation[1:], color=line.get_color(), alpha=0.3, lw=0.8)
    ax.fill_between(
        curve.frequency[1:],
        (curve.smoothed - curve.correlation_error)[1:],
        (curve.smoothed + curve.correlation_error)[1:],
        color=line.get_color(),
        alpha=0.15,
        lw=0,
    )
    threshold = f"threshold {curve.threshold}"
    ax.plot(
        curve.frequency[1:],
        curve.threshold_curve[1:].clip(max=1),
        color="0.4",
        linestyle="--",
        lw=0.8,
        label="_" if threshold in ax.get_legend_handles_labels()[1] else threshold,
    )
    if not curve.reason:
        ax.axvline(1 / curve.resolution, color=line.get_color(), linestyle=":", lw=0.8)
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.set(
        xlabel="spatial frequency (cycles/nm)",
        ylabel="Fourier correlation",
        xlim=(0, ax.dataLim.x1),
        ylim=(min(-0.1, ax.dataLim.y0), 1.05),
    )
    ax.legend(frameon=False)
    return ax


def describe_resolution(curve: "FRCCurve") -> str:
    """Give the resolution in nm in words."""
    return "no resolution" if curve.reason else f"{curve.resolution:.4g} nm"


def save_frc(
    curves: "Mapping[str, FRCCurve]",
    fractions: "Mapping[str, pd.DataFrame]",
    path: str | os.PathLike[str],
    *,
    overwrite: bool,
) -> None:
    """Write a PNG of the curves of several tables and, if given, of what `frc_by_fraction` gave."""
    from matplotlib.figure import Figure

    n_charts = 3 if fractions else 1
    figure = Figure(figsize=(6.4 * n_charts, 4.8), dpi=100, layout="constrained")
    axes = figure.subplots(1, n_charts, squeeze=False)[0]
    for name, curve in curves.items():
        draw_frc(curve, axes[0], label=f"{Path(name).name}: {describe_resolution(curve)}")
    for name, table in fractions.items():
        for ax, column in zip(axes[1:], ("resolution", "area"), strict=True):
            ax.errorbar(
                100 * table["fraction"],
                table[column],
                table[f"{column}_sd"],
                marker="o",
                markersize=3,
                capsize=2,
                label=Path(name).name,
            )
    for ax, title in zip(axes[1:], ("resolution (nm)", "FRC area"), strict=False):
        ax.set(xscale="log", xlabel="share of the localizations (%)", ylabel=title, ylim=(0, None))
        ax.legend(frameon=False)
    save(figure, path, "Fourier ring correlation", overwrite)
