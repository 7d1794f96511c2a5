"""The plots; the only file that imports Matplotlib, and without its global state, so that threads do not meet."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter

from research.evaluation.intervals import Estimate
from research.evaluation.metrics import NAMES, confusion_matrix, unit_of
from research.reporting.effects import Grid, grids
from research.reporting.results import NOT_TRAINED, Results

# Okabe & Ito: told apart by the colour-blind. Nothing is said by colour alone.
_BLUE = "#0072B2"
_COLOURS = (_BLUE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX*"
_PANELS = 4  # in a row
_MOST_CONFUSIONS = 8
# Matplotlib's own font, and for the letters that it lacks (names of classes in Chinese) one that is installed.
_FONTS = ["DejaVu Sans"] + [
    font
    for font in (
        *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
        *("PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "SimHei", "Arial Unicode MS", "Droid Sans Fallback"),
    )
    if font in font_manager.get_font_names()
]


def write_plots(results: Results, folder: Path) -> dict[str, str]:
    """Draws all plots; returns their names with what each shows."""
    name = NAMES[results.metric]
    shown = {
        _scores: f"Test {name} of each variant: mean, 95 % interval, and a tick a run; a ring where runs did not learn",
        _curves: "Validation accuracy by epoch, a panel a variant: mean and range of runs still in training",
        _cost: f"Test {name} with 95 % interval against seconds of training a run",
        _calibration: "Share of right predictions against confidence, a panel a variant; the diagonal is perfect",
        _confusion: "Confusion of the best variants: shares of each label's texts, labels down, predictions across",
    }
    if any(_numeric(grid) for grid in grids(results.ranked())):
        shown[_settings] = f"Test {name} with 95 % interval against each setting that was varied over numbers"
    folder.mkdir(exist_ok=True)
    names = {}
    for draw, what in shown.items():
        figure = draw(results)
        names[name := draw.__name__.removeprefix("_")] = what
        for text in figure.findobj(Text):
            text.set_fontfamily(_FONTS)
        figure.savefig(folder / f"{name}.png", dpi=144)
    return names


def write_bars(path: Path, measured: dict[str, dict[str, float]]) -> None:
    """Draws values by name as bars, a panel a measure, and writes their numbers beside them."""
    figure = Figure(figsize=(7, 1.2 + 0.5 * sum(map(len, measured.values()))), layout="constrained")
    heights = [len(values) for values in measured.values()]
    for axes, (title, values) in zip(
        figure.subplots(len(measured), squeeze=False, height_ratios=heights)[:, 0], measured.items(), strict=True
    ):
        bars = axes.barh(list(values), list(values.values()), color=[_COLOURS[0 if "ours" in n else 5] for n in values])
        axes.bar_label(bars, [f" {value:.3g}" for value in values.values()])
        axes.set_title(title, fontsize=10, loc="left")
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=144)


def _scaled(results: Results, value: float) -> float:
    """A value of the metric that decides, as an axis has it: per cent or nats."""
    return value if unit_of(results.metric) == "nats" else 100 * value


def _axis(results: Results) -> str:
    """What such an axis shows."""
    return f"test {NAMES[results.metric]}, {'nats' if unit_of(results.metric) == 'nats' else '%'}"


def _of_metric(results: Results, variant: str) -> Estimate:
    """Mean and interval of a variant, scaled."""
    return Estimate(*(_scaled(results, value) for value in results.estimates[variant][results.metric]))


def _scores(results: Results) -> Figure:
    ranked = results.ranked()[::-1]
    figure = Figure(figsize=(7, 1.2 + 0.36 * len(ranked)), layout="constrained")
    axes = figure.subplots()
    for y, variant in enumerate(ranked):
        runs = [_scaled(results, row[results.metric]) for row in results.done(variant)]
        estimate = _of_metric(results, variant)
        axes.plot(runs, [y + 0.22] * len(runs), "|", color="0.5", markersize=6)
        axes.plot([estimate.low, estimate.high], [y, y], color=_BLUE, linewidth=2)
        axes.plot(estimate.mean, y, "o", color=_BLUE, markerfacecolor=_fill(results, variant))
    axes.set_yticks(range(len(ranked)), [_two_lines(results, variant) for variant in ranked])
    axes.set_ylim(-0.6, len(ranked) - 0.4)
    figure.supxlabel(f"{_axis(results)}: mean and 95 % interval; a tick a run", fontsize=9)
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _fill(results: Results, variant: str) -> str:
    """A ring for what was not trained, else a disc."""
    return "white" if variant in results.untrained else _BLUE


def _two_lines(results: Results, variant: str) -> str:
    """A variant's name, broken where it is long, and whether it was trained."""
    name = _plain(variant).replace("[", "\n[") if len(variant) > 30 else _plain(variant)
    return f"{name}\n({NOT_TRAINED})" if variant in results.untrained else name


def _plain(text: str) -> str:
    """Without formulas: a dollar sign is one."""
    return text.replace("$", r"\$")


def _panels(variants: list[str], height: float) -> tuple[Figure, Iterator[tuple[str, Axes]]]:
    """A small panel for each variant, best first."""
    columns = min(_PANELS, len(variants))
    rows = -(-len(variants) // columns)
    figure = Figure(figsize=(2.3 * columns + 0.6, height * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for unused in axes[len(variants) :]:
        unused.set_visible(False)
    for panel, variant in zip(axes, variants, strict=False):
        panel.set_title(
            _plain(variant).replace(",", ",\n").replace("[", "\n["), fontsize=9 if "[" not in variant else 7
        )
        panel.tick_params(labelsize=8)
    return figure, zip(variants, axes, strict=False)


def _curves(results: Results) -> Figure:
    figure, panels = _panels(results.ranked(), 1.7)
    means = {variant: 100 * np.nanmean(curves, axis=0) for variant, curves in results.curves.items()}
    for variant, axes in panels:
        if variant not in means:  # its runs lost their metrics
            continue
        for other, mean in means.items():
            if other != variant:
                axes.plot(np.arange(1, len(mean) + 1), mean, color="0.85", linewidth=0.8)
        curves = 100 * results.curves[variant]
        epochs = np.arange(1, curves.shape[1] + 1)
        low, high = np.nanmin(curves, axis=0), np.nanmax(curves, axis=0)
        axes.fill_between(epochs, low, high, color=_BLUE, alpha=0.2, linewidth=0)
        axes.plot(epochs, means[variant], color=_BLUE, marker="o", markersize=2.5, linewidth=1.4)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("validation accuracy, %", fontsize=9)
    return figure


def _cost(results: Results) -> Figure:
    """Points are numbered by rank, because the names of many variants would lie over each other."""
    ranked = results.ranked()
    figure = Figure(figsize=(8.5, max(4.6, 0.8 + 0.17 * len(ranked))), layout="constrained")
    axes = figure.subplots()
    for rank, variant in enumerate(ranked, 1):
        seconds = np.mean([row["train_seconds"] for row in results.done(variant)])
        estimate, style = _of_metric(results, variant), {"markersize": 5, "markerfacecolor": _fill(results, variant)}
        axes.plot([seconds] * 2, [estimate.low, estimate.high], color="0.8", linewidth=1.2, zorder=1)
        label = f"{rank}  {_plain(variant)}"
        axes.plot(seconds, estimate.mean, "o", color=_BLUE, zorder=2, label=label, **style)
        above = (4 if rank % 2 else -11) if len(ranked) > _PANELS else 3
        where = (seconds, estimate.mean)
        axes.annotate(str(rank), where, xytext=(4, above), textcoords="offset points", fontsize=8, zorder=3)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds of training a run")
    axes.set_ylabel(f"{_axis(results)}, with 95 % interval")
    axes.grid(color="0.92", which="both")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8, handlelength=0, markerscale=0)
    return figure


def _calibration(results: Results) -> Figure:
    figure, panels = _panels(results.ranked(), 2.0)
    for variant, axes in panels:
        label = np.concatenate([o.label for o in results.outcomes[variant]])
        probabilities = np.concatenate([o.probabilities for o in results.outcomes[variant]])
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == label
        bins = np.minimum((confidence * 10).astype(int), 9)
        count = np.bincount(bins, minlength=10)
        full = count >= 10
        x = np.bincount(bins, confidence, minlength=10)[full] / count[full]
        y = np.bincount(bins, right, minlength=10)[full] / count[full]
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
        axes.plot(x, y, color=_BLUE, marker="o", markersize=3)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
    figure.supxlabel("confidence (tenths with at least 10 predictions)", fontsize=9)
    figure.supylabel("share of right predictions", fontsize=9)
    return figure


def _confusion(results: Results) -> Figure:
    names = list(map(_plain, results.plan["classes"]))
    figure, panels = _panels(results.ranked()[:_MOST_CONFUSIONS], 2.1)
    for variant, axes in panels:
        counts = sum(
            confusion_matrix(o.label, o.probabilities.argmax(axis=1), len(names)) for o in results.outcomes[variant]
        )
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if len(names) <= 6:
            for (row, column), share in np.ndenumerate(shares):
                colour = "white" if share > 0.6 else "black"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=8)
        if len(names) <= 12:
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
            axes.set_yticks(range(len(names)), names, fontsize=7)
    figure.supxlabel("prediction", fontsize=9)
    figure.supylabel("label", fontsize=9)
    return figure


def _numeric(grid: Grid) -> list[str]:
    """The fields whose levels are numbers."""

    def is_number(level: str) -> bool:
        with contextlib.suppress(ValueError):
            return math.isfinite(float(level))
        return False

    return [field for field in grid.fields if all(map(is_number, grid.levels(field)))]


def _settings(results: Results) -> Figure:
    """A panel a setting; a line for each variant and combination of the other settings' levels."""
    found = grids(results.ranked())
    fields = list(dict.fromkeys(field for grid in found for field in _numeric(grid)))
    figure = Figure(figsize=(4.2 * len(fields) + 2.4, 3.8), layout="constrained")
    for axes, field in zip(figure.subplots(1, len(fields), sharey=True, squeeze=False)[0], fields, strict=True):
        lines: dict[str, list[tuple[float, str]]] = {}
        for grid in found:
            for levels, variant in grid.cells.items():
                if field in _numeric(grid):
                    others = [f"{f}={v}" for f, v in zip(grid.fields, levels, strict=True) if f != field]
                    name = grid.base + (f"[{','.join(others)}]" if others else "")
                    lines.setdefault(name, []).append((float(levels[grid.fields.index(field)]), variant))
        for i, (name, points) in enumerate(lines.items()):
            x, variants = zip(*sorted(points), strict=True)
            of_line = [_of_metric(results, variant) for variant in variants]
            mean = np.array([e.mean for e in of_line])
            ends = [mean - [e.low for e in of_line], [e.high for e in of_line] - mean]
            style = {"color": _COLOURS[i % len(_COLOURS)], "marker": _MARKERS[i % len(_MARKERS)], "markersize": 4}
            axes.errorbar(x, mean, ends, label=_plain(name), linewidth=1.4, elinewidth=0.8, capsize=2, **style)
        values = [x for points in lines.values() for x, _ in points]
        if min(values) > 0 and max(values) >= 8 * min(values):
            axes.set_xscale("log")
        axes.set_xticks(sorted(set(values)), [f"{value:g}" for value in sorted(set(values))])
        axes.minorticks_off()
        axes.set_xlabel(field)
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7)
    figure.supylabel(f"{_axis(results)}, with 95 % interval", fontsize=9)
    return figure
