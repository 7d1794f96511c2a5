"""Draw the first picture of a report: the differences with their simultaneous intervals, by verdict."""

from typing import Any

import numpy as np

from research.evaluation.metrics import METRICS, unit_of
from research.reporting.figures import COLOURS, Figure, break_name, escape_formulas
from research.reporting.formatting import format_margin
from research.reporting.pairs import main_pairs, single_reference
from research.reporting.results import NOT_TRAINED, Results

_BLUE, _ORANGE, _GREEN = COLOURS[:3]
# Colour, marker, and whether it is filled: each verdict can be told from the others in grey too.
_LOOKS = {
    "better": (_GREEN, "^", True),
    "equivalent": (_BLUE, "s", True),
    "undecided": ("0.45", "o", False),
    "worse": (_ORANGE, "v", True),
    NOT_TRAINED: ("0.45", "x", True),
}
_ROW = 0.28  # inches
_ROOM = 1.5  # the axis goes on beyond the outermost difference by so many times the median half of an interval


def draw_differences(results: Results) -> Figure:
    """Draw one row per pair that the answer is about. An interval that leaves the picture ends in an arrow."""
    scale = 1 if unit_of(results.metric) == "nats" else 100
    pairs = main_pairs(results)
    pairs = [pair for pair in pairs if not np.isnan(pair["difference"])][::-1]
    means = scale * np.array([pair["difference"] for pair in pairs])
    intervals = scale * np.array([pair["interval"] for pair in pairs])
    margin = scale * results.claims.margin
    left, right = _limits(means, intervals, margin)
    reference = single_reference(pairs)
    row = _ROW if reference else 1.5 * _ROW
    figure = Figure(figsize=(8, 0.9 + row * len(pairs)), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-margin, margin, color="0.92", zorder=0)
    axes.axvline(0, color="0.3", linewidth=1, zorder=1)
    for y, (pair, mean, (low, high)) in enumerate(zip(pairs, means, intervals, strict=True)):
        colour, marker, is_filled = _LOOKS[pair["verdict"]]
        axes.plot([max(low, left), min(high, right)], [y, y], color=colour, linewidth=1.8, zorder=2)
        for end, is_cut, arrow in ((left, low < left, "<"), (right, high > right, ">")):
            if is_cut:
                axes.plot(end, y, arrow, color=colour, markersize=6, clip_on=False, zorder=2)
        fill = colour if is_filled else "white"
        axes.plot(mean, y, marker, color=colour, markerfacecolor=fill, markersize=8, markeredgewidth=1.6, zorder=3)
    axes.set_yticks(range(len(pairs)), [_label(pair, reference) for pair in pairs])
    axes.set_ylim(-0.6, len(pairs) - 0.4)
    axes.set_xlim(left, right)
    words = axes.secondary_yaxis("right")
    words.set_yticks(range(len(pairs)), [_word(pair) for pair in pairs])
    for label, pair in zip(words.get_yticklabels(), pairs, strict=True):
        label.set_fontweight("bold" if pair["verdict"] in ("better", "worse") else "normal")
    for side in (axes, words):
        side.tick_params(axis="y", length=0)
        side.spines[["top", "right", "left"]].set_visible(False)
    figure.supxlabel(_axis_label(results, reference), fontsize=9)
    return figure


def _limits(means: np.ndarray, intervals: np.ndarray, margin: float) -> tuple[float, float]:
    """Return the ends of the axis: all differences and most of their intervals are inside."""
    lengths = np.ptp(intervals, axis=1)
    room = _ROOM * np.median(lengths[np.isfinite(lengths)]) / 2
    left = max(means.min() - room, intervals.min())
    right = min(means.max() + room, intervals.max())
    edge = 0.03 * max(right - left, margin)
    return min(left, -1.2 * margin) - edge, max(right, 1.2 * margin) + edge


def _label(pair: dict[str, Any], reference: str | None) -> str:
    """Return the name of a row: the variant, and what it is compared with if that is not the same in all rows."""
    return break_name(pair["a"]) if reference else f"{break_name(pair['a'])}\nagainst {break_name(pair['b'])}"


def _word(pair: dict[str, Any]) -> str:
    """Return the verdict of a pair as the picture shows it."""
    return f"negligibly {pair['verdict']}" if pair["negligible"] else pair["verdict"]


def _axis_label(results: Results, reference: str | None) -> str:
    """Return what the axis shows and what the band means."""
    minus = f"minus that of {escape_formulas(reference)}" if reference else "minus that of the other variant"
    better = "left" if METRICS[results.metric].is_lower_better else "right"
    margin = format_margin(results.metric, results.claims.margin)
    difference = f"{METRICS[results.metric].title} {minus}, {unit_of(results.metric)}"
    return f"{difference}; simultaneous 95 % intervals; better is to the {better}; grey band: within {margin}"
