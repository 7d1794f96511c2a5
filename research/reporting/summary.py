"""Say in sentences what a comparison found and how: its answer, data, intervals and choices."""

import numpy as np

from research.evaluation.metrics import METRICS, UNBALANCED, unit_of
from research.reporting.claims import LEVEL, first_claims
from research.reporting.formatting import (
    format_difference,
    format_interval,
    format_percent,
    format_range,
    format_score,
    shorten_list,
)
from research.reporting.results import NOT_TRAINED, Results, count_planned_pairs
from research.reporting.tables import pair_from_second

# Verdicts in the order of the answer, and how it words them.
_CLAUSES = {word: word for word in ("better", "negligibly better", "worse", "negligibly worse", "equivalent")}
_CLAUSES |= {"undecided": "undecided", NOT_TRAINED: "not judged, because runs did not learn"}


def describe_answer(results: Results) -> str:
    """Return what the comparison found: which variants are better or worse than which, and by how much."""
    best, metric = results.ranked()[0], results.metric
    if len(results.variants) == 1:
        mean, low, high = (format_score(metric, value) for value in results.estimates[best][metric])
        unit = "nats" if unit_of(metric) == "nats" else "%"
        return (
            f"{best} has a test {METRICS[metric].title} of {mean} {unit}, {100 * LEVEL:.0f} % interval [{low}, {high}]."
        )
    if not results.pairs:
        return f"There is no verdict: {results.baseline}, the baseline, shares no finished run with another."
    pairs = results.pairs
    if results.claims.all_pairs:  # the best variant stands for the baseline
        in_pairs = {variant for pair in pairs for variant in (pair["a"], pair["b"])}
        best = next(variant for variant in results.ranked() if variant in in_pairs)
        pairs = [pair for pair in pairs if pair["b"] == best] + [
            pair_from_second(pair) for pair in pairs if pair["a"] == best
        ]
    references = dict.fromkeys(pair["b"] for pair in pairs)
    return " ".join(
        _answer_against(reference, [pair for pair in pairs if pair["b"] == reference]) for reference in references
    )


def _answer_against(reference: str, pairs: list[dict]) -> str:
    """Return the verdicts of the pairs with one variant in one sentence. Larger differences come first."""
    metric = pairs[0]["metric"]
    groups: dict[str, list[str]] = {word: [] for word in _CLAUSES}
    for pair in sorted(pairs, key=lambda pair: -abs(np.nan_to_num(pair["difference"]))):
        word = f"negligibly {pair['verdict']}" if pair["negligible"] else pair["verdict"]
        difference = format_difference(metric, pair["difference"])
        groups[word].append(f"{pair['a']} ({difference} {format_interval(metric, pair['interval'])})")
    clauses = [
        f"{shorten_list(names)} {'is' if len(names) == 1 else 'are'} {_CLAUSES[word]}"
        for word, names in groups.items()
        if names
    ]
    unit = f"in {unit_of(metric)}, simultaneous intervals"
    return f"Compared with {reference} by {METRICS[metric].title}, {'; '.join(clauses)} ({unit})."


def describe_protocol(results: Results) -> str:
    """Return one sentence, without its full stop: which corpus was tested how."""
    plan, outcomes = results.plan, next(iter(results.outcomes.values()))
    corpus = plan["corpus"]
    design = f"{plan['folds']}-fold cross-validation, {plan['repeats']} repeat(s)"
    if not plan["folds"]:
        design = f"fixed test split, {plan['repeats']} repeat(s), {len(outcomes[0].id):,} texts tested"
    cleaned = ", cleaned" if corpus.get("cleaned") else ""
    labels = np.concatenate([outcome.label for outcome in outcomes])
    commonest = format_percent(np.bincount(labels).max() / len(labels))
    classes = f"{len(plan['classes'])} classes, the commonest {commonest} %"
    sentence = f"{corpus['name']} ({corpus['texts']:,} texts{cleaned}, {classes}), {design}"
    if results.metric == "accuracy":
        return sentence
    is_default = plan.get("metric_by_default") and results.metric == first_claims(plan).metric
    reason = f", because one class has more than {100 * UNBALANCED:.0f} % of the texts" if is_default else ""
    return f"{sentence}; judged by {METRICS[results.metric].title}{reason}"


def describe_intervals(results: Results) -> str:
    """Return what the intervals of the variants cover and how they are made."""
    plan = results.plan
    if not plan["folds"] and plan["repeats"] == 1:
        return (
            f"Intervals: {100 * LEVEL:.0f} %, over test texts alone. With one run of each variant nothing is known of "
            "how another training would do, and no difference is claimed."
        )
    sources = "test texts, splits, initialisations and data order"
    if not plan["folds"]:
        sources = "test texts, initialisations and data order (not over other training texts)"
    return (
        f"Intervals: {100 * LEVEL:.0f} %, for the expected score of the training procedure at this training size, over "
        f"{sources}. They are generalised intervals (Weerahandi 1993) from the variance of texts and the variance "
        "between runs. They are longer the fewer runs there are, and the more runs differ."
    )


def describe_level(results: Results) -> str:
    """Return how the intervals of the pairs allow for there being several."""
    pairs, claims = count_planned_pairs(results), results.claims
    return (
        f"Simultaneous {100 * LEVEL:.0f} % intervals: all of them hold together over {pairs} pair(s) (max-t), "
        f"{claims.looks} look(s) at the table and {claims.corpora} corpus or corpora (Bonferroni), so each is one of "
        f"{100 * results.pair_level:.4g} %."
    )


def describe_choices(results: Results) -> str:
    """Return how epochs and settings were chosen."""
    entries = {name: entry for name, entry in results.plan["variants"].items() if name not in results.foreign}
    if not entries:
        return "How the models chose their epochs and settings is not known here."
    last = [variant for variant, entry in entries.items() if entry["settings"]["training"]["select"] == "last"]
    if len(last) == len(entries):
        sentence = "The last epoch of each run was taken"
    else:
        done = [row for row in results.rows if row["train_texts"]]
        train, validation = (format_range(row[part] for row in done) for part in ("train_texts", "validation_texts"))
        sentence = "The epoch of each run was chosen on validation texts"
        if done:
            sentence += f" (a run trains on {train} texts and chooses on {validation})"
        if last:
            sentence += f"; of {', '.join(last)} the last one was taken"
    tuned = [variant for variant, entry in entries.items() if entry.get("tuned")]
    if results.foreign:
        sentence += f"; how {', '.join(results.foreign)} chose is not known here"
    return f"{sentence}." + (f" Tuned on validation texts, run by run: {', '.join(tuned)}." if tuned else "")


def describe_foreign(results: Results) -> str:
    """Return what is known of the costs of models that are not of this project; empty if there are none."""
    models, files = (
        [variant for variant, about in results.foreign.items() if about["kind"] == kind]
        for kind in ("model", "predictions")
    )
    sentences = []
    if models:
        sentences.append(
            f"Not models of this project: {', '.join(models)}. Their parameters and FLOPs are unknown. Their seconds "
            "are those of `fit` and of predicting the test texts, in the process of the comparison."
        )
    if files:
        sentences.append(f"From files of predictions: {', '.join(files)}. All their costs are unknown.")
    return " ".join(sentences)
