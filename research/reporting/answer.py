"""Answer in two or three sentences what the reader of a comparison asks: which variant do I take?"""

from typing import Any, NamedTuple

import numpy as np

from research.evaluation.metrics import METRICS, unit_of
from research.reporting.advice import advise
from research.reporting.claims import LEVEL
from research.reporting.formatting import format_difference, format_interval, format_margin, format_score, join_names
from research.reporting.pairs import main_pairs, single_reference
from research.reporting.results import NOT_TRAINED, Results

_UNDEFINED = "undefined"  # a pair with a variant that lacks what the metric is computed from
# What is said of a group of variants, in the order of the answer.
_SENTENCES = {
    "better": "{names} {are} better than {reference}",
    "negligibly better": "{names} {are} better than {reference}, but by less than {margin}",
    "equivalent": "{names} {are} equivalent to {reference} within {margin}",
    "worse": "{names} {are} worse than {reference}",
    "negligibly worse": "{names} {are} worse than {reference}, but by less than {margin}",
    "undecided": "{names} cannot be told from {reference} within {margin}",
    NOT_TRAINED: "{names} {are} not judged, because runs did not learn",
    _UNDEFINED: "{names} {are} not judged, because {metric} is not defined there",
}


Groups = dict[str, list[dict[str, Any]]]  # what is said -> the pairs, that with the best variant first


class Answer(NamedTuple):
    """What a comparison found."""

    text: str
    command: str = ""  # would decide undecided pairs, as the end of the text says; empty if the text names none

    def __str__(self) -> str:
        return f"{self.text} {self.command}".strip()


def find_answer(results: Results) -> Answer:
    """Return which variant to take, which others are equivalent, worse or undecided, and what would decide these."""
    if len(results.variants) == 1:
        return Answer(_describe_score(results))
    pairs = main_pairs(results)
    if not pairs and results.claims.all_pairs:
        return Answer("There is no verdict: no two variants share a finished run.")
    if not pairs:
        return Answer(f"There is no verdict: {results.baseline}, the baseline, shares no finished run with another.")
    reference = single_reference(pairs)
    if reference in results.untrained:
        return Answer(f"There is no verdict: runs of {reference} did not learn. Name another one by --baseline.")
    if all(np.isnan(pair["difference"]) for pair in pairs):
        title = METRICS[results.metric].title
        return Answer(f"There is no verdict: {title} is not defined for these variants. Name another --metric.")
    advice = advise(results, pairs)
    if all(pair["verdict"] == "undecided" and "would_decide" not in pair for pair in pairs):
        return Answer(f"There is no verdict. {advice.text}", advice.command)
    sentences = _describe_parts(results, pairs) if reference is None else _describe_choice(results, pairs)
    return Answer(" ".join(filter(None, [*sentences, advice.text])), advice.command)


def _describe_score(results: Results) -> str:
    """Return the score of the only variant."""
    [variant], metric = results.estimates, results.metric
    mean, low, high = (format_score(metric, value) for value in results.estimates[variant][metric])
    unit = "nats" if unit_of(metric) == "nats" else "%"
    score = f"{mean} {unit}, {100 * LEVEL:.0f} % interval [{low}, {high}]"
    untrained = " Some of its runs did not learn." if variant in results.untrained else ""
    return f"{variant} has a test {METRICS[metric].title} of {score}.{untrained}"


def _describe_parts(results: Results, pairs: list[dict[str, Any]]) -> list[str]:
    """Return the verdicts on pairs with several references: variants with a part switched off, and the whole ones."""
    sentences = [f"Judged by {METRICS[results.metric].title}:"]
    for reference in dict.fromkeys(pair["b"] for pair in pairs):
        groups = _group([pair for pair in pairs if pair["b"] == reference])
        sentences += [f"{_describe_group(results, word, groups[word])}." for word in groups]
    return sentences


def _describe_choice(results: Results, pairs: list[dict[str, Any]]) -> list[str]:
    """Return which variant to take, and the verdicts on pairs that all have the same reference."""
    groups, reference, title = _group(pairs), pairs[0]["b"], METRICS[results.metric].title
    best = next((word for word in ("better", "negligibly better") if word in groups), None)
    if best is None:
        return _describe_reference(results, reference, groups)
    chosen = groups.pop(best)
    take, note = f"Take {chosen[0]['a']}", []
    if len(chosen) > 1:
        take, note = "Take one of these", ["They were not compared with each other: --pairs=all does that."]
    lead = f"{take}: by {title}, {_describe_group(results, best, chosen)}."
    return [lead, *note, *(f"{_describe_group(results, word, groups[word])}." for word in groups)]


def _describe_reference(results: Results, reference: str, groups: Groups) -> list[str]:
    """Return the same where no variant is better than the reference."""
    title, is_loss = METRICS[results.metric].title, METRICS[results.metric].is_lower_better
    equivalent = [pair["a"] for pair in groups.get("equivalent", ())]
    also = "".join(f" or {variant}" for variant in equivalent) if len(equivalent) < 2 else " or one equivalent to it"
    take = f"Take {reference}{also}: by {title},"
    sentences = [f"{_describe_group(results, word, group)}." for word, group in groups.items()]
    if groups.keys() in ({"equivalent"}, {"worse"}, {"negligibly worse"}):
        return [f"{take} {sentences[0]}"]
    undecided = groups.get("undecided", ())
    gains = {pair["a"]: -pair["difference"] if is_loss else pair["difference"] for pair in undecided}
    hopeful = [variant for variant, gain in gains.items() if gain > results.claims.margin]
    if hopeful:
        lead = f"By {title}, no variant is shown to be better than {reference}, though {hopeful[0]} has a better mean."
        return [lead, *sentences]
    return [f"{take} no other variant is shown to be better.", *sentences]


def _group(pairs: list[dict[str, Any]]) -> Groups:
    """Return pairs by what is said of them, one of `_SENTENCES`, in that order."""
    groups: Groups = {word: [] for word in _SENTENCES}
    for pair in pairs:
        word = f"negligibly {pair['verdict']}" if pair["negligible"] else pair["verdict"]
        is_undefined = word == "undecided" and np.isnan(pair["difference"])
        groups[_UNDEFINED if is_undefined else word].append(pair)
    return {word: group for word, group in groups.items() if group}


def _describe_group(results: Results, word: str, pairs: list[dict[str, Any]]) -> str:
    """Return one sentence about pairs with one reference, without its full stop; of one pair with the difference."""
    metric = results.metric
    sentence = _SENTENCES[word].format(
        names=join_names([pair["a"] for pair in pairs]),
        are="is" if len(pairs) == 1 else "are",
        reference=pairs[0]["b"],
        margin=format_margin(metric, results.claims.margin),
        metric=METRICS[metric].title,
    )
    if len(pairs) > 1 or word in (NOT_TRAINED, _UNDEFINED):
        return sentence
    [pair] = pairs
    difference = f"{format_difference(metric, pair['difference'])} {unit_of(metric)}"
    return f"{sentence} ({difference} {format_interval(metric, pair['interval'])})"
