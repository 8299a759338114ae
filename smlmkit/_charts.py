"""Charts: curves over axes, drawn with matplotlib for the objects that have a `plot`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from smlmkit.resolution.curve import FRCCurve


def draw_frc(curve: "FRCCurve", ax: "Axes | None" = None, *, label: str = "") -> "Axes":
    """Draw a correlation over frequency, with its error, its threshold and where it crosses it."""
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots(layout="constrained")
    found = f"{curve.resolution:.4g} nm" if not curve.reason else "no resolution"
    (line,) = ax.plot(curve.frequency[1:], curve.smoothed[1:], label=label or found)
    ax.plot(curve.frequency[1:], curve.correlation[1:], color=line.get_color(), alpha=0.3, lw=0.8)
    ax.fill_between(
        curve.frequency[1:],
        (curve.smoothed - curve.correlation_error)[1:],
        (curve.smoothed + curve.correlation_error)[1:],
        color=line.get_color(),
        alpha=0.15,
        lw=0,
    )
    ax.plot(
        curve.frequency[1:],
        curve.threshold_curve[1:].clip(max=1),
        color="0.4",
        linestyle="--",
        lw=0.8,
        label=f"threshold {curve.threshold}",
    )
    if not curve.reason:
        ax.axvline(1 / curve.resolution, color=line.get_color(), linestyle=":", lw=0.8)
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.set(
        xlabel="spatial frequency (cycles/nm)",
        ylabel="Fourier ring correlation",
        xlim=(0, curve.frequency[-1]),
        ylim=(min(-0.1, float(curve.smoothed[1:].min())), 1.05),
    )
    ax.legend(frameon=False)
    return ax
