"""Build the tables that people read, on the terminal and in reports."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from research.evaluation.intervals import Estimate, Outcome, estimate, mcnemar
from research.evaluation.metrics import METRICS, per_class
from research.reporting.documents import Table
from research.reporting.formatting import (
    difference_header,
    format_difference,
    format_interval,
    format_percent,
    format_range,
    format_score,
)
from research.reporting.results import NOT_TRAINED, VERDICTS, Results

# Two more metrics stand in the first table, by the metric that decides.
_FIRST_TABLE = {"accuracy": ("macro_recall", "macro_f1"), "macro_f1": ("accuracy", "macro_recall")}
_FIRST_TABLE_DEFAULT = ("accuracy", "macro_f1")
_OPPOSITE = {"better": "worse", "worse": "better"}

ABOUT_A_RUN = (
    "The intervals are for this trained model, over texts like these; they say nothing about another training."
)


def label_variant(results: Results, variant: str) -> str:
    """Return a variant's name, marked if some of its runs were not trained."""
    count = len(results.untrained.get(variant, {}))
    return f"{variant} ({count} of {len(results.outcomes[variant])} runs {NOT_TRAINED})" if count else variant


def variants_table(results: Results) -> Table:
    """Return one row per variant, the best first. Variants without a finished run are last."""
    metric = results.metric
    others = _FIRST_TABLE.get(metric, _FIRST_TABLE_DEFAULT)
    names = [METRICS[other].title for other in others]
    header = ("variant", METRICS[metric].title, "95 % interval", *names, "parameters", "s/run", "runs")
    rows = []
    for variant in results.ranked() + [variant for variant in results.variants if variant not in results.estimates]:
        planned = sum(row["variant"] == variant for row in results.rows)
        done = results.done(variant)
        count = f"{len(done)}" if len(done) == planned else f"{len(done)} of {planned}"
        if not done:
            rows.append((variant, *["-"] * (len(header) - 2), count))
            continue
        estimates = results.estimates[variant]
        rows.append(
            (
                label_variant(results, variant),
                format_score(metric, estimates[metric].mean),
                f"[{format_score(metric, estimates[metric].low)}, {format_score(metric, estimates[metric].high)}]",
                *(format_score(other, estimates[other].mean) for other in others),
                _format_count(done[0]["parameters"]),
                _format_mean([row["train_seconds"] for row in done], ".1f"),
                count,
            )
        )
    return Table(header, rows)


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
    options = [f"{_round_up(needed[name]):,} {name}" for name in ("repeats", "texts") if needed[name] is not None]
    return f"{' or '.join(options)} in all" if options else "nothing within reach"


def _round_up(number: int) -> int:
    """Return a number rounded up to two digits: more digits are not known."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return -(-number // unit) * unit


def pair_from_second(pair: dict[str, Any]) -> dict[str, Any]:
    """Return a pair (a, b) as (b, a)."""
    low, high = pair["interval"]
    return pair | {
        "a": pair["b"],
        "b": pair["a"],
        "difference": -pair["difference"],
        "interval": [-high, -low],
        "verdict": _OPPOSITE.get(pair["verdict"], pair["verdict"]),
    }


def difference_matrix(results: Results) -> Table:
    """Return all differences, row minus column. Pairs that are claimed about have their verdict too."""
    ranked, metric = results.ranked(), results.metric
    cells = {
        (pair["a"], pair["b"]): f"{pair['verdict']} ({format_difference(metric, pair['difference'])})"
        for one_way in results.pairs
        for pair in (one_way, pair_from_second(one_way))
    }
    mean = {variant: results.estimates[variant][metric].mean for variant in ranked}
    for a in ranked:
        for b in ranked:
            cells.setdefault((a, b), "" if a == b else f"({format_difference(metric, mean[a] - mean[b])})")
    return Table(("", *ranked), [(a, *(cells[a, b] for b in ranked)) for a in ranked], verdicts=True)


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
