"""Figures as PNG files."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sam_refine_benchmarks.measuring.results import Figure

mpl.use("agg")  # no screen needed
import matplotlib.pyplot as plt


def draw(figure: Figure, directory: Path) -> Path:
    """Write `<directory>/<name>.png`: lines of medians, bands from the lowest to the highest."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{figure.name}.png"
    canvas, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    try:
        for series in figure.series:
            (line,) = axes.plot(series.x, series.y, marker="o", markersize=3, label=series.name)
            if series.low:
                axes.fill_between(
                    series.x, series.low, series.high, color=line.get_color(), alpha=0.2
                )
        label(axes, figure)
        if len(figure.series) > 1:
            canvas.legend(loc="outside lower center", ncols=2)
        canvas.savefig(path, dpi=120)
    finally:
        plt.close(canvas)
    return path


def label(axes: Axes, figure: Figure) -> None:
    """Title, scales and ticks; what is counted along x are whole numbers."""
    axes.set(title=figure.title, xlabel=figure.x_label, ylabel=figure.y_label)
    if figure.logarithmic:
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(sorted({x for series in figure.series for x in series.x}))
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    else:
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3, which="both")
