"""Find the texts on which variants disagree, and those whose label all of them contradict."""

from typing import NamedTuple

import numpy as np

from research.data.audit import reload_corpus
from research.data.corpora import Corpus
from research.errors import UserError
from research.reporting.documents import Table
from research.reporting.formatting import join_names
from research.reporting.results import Results

_MOST_TEXTS = 10
_LONGEST_TEXT = 200


class Disagreement(NamedTuple):
    """Two tables of texts, the most telling first. They have no rows if the corpus cannot be read again."""

    between_variants: Table
    with_labels: Table
    contradicted: int  # the number of texts whose label every run contradicts


class _Scores(NamedTuple):
    """How the texts of a corpus were predicted."""

    right: (
        np.ndarray
    )  # float64 [variants, N]: the share of a variant's runs that are right; NaN if none tested the text
    label_probability: np.ndarray  # float64 [N]: the probability of the label, mean over the runs that have one

    @property
    def is_tested(self) -> np.ndarray:
        """Whether every variant tested a text, bool [N]."""
        return ~np.isnan(self.right).any(axis=0)


def find_disagreement(results: Results, corpus: Corpus | None = None) -> Disagreement:
    """Return the texts that tell variants apart and those that may be labelled wrongly.

    Args:
      results: the comparison.
      corpus: its corpus; None reads it from its file.
    """
    apart = Table(("text", "label", "right", "wrong"), [])
    wrong = Table(("text", "label"), [])
    try:
        corpus = corpus or reload_corpus(results.plan["corpus"], tuple(results.plan["classes"]))
    except UserError:  # the user's file is elsewhere or has changed
        return Disagreement(apart, wrong, 0)
    scores = _score_texts(results, corpus)
    is_wrong = scores.is_tested & (np.nan_to_num(scores.right).max(axis=0) == 0)
    by_confidence = np.argsort(scores.label_probability, kind="stable")
    for i in by_confidence[is_wrong[by_confidence]][:_MOST_TEXTS]:
        wrong.rows.append((_shorten(corpus.texts[i]), corpus.class_names[corpus.labels[i]]))
    variants = results.ranked()
    spread = np.where(scores.is_tested, np.nan_to_num(scores.right).var(axis=0), 0.0)
    by_spread = np.argsort(-spread, kind="stable")[:_MOST_TEXTS]
    for i in by_spread[spread[by_spread] > 0]:
        good = [variant for variant, share in zip(variants, scores.right[:, i], strict=True) if share > 0.5]
        bad = [variant for variant in variants if variant not in good]
        label = corpus.class_names[corpus.labels[i]]
        apart.rows.append((_shorten(corpus.texts[i]), label, join_names(good), join_names(bad)))
    return Disagreement(apart, wrong, int(is_wrong.sum()))


def _score_texts(results: Results, corpus: Corpus) -> _Scores:
    position = {text_id: i for i, text_id in enumerate(corpus.ids)}
    right = []
    probability, tests = np.zeros(len(corpus)), np.zeros(len(corpus))  # summed over the runs with probabilities
    for variant in results.ranked():
        hits, times = np.zeros(len(corpus)), np.zeros(len(corpus))
        for outcome in results.outcomes[variant]:
            at = np.array([position[text_id] for text_id in outcome.id])
            hits[at] += outcome.probabilities.argmax(axis=1) == outcome.label
            times[at] += 1
            if outcome.kind == "probabilities":
                probability[at] += outcome.probabilities[np.arange(len(at)), outcome.label]
                tests[at] += 1
        right.append(np.where(times > 0, hits / np.maximum(times, 1), np.nan))
    return _Scores(np.stack(right), probability / np.maximum(tests, 1))


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
