"""The plots; the only file that imports Matplotlib, and without its global state, so that threads do not meet."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from research.reporting.results import Results

# Okabe & Ito: told apart by the colour-blind. Markers repeat the distinction for print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_MARKERS = "osD^vPX*"


def plot_accuracy(results: Results, path: Path) -> None:
    """Accuracy with its interval a variant, the runs as small dots."""
    ranked = sorted(results.estimates, key=lambda variant: results.estimates[variant]["accuracy"].mean)
    figure = Figure(figsize=(7, 1.2 + 0.45 * len(ranked)), layout="constrained")
    axes = figure.subplots()
    for y, variant in enumerate(ranked):
        runs = [100 * r["accuracy"] for r in results.rows if r["variant"] == variant and r["status"] == "done"]
        estimate = results.estimates[variant]["accuracy"]
        axes.plot(runs, [y + 0.18] * len(runs), "|", color="0.55", markersize=7)
        axes.plot([100 * estimate.low, 100 * estimate.high], [y, y], color=_COLOURS[0], linewidth=2)
        axes.plot(100 * estimate.mean, y, "o", color=_COLOURS[0])
    axes.set_yticks(range(len(ranked)), ranked)
    axes.set_ylim(-0.6, len(ranked) - 0.4)
    axes.set_xlabel("test accuracy, %: mean and 95 % interval; a tick a run")
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, dpi=144)


def plot_curves(results: Results, path: Path) -> None:
    """Validation accuracy by epoch: the mean of the runs, and the range between them."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for i, (variant, curves) in enumerate(results.curves.items()):
        epochs, curves = np.arange(1, curves.shape[1] + 1), 100 * curves
        colour = _COLOURS[i % len(_COLOURS)]
        axes.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.12, linewidth=0)
        marker = _MARKERS[i % len(_MARKERS)]
        axes.plot(epochs, curves.mean(axis=0), color=colour, marker=marker, markersize=4, label=variant)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy, % (mean and range)")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=144)
