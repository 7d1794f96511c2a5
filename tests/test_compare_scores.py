"""Comparing two classifiers from arrays alone gives the numbers of a report."""

import numpy as np
import pytest

from research import compare_scores
from research.errors import UserError
from research.evaluation.intervals import difference, verdict
from research.evaluation.outcome import Outcome

TEXTS, FOLDS = 300, 5


def correct_by_text(random, runs, shift=0.0):
    """bool [runs, TEXTS]: texts differ in difficulty, and runs in luck."""
    difficulty = random.normal(0.8 + shift, 1.0, TEXTS)
    return difficulty + random.normal(0, 0.1, (runs, 1)) + random.normal(0, 0.6, (runs, TEXTS)) > 0


def outcome(run, texts, correct, group=None):
    """The predictions of a run that has these texts right or wrong."""
    probabilities = np.stack([~correct, correct], axis=1).astype(np.float32)
    ids = np.array([f"{text:06d}" for text in texts])
    return Outcome(run, ids, np.ones(len(texts), np.int32), probabilities, group)


@pytest.fixture
def sides():
    random = np.random.default_rng(0)
    return correct_by_text(random, 3), correct_by_text(random, 3, shift=0.3)


@pytest.mark.parametrize("protocol", ["fixed split", "cross-validation"])
@pytest.mark.parametrize("has_groups", [False, True])
def test_the_numbers_are_those_of_the_report(sides, protocol, has_groups):
    groups = np.arange(TEXTS) // 3 if has_groups else None
    random, folds = np.random.default_rng(1), None
    if protocol == "cross-validation":  # texts of one group are in one fold
        blocks = np.arange(TEXTS) // 3
        folds = np.stack([(random.permutation(TEXTS // 3) % FOLDS)[blocks] for _ in range(3)])

    def outcomes(correct):
        for repeat, row in enumerate(correct):
            for fold in range(1 if folds is None else FOLDS):
                texts = np.arange(TEXTS) if folds is None else np.flatnonzero(folds[repeat] == fold)
                yield outcome((repeat, fold), texts, row[texts], None if groups is None else groups[texts])

    a, b = (list(outcomes(correct)) for correct in sides)
    expected = difference(a, b, "accuracy", folds=0 if folds is None else FOLDS, level=0.99)
    result = compare_scores(*sides, folds=folds, groups=groups, level=0.99)
    assert (result.difference, result.low, result.high) == pytest.approx(tuple(expected), abs=1e-12)
    assert (result.verdict, result.is_negligible) == verdict(expected, 0.01)


def test_folds_that_all_repeats_share_may_be_given_once(sides):
    folds = np.arange(TEXTS) % FOLDS
    assert compare_scores(*sides, folds=folds) == compare_scores(*sides, folds=np.tile(folds, (3, 1)))


def test_verdicts_follow_the_difference():
    random = np.random.default_rng(0)
    good, bad = random.random((5, 2_000)) < 0.9, random.random((5, 2_000)) < 0.7
    assert compare_scores(good, bad).verdict == "better"
    assert compare_scores(bad, good).verdict == "worse"
    assert compare_scores(good, good).verdict == "equivalent"
    assert compare_scores(good[:1], bad[:1]).verdict == "undecided"  # one run each


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b: {"correct_a": a[:2], "correct_b": b}, r"correct_a is \[2, 300\] and correct_b is \[3, 300\]"),
        (lambda a, b: {"correct_a": a[0], "correct_b": b[0]}, r"Give it as \[runs, texts\]"),
        (lambda a, b: {"correct_a": 100 * a, "correct_b": b}, "correct_a has values outside"),
        (lambda a, b: {"correct_a": a, "correct_b": b, "folds": np.zeros(7)}, r"folds has the shape \[7\]"),
    ],
)
def test_arrays_that_do_not_match_are_refused(sides, change, message):
    with pytest.raises(UserError, match=message):
        compare_scores(**change(*sides))
