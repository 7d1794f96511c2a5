"""The tables people read: rows of strings, for the terminal and for Markdown."""

from typing import Any

import numpy as np

from research.evaluation.metrics import METRICS
from research.evaluation.statistics import Estimate, Outcome, estimate, mcnemar
from research.reporting.results import Results

HEADER = ("variant", "accuracy", "95 % interval", "macro recall", "macro F1", "parameters", "s/run", "runs")
METRIC_HEADER = (
    *("variant", "macro recall", "macro precision", "macro F1", "AUROC", "log loss", "Brier"),
    "calibration error",
)
COST_HEADER = ("variant", "parameters", "MFLOP/text", "train s", "compile s", "predict ms/text", "peak MB")
TRAINED_HEADER = ("variant", "against", "right alone", "other right alone", "McNemar p")
PAIR_HEADER = ("variant", "against", "accuracy difference (points)", "interval", "verdict", "would decide")


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal; "-" where it is not defined."""
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def _interval(estimate: Estimate) -> str:
    return f"[{percent(estimate.low)}, {percent(estimate.high)}]"


def variant_rows(results: Results) -> list[tuple[str, ...]]:
    """A row a variant, best accuracy first; variants without a finished run last."""
    rows = []
    for variant in results.ranked() + [v for v in results.plan["variants"] if v not in results.estimates]:
        of_variant = [row for row in results.rows if row["variant"] == variant]
        done = [row for row in of_variant if row["status"] == "done"]
        count = f"{len(done)}" if len(done) == len(of_variant) else f"{len(done)} of {len(of_variant)}"
        if not done:
            rows.append((variant, *["-"] * (len(HEADER) - 2), count))
            continue
        estimates = results.estimates[variant]
        rows.append(
            (
                variant,
                percent(estimates["accuracy"].mean),
                _interval(estimates["accuracy"]),
                percent(estimates["macro_recall"].mean),
                percent(estimates["macro_f1"].mean),
                f"{done[0]['parameters']:,}",
                f"{np.mean([row['train_seconds'] for row in done]):.1f}",
                count,
            )
        )
    return rows


def pair_rows(results: Results) -> list[tuple[str, ...]]:
    """A row a pair, with its verdict in words."""
    return [
        (
            pair["a"],
            pair["b"],
            f"{100 * pair['difference']:+z.1f}",
            f"[{100 * pair['interval'][0]:+z.1f}, {100 * pair['interval'][1]:+z.1f}]",
            pair["verdict"] + (" (negligibly)" if pair["negligible"] else ""),
            _would_decide(pair.get("would_decide")),
        )
        for pair in results.pairs
    ]


RUN_HEADER = ("metric", "value", "95 % interval")
ABOUT_A_RUN = (
    "The intervals are for this trained model, over texts like these; they say nothing about another training."
)


def run_rows(outcome: Outcome) -> list[tuple[str, str, str]]:
    """A row a metric of one trained model."""
    found = [(metric, estimate([outcome], metric, folds=0)) for metric in METRICS]
    return [(metric, f"{e.mean:.4f}", f"[{e.low:.4f}, {e.high:.4f}]") for metric, e in found]


def trained_pair_rows(results: Results) -> list[tuple[str, ...]]:
    """A row a pair where each variant has one run, on the same test texts; none otherwise."""
    if results.plan["folds"] or results.plan["repeats"] > 1:
        return []
    rows = []
    for pair in results.pairs:
        only_a, only_b, p = mcnemar(*(results.outcomes[pair[side]][0] for side in ("a", "b")))
        rows.append((pair["a"], pair["b"], f"{only_a:,}", f"{only_b:,}", f"{p:.4f}"))
    return rows


def _would_decide(needed: dict[str, Any] | None) -> str:
    if needed is None:
        return ""
    options = [f"{needed[name]:,} {name}" for name in ("repeats", "texts") if needed[name] is not None]
    if needed["times_both"] is not None:
        options.append(f"{needed['times_both']} x repeats and texts")
    return " or ".join(options) or "nothing within reach"


def protocol(results: Results) -> str:
    """One sentence: what was done on what."""
    plan = results.plan
    how = f"{plan['folds']}-fold cross-validation, {plan['repeats']} repeat(s)"
    if not plan["folds"]:
        tested = len(next(iter(results.outcomes.values()))[0].id)
        how = f"fixed test split, {plan['repeats']} repeat(s), {tested:,} texts tested"
    corpus = plan["corpus"]
    cleaned = ", cleaned" if corpus.get("cleaned") else ""
    return f"{corpus['name']} ({corpus['texts']:,} texts{cleaned}, {len(plan['classes'])} classes), {how}"


def metric_rows(results: Results) -> list[tuple[str, ...]]:
    """Means and intervals; per cent, but nats for log loss. Balanced accuracy is macro recall where no class lacks."""
    names = ("macro_recall", "macro_precision", "macro_f1")
    names += ("auroc", "log_loss", "brier", "calibration_error")

    def shown(metric: str, found: Estimate) -> str:
        if np.isnan(found.low):
            return "-"
        mean, low, high = (f"{v:.3f}" if metric == "log_loss" else percent(v) for v in found)
        return f"{mean} [{low}, {high}]"

    return [
        (variant, *(shown(metric, results.estimates[variant][metric]) for metric in names))
        for variant in results.ranked()
    ]


def cost_rows(results: Results) -> list[tuple[str, ...]]:
    """What a variant's runs cost, means over them; the peak is that of the process or device, with runs beside it."""
    rows = []
    for variant in results.ranked():
        done = results.done(variant)
        costs = [float(np.mean([row[n] for row in done])) for n in ("train_seconds", "compile_seconds", "predict_ms")]
        train, compile_, predict = costs
        flops = f"{done[0]['flops_per_text'] / 1e6:.2f}" if done[0]["flops_per_text"] else "-"
        peak = max(row["peak_memory_bytes"] for row in done)
        shown = (f"{train:.1f}", f"{compile_:.1f}", f"{predict:.3f}", f"{peak / 1e6:,.0f}")
        rows.append((variant, f"{done[0]['parameters']:,}", flops, *shown))
    return rows


def matrix(results: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of all differences, row minus column, with the verdicts in words of the pairs that have one."""
    ranked = results.ranked()
    flipped = {"better": "worse", "worse": "better"}
    cells = {}
    for pair in results.pairs:
        difference, word = 100 * pair["difference"], pair["verdict"]
        cells[pair["a"], pair["b"]] = f"{word} ({difference:+z.1f})"
        cells[pair["b"], pair["a"]] = f"{flipped.get(word, word)} ({-difference:+z.1f})"
    mean = {variant: results.estimates[variant]["accuracy"].mean for variant in ranked}

    def cell(a: str, b: str) -> str:
        return cells.get((a, b)) or ("" if a == b else f"({100 * (mean[a] - mean[b]):+z.1f})")

    return ("", *ranked), [(a, *(cell(a, b) for b in ranked)) for a in ranked]
