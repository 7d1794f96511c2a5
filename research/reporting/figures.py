"""The figure that plots are drawn on, their colours, and plain bars."""

import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib import figure

# Okabe & Ito: the colour-blind can tell them apart. Nothing is shown by colour alone.
BLUE = "#0072B2"
COLOURS = (BLUE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


class Figure(figure.Figure):
    """A figure that a notebook shows as an image, whatever its settings for Matplotlib are."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=100)
        return file.getvalue()


def escape_formulas(text: str) -> str:
    """Return a text whose dollar signs begin no formula."""
    return text.replace("$", r"\$")


def break_name(name: str) -> str:
    """Return a variant's name as axes show it: broken before its settings if it is long."""
    return escape_formulas(name).replace("[", "\n[") if len(name) > 30 else escape_formulas(name)


def write_bars(path: Path, measures: Mapping[str, Mapping[str, float]]) -> None:
    """Draw values as bars with their numbers beside them.

    Args:
      path: the PNG file.
      measures: title of a panel -> name of a bar -> value. Names with "ours" stand out.
    """
    figure = Figure(figsize=(7, 1.2 + 0.5 * sum(map(len, measures.values()))), layout="constrained")
    heights = [len(values) for values in measures.values()]
    panels = figure.subplots(len(measures), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, values) in zip(panels, measures.items(), strict=True):
        colours = [BLUE if "ours" in name else COLOURS[5] for name in values]
        bars = axes.barh(list(values), list(values.values()), color=colours)
        axes.bar_label(bars, [f" {value:.3g}" for value in values.values()])
        axes.set_title(title, fontsize=10, loc="left")
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=144)
