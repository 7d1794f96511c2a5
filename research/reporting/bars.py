"""Draw measurements of several programs as bars, for benchmarks."""

from collections.abc import Mapping
from pathlib import Path

from research.reporting.figures import Figure

_OURS, _OTHERS = "#0072B2", "#56B4E9"


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
        colours = [_OURS if "ours" in name else _OTHERS for name in values]
        bars = axes.barh(list(values), list(values.values()), color=colours)
        axes.bar_label(bars, [f" {value:.3g}" for value in values.values()])
        axes.set_title(title, fontsize=10, loc="left")
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=144)
