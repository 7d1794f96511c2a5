"""Build the tables that people read, on the terminal and in reports."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from research.evaluation.intervals import Estimate, estimate, mcnemar
from research.evaluation.metrics import METRICS, per_class, unit_of
from research.evaluation.outcome import Outcome
from research.reporting.documents import Table
from research.reporting.formatting import (
    difference_header,
    format_difference,
    format_interval,
    format_percent,
    format_range,
    format_score,
    round_up,
)
from research.reporting.pairs import main_pairs, pair_from_second, single_reference
from research.reporting.results import NOT_TRAINED, VERDICTS, Results

# One more metric stands in the first table, by the metric that decides.
_SECOND_METRIC = {"accuracy": "macro_f1"}
_SECOND_METRIC_DEFAULT = "accuracy"

ABOUT_A_RUN = (
    "The intervals are for this trained model, over texts like these; they say nothing about another training."
)


def label_variant(results: Results, variant: str) -> str:
    """Return a variant's name, marked if some of its runs were not trained."""
    count = len(results.untrained.get(variant, {}))
    return f"{variant} ({count} of {len(results.outcomes[variant])} runs {NOT_TRAINED})" if count else variant


def variants_table(results: Results) -> Table:
    """Return one row per variant, the best first. Variants without a finished run are last.

    If all pairs that the answer is about have the same reference, a row has the verdict against it.
    """
    metric, second = results.metric, _SECOND_METRIC.get(results.metric, _SECOND_METRIC_DEFAULT)
    pairs = main_pairs(results)
    reference = single_reference(pairs)
    verdict_names = () if reference is None else (f"against {reference} ({unit_of(metric)})", "verdict")
    header = ("variant", METRICS[metric].title, "95 % interval", *verdict_names, METRICS[second].title)
    header += ("parameters", "s/run", "runs")
    pair_of = {pair["a"]: pair for pair in pairs}
    rows = []
    for variant in results.ranked() + [variant for variant in results.variants if variant not in results.estimates]:
        planned = sum(row["variant"] == variant for row in results.rows)
        done = results.done(variant)
        count = f"{len(done)}" if len(done) == planned else f"{len(done)} of {planned}"
        if not done:
            rows.append((variant, *["-"] * (len(header) - 2), count))
            continue
        mean, low, high = (format_score(metric, value) for value in results.estimates[variant][metric])
        rows.append(
            (
                label_variant(results, variant),
                mean,
                f"[{low}, {high}]",
                *(() if reference is None else _verdict_cells(pair_of.get(variant))),
                format_score(second, results.estimates[variant][second].mean),
                _format_count(done[0]["parameters"]),
                _format_mean([row["train_seconds"] for row in done], ".1f"),
                count,
            )
        )
    return Table(header, rows, verdicts=True)


def _verdict_cells(pair: dict[str, Any] | None) -> tuple[str, str]:
    """Return the difference with its interval, and the verdict; empty for the reference itself."""
    if pair is None:
        return "", ""
    metric = pair["metric"]
    difference = f"{format_difference(metric, pair['difference'])} {format_interval(metric, pair['interval'])}"
    return difference, pair["verdict"] + _verdict_note(pair)


def pairs_table(results: Results) -> Table:
    """Return one row per pair with its difference, interval and verdict."""
    metric = results.metric
    header = ("variant", "against", difference_header(metric), "interval", "verdict", "would decide")
    rows = [
        (
            pair["a"],
            pair["b"],
            format_difference(metric, pair["difference"]),
            format_interval(metric, pair["interval"]),
            pair["verdict"] + _verdict_note(pair),
            _would_decide(pair.get("would_decide")),
        )
        for pair in results.pairs
    ]
    return Table(header, rows, verdicts=True)


def _verdict_note(pair: dict[str, Any]) -> str:
    if pair["interval"] == [0.0, 0.0]:
        return " (same predictions)"
    return " (negligibly)" if pair["negligible"] else ""


def _would_decide(needed: dict[str, Any] | None) -> str:
    if needed is None:
        return ""
    if needed["times_both"] is not None:
        return f"{needed['times_both']} times as many of both"
    options = [f"{round_up(needed[name]):,} {name}" for name in ("repeats", "texts") if needed[name] is not None]
    return f"{' or '.join(options)} in all" if options else "nothing within reach"


def difference_matrix(results: Results) -> Table:
    """Return the differences of all pairs with their verdicts, row against column."""
    ranked, metric = results.ranked(), results.metric
    cells = {
        (pair["a"], pair["b"]): f"{pair['verdict']} ({format_difference(metric, pair['difference'])})"
        for one_way in results.pairs
        for pair in (one_way, pair_from_second(one_way))
    }
    return Table(("", *ranked), [(a, *(cells.get((a, b), "") for b in ranked)) for a in ranked], verdicts=True)


def trained_pairs_table(results: Results) -> Table:
    """Return McNemar's test for each pair, if each variant has one run on the same test texts; else no rows."""
    header, rows = ("variant", "against", "right alone", "other right alone", "McNemar p"), []
    if results.plan["folds"] or results.plan["repeats"] > 1:
        return Table(header, rows)
    for pair in results.pairs:
        if pair["verdict"] != NOT_TRAINED:
            only_a, only_b, p = mcnemar(results.outcomes[pair["a"]][0], results.outcomes[pair["b"]][0])
            rows.append((pair["a"], pair["b"], f"{only_a:,}", f"{only_b:,}", f"{p:.4f}"))
    return Table(header, rows)


def effects_table(results: Results) -> Table:
    """Return one row per effect of settings that were varied together."""
    metric, rows = results.metric, []
    for effect in results.effects:
        interval = format_interval(metric, (effect.estimate.low, effect.estimate.high))
        if not results.untrained.keys().isdisjoint(effect.variants):
            interval = NOT_TRAINED
        rows.append((effect.name, format_difference(metric, effect.estimate.mean), interval))
    return Table(("effect", difference_header(metric), "interval"), rows)


def metrics_table(results: Results) -> Table:
    """Return means and intervals of the shown metrics but the one that decides: per cent, but nats for log loss."""
    metrics = [name for name, metric in METRICS.items() if metric.is_shown and name != results.metric]
    rows = [
        (
            label_variant(results, variant),
            *(_format_estimate(metric, results.estimates[variant][metric]) for metric in metrics),
        )
        for variant in results.ranked()
    ]
    return Table(("variant", *(METRICS[metric].title for metric in metrics)), rows)


def _format_estimate(metric: str, estimated: Estimate) -> str:
    if np.isnan(estimated.low):
        return "-"
    low, high = format_score(metric, estimated.low), format_score(metric, estimated.high)
    return f"{format_score(metric, estimated.mean)} [{low}, {high}]"


def classes_table(results: Results, variant: str) -> Table:
    """Return one row per class with a variant's scores on its texts, all runs together."""
    outcomes = results.outcomes[variant]
    label = np.concatenate([outcome.label for outcome in outcomes])
    scores = per_class(label, np.concatenate([outcome.probabilities for outcome in outcomes]))
    rows = [
        (
            name,
            *(format_percent(scores[metric][index]) for metric in ("precision", "recall", "f1")),
            f"{scores['support'][index]:,}",
        )
        for index, name in enumerate(results.plan["classes"])
    ]
    return Table(("class", "precision", "recall", "F1", "texts"), rows)


def costs_table(results: Results) -> Table:
    """Return the costs of a variant's runs: means, and the highest peak memory of their processes."""
    costs = ("MFLOP/text", "train s", "compile s", "predict ms/text", "peak MB")
    rows = []
    for variant in results.ranked():
        done = results.done(variant)
        peak = max((row["peak_memory_bytes"] for row in done if row["peak_memory_bytes"]), default=None)
        rows.append(
            (
                variant,
                _format_count(done[0]["parameters"]),
                format_range(row["best_epoch"] for row in done if row["best_epoch"]),
                _format_megaflops(done[0]["flops_per_text"]),
                _format_mean([row["train_seconds"] for row in done], ".1f"),
                _format_mean([row["compile_seconds"] for row in done], ".1f"),
                _format_mean([row["predict_ms"] for row in done], ".3f"),
                "-" if peak is None else f"{peak / 1e6:,.0f}",
            )
        )
    return Table(("variant", "parameters", "epoch taken", *costs), rows)


def _format_count(count: int | str) -> str:
    """Return a number with separators; "-" if it is not known (empty)."""
    return "-" if count == "" else f"{count:,}"


def _format_mean(values: Sequence[float | str], form: str) -> str:
    """Return the mean of some numbers; "-" if one of them is not known (empty)."""
    return "-" if "" in values else f"{np.mean(values):{form}}"


def _format_megaflops(flops: float | str) -> str:
    """Return FLOPs in millions; "-" for a run of an earlier version, which recorded none."""
    if not flops:
        return "-"
    return f"{flops / 1e6:.2f}" if flops >= 1e4 else f"{flops / 1e6:.1g}"


def run_table(outcome: Outcome) -> Table:
    """Return one row per metric of one trained model."""
    estimates = {metric: estimate([outcome], metric, folds=0) for metric in METRICS}
    rows = [(metric, f"{e.mean:.4f}", f"[{e.low:.4f}, {e.high:.4f}]") for metric, e in estimates.items()]
    return Table(("metric", "value", "95 % interval"), rows)


def replication_table(of_corpora: Mapping[str, Results]) -> Table:
    """Return one row per pair of variants compared on several corpora: the count of each verdict, and the differences.

    The intervals are simultaneous over pairs and corpora. So the number of corpora with a verdict is, with the
    confidence of one table, the least number on which it is true (the Bonferroni count of Dror et al. 2017, section 4).

    Args:
      of_corpora: name of a corpus -> its results, made with `Claims.corpora` their number.
    """
    pairs: dict[tuple[str, str], dict[str, dict]] = {}
    for corpus, results in of_corpora.items():
        for pair in results.pairs:
            pairs.setdefault((pair["a"], pair["b"]), {})[corpus] = pair
    rows = []
    for (a, b), by_corpus in pairs.items():
        verdicts = [pair["verdict"] for pair in by_corpus.values()]
        counts = [f"{verdicts.count(word)} of {len(verdicts)}" for word in VERDICTS]
        differences = ", ".join(_difference_on(corpus, pair) for corpus, pair in by_corpus.items())
        rows.append((a, b, *counts, differences))
    return Table(("variant", "against", *VERDICTS, "differences"), rows)


def _difference_on(corpus: str, pair: dict[str, Any]) -> str:
    metric = pair["metric"]
    unit = f" ({METRICS[metric].title})" if metric != "accuracy" else ""
    return f"{corpus} {format_difference(metric, pair['difference'])}{unit}"
