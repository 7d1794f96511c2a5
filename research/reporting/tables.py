"""The tables people read, for the terminal and for Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from research.evaluation.intervals import Estimate, Outcome, estimate, mcnemar
from research.evaluation.metrics import METRICS, NAMES, unit_of
from research.evaluation.scores import UNBALANCED
from research.reporting.blocks import Table
from research.reporting.claims import first_claims
from research.reporting.results import NOT_TRAINED, Results

# Of the second table, in their order, but for the one that decides.
_OTHER_METRICS = (
    *("accuracy", "macro_recall", "macro_precision", "macro_f1"),
    *("auroc", "log_loss", "brier", "calibration_error"),
)
# Of the first table, beside the one that decides.
_BESIDE = {"accuracy": ("macro_recall", "macro_f1"), "macro_f1": ("accuracy", "macro_recall")}
_VERDICTS = ("better", "equivalent", "undecided", "worse", NOT_TRAINED)


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal; "-" where it is not defined."""
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def shown(metric: str, value: float) -> str:
    """A value of a metric: per cent, or nats with three decimals."""
    return ("-" if np.isnan(value) else f"{value:.3f}") if unit_of(metric) == "nats" else percent(value)


def shown_difference(metric: str, value: float) -> str:
    """A difference of a metric, with its sign: points, or nats with three decimals; "-" where it is not defined."""
    if np.isnan(value):
        return "-"
    return f"{value:+z.3f}" if unit_of(metric) == "nats" else f"{100 * value:+z.1f}"


def shown_interval(metric: str, interval: Iterable[float]) -> str:
    """The interval of a difference."""
    low, high = (shown_difference(metric, end) for end in interval)
    return f"[{low}, {high}]"


def difference_header(metric: str) -> str:
    """The header of a column of differences."""
    return f"{NAMES[metric]} difference ({unit_of(metric)})"


def name_in(results: Results, variant: str) -> str:
    """A variant's name, marked where runs of it were not trained."""
    count = len(results.untrained.get(variant, {}))
    return f"{variant} ({count} of {len(results.outcomes[variant])} runs {NOT_TRAINED})" if count else variant


def between(values: Iterable[int]) -> str:
    """The least and the largest of some numbers, or the one that they all are; "-" of none."""
    ends = sorted(values)
    return "-" if not ends else f"{ends[0]:,}" if ends[0] == ends[-1] else f"{ends[0]:,} to {ends[-1]:,}"


def variants_table(results: Results) -> Table:
    """A row a variant, the best first; variants without a finished run last."""
    main = results.metric
    others = _BESIDE.get(main, ("accuracy", "macro_f1"))
    names = [NAMES[metric] for metric in others]
    header = ("variant", NAMES[main], "95 % interval", *names, "parameters", "s/run", "runs")
    rows = []
    for variant in results.ranked() + [v for v in results.plan["variants"] if v not in results.estimates]:
        of_variant = [row for row in results.rows if row["variant"] == variant]
        done = [row for row in of_variant if row["status"] == "done"]
        count = f"{len(done)}" if len(done) == len(of_variant) else f"{len(done)} of {len(of_variant)}"
        if not done:
            rows.append((variant, *["-"] * (len(header) - 2), count))
            continue
        estimates = results.estimates[variant]
        rows.append(
            (
                name_in(results, variant),
                shown(main, estimates[main].mean),
                f"[{shown(main, estimates[main].low)}, {shown(main, estimates[main].high)}]",
                *(shown(metric, estimates[metric].mean) for metric in others),
                f"{done[0]['parameters']:,}",
                f"{np.mean([row['train_seconds'] for row in done]):.1f}",
                count,
            )
        )
    return Table(header, rows)


def pairs_table(results: Results) -> Table:
    """A row a pair, with its verdict in words."""
    metric = results.metric
    header = ("variant", "against", difference_header(metric), "interval", "verdict", "would decide")
    rows = [
        (
            pair["a"],
            pair["b"],
            shown_difference(metric, pair["difference"]),
            shown_interval(metric, pair["interval"]),
            pair["verdict"] + _how(pair),
            _would_decide(pair.get("would_decide")),
        )
        for pair in results.pairs
    ]
    return Table(header, rows, verdicts=True)


def _how(pair: dict[str, Any]) -> str:
    """What is to be known of a verdict."""
    if pair["interval"] == [0.0, 0.0]:
        return " (same predictions)"
    return " (negligibly)" if pair["negligible"] else ""


ABOUT_A_RUN = (
    "The intervals are for this trained model, over texts like these; they say nothing about another training."
)


def run_table(outcome: Outcome) -> Table:
    """A row a metric of one trained model."""
    found = [(metric, estimate([outcome], metric, folds=0)) for metric in METRICS]
    rows = [(metric, f"{e.mean:.4f}", f"[{e.low:.4f}, {e.high:.4f}]") for metric, e in found]
    return Table(("metric", "value", "95 % interval"), rows)


def trained_pairs_table(results: Results) -> Table:
    """A row a pair where each variant has one run, on the same test texts; none otherwise."""
    header, rows = ("variant", "against", "right alone", "other right alone", "McNemar p"), []
    if results.plan["folds"] or results.plan["repeats"] > 1:
        return Table(header, rows)
    for pair in (pair for pair in results.pairs if pair["verdict"] != NOT_TRAINED):
        only_a, only_b, p = mcnemar(*(results.outcomes[pair[side]][0] for side in ("a", "b")))
        rows.append((pair["a"], pair["b"], f"{only_a:,}", f"{only_b:,}", f"{p:.4f}"))
    return Table(header, rows)


def _would_decide(needed: dict[str, Any] | None) -> str:
    if needed is None:
        return ""
    options = [f"{_two_digits(needed[name]):,} {name}" for name in ("repeats", "texts") if needed[name] is not None]
    if needed["times_both"] is not None:
        return f"{needed['times_both']} times as many of both"
    return f"{' or '.join(options)} in all" if options else "nothing within reach"


def _two_digits(number: int) -> int:
    """Rounded up to two digits: it is known no better."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return -(-number // unit) * unit


def protocol(results: Results) -> str:
    """One sentence: what was done on what."""
    plan, tested = results.plan, next(iter(results.outcomes.values()))
    how = f"{plan['folds']}-fold cross-validation, {plan['repeats']} repeat(s)"
    if not plan["folds"]:
        how = f"fixed test split, {plan['repeats']} repeat(s), {len(tested[0].id):,} texts tested"
    corpus = plan["corpus"]
    cleaned = ", cleaned" if corpus.get("cleaned") else ""
    labels = np.concatenate([outcome.label for outcome in tested])
    commonest = percent(np.bincount(labels).max() / len(labels))
    classes = f"{len(plan['classes'])} classes, the commonest {commonest} %"
    said = f"{corpus['name']} ({corpus['texts']:,} texts{cleaned}, {classes}), {how}"
    if results.metric == "accuracy":
        return said
    chosen = plan.get("metric_by_default") and results.metric == first_claims(plan).metric
    why = f", because one class has more than {100 * UNBALANCED:.0f} % of the texts" if chosen else ""
    return f"{said}; judged by {NAMES[results.metric]}{why}"


def metrics_table(results: Results) -> Table:
    """Means and intervals; per cent, but nats for log loss. Balanced accuracy is macro recall if every class occurs."""
    metrics = [metric for metric in _OTHER_METRICS if metric != results.metric]

    def cell(metric: str, found: Estimate) -> str:
        if np.isnan(found.low):
            return "-"
        mean, low, high = (shown(metric, value) for value in found)
        return f"{mean} [{low}, {high}]"

    rows = [
        (name_in(results, v), *(cell(metric, results.estimates[v][metric]) for metric in metrics))
        for v in results.ranked()
    ]
    return Table(("variant", *(NAMES[metric] for metric in metrics)), rows)


def costs_table(results: Results) -> Table:
    """What a variant's runs cost, means over them; the peak is the highest of their processes'."""
    costs = ("MFLOP/text", "train s", "compile s", "predict ms/text", "peak MB")
    header, rows = ("variant", "parameters", "epoch taken", *costs), []
    for variant in results.ranked():
        done = results.done(variant)
        costs = [float(np.mean([row[n] for row in done])) for n in ("train_seconds", "compile_seconds", "predict_ms")]
        train, compile_, predict = costs
        flops = "-"
        if of_text := done[0]["flops_per_text"]:
            flops = f"{of_text / 1e6:.2f}" if of_text >= 1e4 else f"{of_text / 1e6:.1g}"
        peak = max(row["peak_memory_bytes"] for row in done)
        cells = (f"{train:.1f}", f"{compile_:.1f}", f"{predict:.3f}", f"{peak / 1e6:,.0f}")
        taken = between(row["best_epoch"] for row in done)
        rows.append((variant, f"{done[0]['parameters']:,}", taken, flops, *cells))
    return Table(header, rows)


def matrix(results: Results) -> Table:
    """All differences, row minus column, with the verdicts in words of the pairs that have one."""
    ranked, metric = results.ranked(), results.metric
    flipped = {"better": "worse", "worse": "better"}
    cells = {}
    for pair in results.pairs:
        difference, word = pair["difference"], pair["verdict"]
        cells[pair["a"], pair["b"]] = f"{word} ({shown_difference(metric, difference)})"
        cells[pair["b"], pair["a"]] = f"{flipped.get(word, word)} ({shown_difference(metric, -difference)})"
    mean = {variant: results.estimates[variant][metric].mean for variant in ranked}

    def cell(a: str, b: str) -> str:
        return cells.get((a, b)) or ("" if a == b else f"({shown_difference(metric, mean[a] - mean[b])})")

    return Table(("", *ranked), [(a, *(cell(a, b) for b in ranked)) for a in ranked], verdicts=True)


def replication_table(of_corpora: Mapping[str, Results]) -> Table:
    """A row a pair of one comparison on several corpora: on how many it had each verdict, and its difference on each.

    The intervals are simultaneous over pairs and corpora, so the number of corpora with a verdict is, with the
    confidence of one table, the least number on which it is true (the Bonferroni count of Dror et al. 2017, section 4).

    Args:
      of_corpora: name of a corpus -> its results, made with `Claims.corpora` their number.
    """
    found: dict[tuple[str, str], dict[str, dict]] = {}
    for corpus, results in of_corpora.items():
        for pair in results.pairs:
            found.setdefault((pair["a"], pair["b"]), {})[corpus] = pair
    rows = []
    for (a, b), pairs in found.items():
        verdicts = [pair["verdict"] for pair in pairs.values()]
        counts = [f"{verdicts.count(word)} of {len(verdicts)}" for word in _VERDICTS]
        differences = (
            f"{corpus} {shown_difference(pair['metric'], pair['difference'])}"
            + (f" ({NAMES[pair['metric']]})" if pair["metric"] != "accuracy" else "")
            for corpus, pair in pairs.items()
        )
        rows.append((a, b, *counts, ", ".join(differences)))
    return Table(("variant", "against", *_VERDICTS, "differences"), rows)
