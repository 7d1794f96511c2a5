"""Say in sentences how a comparison was made: its data, intervals and choices."""

import numpy as np

from research.evaluation.metrics import METRICS, UNBALANCED
from research.reporting.claims import LEVEL, first_claims
from research.reporting.formatting import format_percent, format_range
from research.reporting.results import Results, count_planned_pairs


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
    sources = "test texts, training texts, splits, initialisations and data order"
    purpose = "if you train again on as many other texts of this kind"
    if not plan["folds"]:
        sources = "test texts, initialisations and data order (not over other training texts)"
        purpose = "if you train again on these training texts"
    return (
        f"Intervals say what to expect on new texts {purpose}. They are {100 * LEVEL:.0f} % intervals for the expected "
        f"score of the training procedure at this training size, over {sources}: generalised intervals (Weerahandi "
        "1993) from the variance of texts and the variance "
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
