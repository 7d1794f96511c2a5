"""The tables people read: rows of strings, for the terminal and for Markdown."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from research.evaluation.statistics import Estimate
from research.reporting.results import Results

HEADER = ("variant", "accuracy", "95 % interval", "macro recall", "macro F1", "parameters", "s/run", "runs")
PAIR_HEADER = ("variant", "against", "accuracy difference (points)", "interval", "verdict", "would decide")


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:.1f}"


def _interval(estimate: Estimate) -> str:
    return f"[{percent(estimate.low)}, {percent(estimate.high)}]"


def variant_rows(results: Results) -> list[tuple[str, ...]]:
    """A row a variant, best accuracy first; variants without a finished run last."""
    rows = []
    ranked = sorted(results.estimates, key=lambda variant: -results.estimates[variant]["accuracy"].mean)
    for variant in ranked + [v for v in results.plan["variants"] if v not in results.estimates]:
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
            f"{100 * pair['difference']:+.1f}",
            f"[{100 * pair['interval'][0]:+.1f}, {100 * pair['interval'][1]:+.1f}]",
            pair["verdict"] + (" (negligibly)" if pair["negligible"] else ""),
            _would_decide(pair.get("would_decide")),
        )
        for pair in results.pairs
    ]


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
        how = f"fixed test split, {plan['repeats']} repeat(s)"
    corpus = plan["corpus"]
    return f"{corpus['name']} ({corpus['texts']:,} texts, {len(plan['classes'])} classes), {how}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; numbers to the right."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|---|" + "---:|" * (len(header) - 1)
    return "\n".join([line(header), rule, *map(line, rows)]) + "\n"
