"""Draw the plots. They avoid the global state of Matplotlib, so threads may draw."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter

from research.errors import UserError, expected
from research.evaluation.intervals import Estimate
from research.evaluation.metrics import METRICS, confusion_matrix, unit_of
from research.reporting.difference_plot import draw_differences
from research.reporting.documents import Plot
from research.reporting.drawable_names import FONTS, names_of, rename
from research.reporting.effects import Grid, find_grids
from research.reporting.figures import BLUE, COLOURS, Figure, break_name, escape_formulas
from research.reporting.results import NOT_TRAINED, Results

_MARKERS = "osD^vPX*"
_PANELS_IN_A_ROW = 4
_MOST_CONFUSIONS = 8


def write_plots(results: Results, folder: Path) -> dict[str, Plot]:
    """Draw all plots into a folder and return them by name.

    What no font can draw has a code in the pictures, such as "#1", and `Plot.key` says what it stands for.
    """
    folder.mkdir(exist_ok=True)
    plots, names = {}, names_of(results)
    for name, (_, caption) in _drawings(results).items():
        figure = draw_plot(results, name)
        key = names.key(text.get_text() for text in figure.findobj(Text))
        plots[name] = Plot(folder / f"{name}.png", caption, key)
        figure.savefig(plots[name].path, dpi=144)
    return plots


def draw_plot(results: Results, name: str | None = None) -> Figure:
    """Return a plot of a report by its name, such as "scores" or "curves"; by default the first picture.

    Raises:
      UserError: there is no such plot.
    """
    drawings = _drawings(results)
    name = next(iter(drawings)) if name is None else name
    if name not in drawings:
        raise UserError(f"there is no plot {name!r}, {expected(name, drawings)}")
    draw, _ = drawings[name]
    names = names_of(results)
    figure = draw(rename(results, names) if names.codes else results)
    if names.key(text.get_text() for text in figure.findobj(Text)):
        note = f"{figure.get_supxlabel()}\n(no font here has some names: the report says what #1, ... stand for)"
        figure.supxlabel(note.strip(), fontsize=9)
    for text in figure.findobj(Text):
        text.set_fontfamily(FONTS)
    return figure


def describe_plot(results: Results) -> str:
    """Return the caption of the first picture."""
    _, caption = next(iter(_drawings(results).values()))
    return caption


def _drawings(results: Results) -> dict[str, tuple[Callable[[Results], Figure], str]]:
    """Return the functions and captions of the plots that suit a comparison, by name."""
    name = METRICS[results.metric].title
    drawings = {
        "differences": (
            draw_differences,
            f"Differences of test {name} with simultaneous 95 % intervals and verdicts; the band is the margin",
        ),
        "scores": (
            _draw_scores,
            f"Test {name} of each variant: mean, 95 % interval, and one tick per run; a ring where runs did not learn",
        ),
        "curves": (
            _draw_curves,
            "Validation accuracy by epoch, one panel per variant: mean and range of runs still in training",
        ),
        "cost": (_draw_cost, f"Test {name} with 95 % interval against seconds of training a run"),
        "calibration": (
            _draw_calibration,
            "Share of right predictions against confidence, one panel per variant; the diagonal is perfect",
        ),
        "confusion": (
            _draw_confusion,
            "Confusion of the best variants: shares of each label's texts, labels down, predictions across",
        ),
    }
    for plot, has in (("cost", results.has_seconds), ("calibration", results.has_probabilities)):
        if not any(map(has, results.ranked())):
            del drawings[plot]
    if results.spread is None:  # no difference is known from two runs
        del drawings["differences"]
    if not results.curves:
        del drawings["curves"]
    if any(_numeric_fields(grid) for grid in find_grids(results.ranked())):
        caption = f"Test {name} with 95 % interval against each setting that was varied over numbers"
        drawings["settings"] = (_draw_settings, caption)
    return drawings


def _scale(results: Results, value: float) -> float:
    """Return a value of the deciding metric in the unit of its axis: per cent or nats."""
    return value if unit_of(results.metric) == "nats" else 100 * value


def _axis_label(results: Results) -> str:
    return f"test {METRICS[results.metric].title}, {'nats' if unit_of(results.metric) == 'nats' else '%'}"


def _scaled_estimate(results: Results, variant: str) -> Estimate:
    return Estimate(*(_scale(results, value) for value in results.estimates[variant][results.metric]))


def _draw_scores(results: Results) -> Figure:
    ranked = results.ranked()[::-1]
    figure = Figure(figsize=(7, 1.2 + 0.36 * len(ranked)), layout="constrained")
    axes = figure.subplots()
    for y, variant in enumerate(ranked):
        runs = [_scale(results, row[results.metric]) for row in results.done(variant)]
        estimate = _scaled_estimate(results, variant)
        axes.plot(runs, [y + 0.22] * len(runs), "|", color="0.5", markersize=6)
        axes.plot([estimate.low, estimate.high], [y, y], color=BLUE, linewidth=2)
        axes.plot(estimate.mean, y, "o", color=BLUE, markerfacecolor=_fill_colour(results, variant))
    axes.set_yticks(range(len(ranked)), [_mark_untrained(results, variant) for variant in ranked])
    axes.set_ylim(-0.6, len(ranked) - 0.4)
    figure.supxlabel(f"{_axis_label(results)}: mean and 95 % interval; one tick per run", fontsize=9)
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _fill_colour(results: Results, variant: str) -> str:
    """Return the fill of a marker: a ring for variants that were not trained, else a disc."""
    return "white" if variant in results.untrained else BLUE


def _mark_untrained(results: Results, variant: str) -> str:
    """Return a variant's name as axes show it, marked if runs were not trained."""
    return break_name(variant) + (f"\n({NOT_TRAINED})" if variant in results.untrained else "")


def _make_panels(variants: list[str], height: float) -> tuple[Figure, Iterator[tuple[str, Axes]]]:
    """Return a figure and a small panel for each variant."""
    columns = min(_PANELS_IN_A_ROW, len(variants))
    rows = -(-len(variants) // columns)
    figure = Figure(figsize=(2.3 * columns + 0.6, height * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for unused in axes[len(variants) :]:
        unused.set_visible(False)
    for panel, variant in zip(axes, variants, strict=False):
        panel.set_title(
            escape_formulas(variant).replace(",", ",\n").replace("[", "\n["), fontsize=9 if "[" not in variant else 7
        )
        panel.tick_params(labelsize=8)
    return figure, zip(variants, axes, strict=False)


def _draw_curves(results: Results) -> Figure:
    shown = [variant for variant in results.ranked() if variant not in results.foreign]
    figure, panels = _make_panels(shown, 1.7)
    means = {variant: 100 * np.nanmean(curves, axis=0) for variant, curves in results.curves.items()}
    for variant, axes in panels:
        if variant not in means:  # its metrics.jsonl files were removed
            continue
        for other, mean in means.items():
            if other != variant:
                axes.plot(np.arange(1, len(mean) + 1), mean, color="0.85", linewidth=0.8)
        curves = 100 * results.curves[variant]
        epochs = np.arange(1, curves.shape[1] + 1)
        low, high = np.nanmin(curves, axis=0), np.nanmax(curves, axis=0)
        axes.fill_between(epochs, low, high, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(epochs, means[variant], color=BLUE, marker="o", markersize=2.5, linewidth=1.4)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("validation accuracy, %", fontsize=9)
    return figure


def _draw_cost(results: Results) -> Figure:
    """Draw scores against seconds. Points are numbered by rank, because the names of many variants would overlap."""
    ranked = [variant for variant in results.ranked() if results.has_seconds(variant)]
    figure = Figure(figsize=(8.5, max(4.6, 0.8 + 0.17 * len(ranked))), layout="constrained")
    axes = figure.subplots()
    for rank, variant in enumerate(ranked, 1):
        seconds = np.mean([row["train_seconds"] for row in results.done(variant)])
        estimate, style = (
            _scaled_estimate(results, variant),
            {"markersize": 5, "markerfacecolor": _fill_colour(results, variant)},
        )
        axes.plot([seconds] * 2, [estimate.low, estimate.high], color="0.8", linewidth=1.2, zorder=1)
        label = f"{rank}  {escape_formulas(variant)}"
        axes.plot(seconds, estimate.mean, "o", color=BLUE, zorder=2, label=label, **style)
        above = (4 if rank % 2 else -11) if len(ranked) > _PANELS_IN_A_ROW else 3
        where = (seconds, estimate.mean)
        axes.annotate(str(rank), where, xytext=(4, above), textcoords="offset points", fontsize=8, zorder=3)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds of training a run")
    axes.set_ylabel(f"{_axis_label(results)}, with 95 % interval")
    axes.grid(color="0.92", which="both")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8, handlelength=0, markerscale=0)
    return figure


def _draw_calibration(results: Results) -> Figure:
    figure, panels = _make_panels([v for v in results.ranked() if results.has_probabilities(v)], 2.0)
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
        axes.plot(x, y, color=BLUE, marker="o", markersize=3)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
    figure.supxlabel("confidence (tenths with at least 10 predictions)", fontsize=9)
    figure.supylabel("share of right predictions", fontsize=9)
    return figure


def _draw_confusion(results: Results) -> Figure:
    names = list(map(escape_formulas, results.plan["classes"]))
    figure, panels = _make_panels(results.ranked()[:_MOST_CONFUSIONS], 2.1)
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


def _numeric_fields(grid: Grid) -> list[str]:
    """Return the fields whose levels are numbers."""
    return [field for field in grid.fields if all(map(_is_number, grid.levels(field)))]


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return math.isfinite(float(text))
    return False


def _draw_settings(results: Results) -> Figure:
    """Draw one panel per setting, with a line for each variant and combination of the other settings' levels."""
    grids = find_grids(results.ranked())
    fields = list(dict.fromkeys(field for grid in grids for field in _numeric_fields(grid)))
    figure = Figure(figsize=(4.2 * len(fields) + 2.4, 3.8), layout="constrained")
    panels = figure.subplots(1, len(fields), sharey=True, squeeze=False)[0]
    for axes, field in zip(panels, fields, strict=True):
        lines = _lines_over([grid for grid in grids if field in _numeric_fields(grid)], field)
        for i, (name, points) in enumerate(lines.items()):
            x, variants = zip(*sorted(points), strict=True)
            estimates = [_scaled_estimate(results, variant) for variant in variants]
            mean = np.array([estimate.mean for estimate in estimates])
            low, high = ([getattr(estimate, end) for estimate in estimates] for end in ("low", "high"))
            style = {"color": COLOURS[i % len(COLOURS)], "marker": _MARKERS[i % len(_MARKERS)], "markersize": 4}
            style |= {"linewidth": 1.4, "elinewidth": 0.8, "capsize": 2}
            axes.errorbar(x, mean, [mean - low, high - mean], label=escape_formulas(name), **style)
        values = sorted({x for points in lines.values() for x, _ in points})
        if values[0] > 0 and values[-1] >= 8 * values[0]:
            axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
        axes.set_xlabel(field)
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7)
    figure.supylabel(f"{_axis_label(results)}, with 95 % interval", fontsize=9)
    return figure


def _lines_over(grids: list[Grid], field: str) -> dict[str, list[tuple[float, str]]]:
    """Return the lines over one field: name -> its (level, variant) points."""
    lines: dict[str, list[tuple[float, str]]] = {}
    for grid in grids:
        for levels, variant in grid.cells.items():
            level_of = dict(zip(grid.fields, levels, strict=True))
            level = float(level_of.pop(field))
            others = ",".join(f"{name}={value}" for name, value in level_of.items())
            lines.setdefault(f"{grid.base}[{others}]" if others else grid.base, []).append((level, variant))
    return lines
