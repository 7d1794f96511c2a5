"""Comparisons whose truth is known: how often do the intervals and verdicts of `statistics` hold?

*A fixed test split*: a text is right if b + text + text of the variant + run + run of the text > 0, each part normal
with a spread of its own. The difference of two variants' expected accuracies follows from their b.

*Cross-validation*: small learners are really trained, on texts that are points of two overlapping normal classes, so
that folds share training texts as they do in earnest. One is ridge regression, the other ridge regression on random
ReLU features, which start anew in each run. Their true difference is the mean over many fresh trainings.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from research.evaluation.statistics import Estimate, Sample, interval, make_sample, verdict

MARGIN = 0.01
Fit = Callable[[np.ndarray, np.ndarray, np.random.Generator], Callable[[np.ndarray], np.ndarray]]


class Scenario(NamedTuple):
    """One kind of comparison; `draw(random)` makes one, as a sample of differences a - b."""

    name: str
    folds: int
    truth: float
    draw: Callable[[np.random.Generator], Sample]


class Tally(NamedTuple):
    """Shares of the comparisons of a scenario, and the mean half length of their intervals."""

    comparisons: int
    coverage: float  # the interval holds the true difference
    wrong: float  # called better or worse where that is untrue, or equivalent where the truth is beyond the margin
    right: float  # called what it is: better or worse, or equivalent where the truth is within the margin
    half: float


def run(scenario: Scenario, comparisons: int, seed: int, level: float = 0.95) -> Tally:
    """Draws comparisons and counts what is said of them."""
    random = np.random.default_rng(seed)
    held = wrong = right = 0
    halves = []
    for _ in range(comparisons):
        found = interval(scenario.draw(random), folds=scenario.folds, level=level)
        held += found.low <= scenario.truth <= found.high
        word = _judge(found, scenario.truth)
        wrong, right = wrong + (word == "wrong"), right + (word == "right")
        halves.append((found.high - found.low) / 2)
    return Tally(comparisons, held / comparisons, wrong / comparisons, right / comparisons, float(np.mean(halves)))


def _judge(found: Estimate, truth: float) -> str:
    word, _ = verdict(found, MARGIN)
    if word == "undecided":
        return "undecided"
    if word == "equivalent":
        return "right" if abs(truth) <= MARGIN else "wrong"
    return "right" if truth and (word == "better") == (truth > 0) else "wrong"


def fixed_split(*, texts: int, runs: int, run_sd: float, truth: float) -> Scenario:
    """Runs of two variants on one test split.

    Args:
      texts: of the test split.
      runs: a variant.
      run_sd: of a run's accuracy over all texts that there could be, a fraction.
      truth: the difference of the expected accuracies, about 0.78 and 0.78 - truth.
    """
    of_text, of_variant, of_run_and_text = 1.0, 0.5, 0.6
    accuracy = 0.78
    slope = stats.norm.pdf(stats.norm.ppf(accuracy))  # of accuracy, by a shift in units of the whole spread
    others = np.sqrt(of_text**2 + of_variant**2 + of_run_and_text**2)
    share = run_sd / slope  # of the whole spread
    of_run = others * share / np.sqrt(1 - share**2)
    whole = np.hypot(others, of_run)
    thresholds = [whole * stats.norm.ppf(a) for a in (accuracy, accuracy - truth)]
    ids = [np.arange(texts)] * runs

    def draw(random: np.random.Generator) -> Sample:
        text = random.normal(0, of_text, texts)
        right = []
        for threshold in thresholds:
            shared = threshold + text + random.normal(0, of_variant, texts)
            of_runs = random.normal(0, of_run, (runs, 1)) + random.normal(0, of_run_and_text, (runs, texts))
            right.append((shared + of_runs > 0).astype(np.float64))
        values = right[0] - right[1]
        return make_sample(values.mean(axis=1), list(values), ids, folds=0)

    name = f"fixed split, {texts:,} texts, {runs} runs, run sd {100 * run_sd:g}"
    return Scenario(name, 0, truth, draw)


_FEATURES = 30


def _points(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    label = random.integers(0, 2, count) == 1
    points = random.normal(size=(count, _FEATURES)) + np.where(label, 0.2, -0.2)[:, None]
    points[:, 0] *= np.where(label, 1.5, 0.8)  # so that a straight line is not the best
    return points, label


def _ridge(features: np.ndarray, label: np.ndarray) -> np.ndarray:
    gram = features.T @ features + np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ np.where(label, 1.0, -1.0))


def linear(points: np.ndarray, label: np.ndarray, random: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Ridge regression: the same whenever its texts are the same."""
    weights = _ridge(_with_one(points), label)
    return lambda others: _with_one(others) @ weights > 0


def random_features(count: int) -> Fit:
    """Ridge regression on `count` random ReLU features; the fewer, the more a run owes to its start."""

    def fit(points: np.ndarray, label: np.ndarray, random: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
        directions = random.normal(size=(_FEATURES, count)) / np.sqrt(_FEATURES)
        offsets = 0.3 * random.normal(size=count)

        def features(points: np.ndarray) -> np.ndarray:
            return _with_one(np.maximum(points @ directions + offsets[None, :], 0.0))

        weights = _ridge(features(points), label)
        return lambda others: features(others) @ weights > 0

    return fit


def _with_one(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def cross_validation(a: Fit, b: Fit, *, texts: int, folds: int, repeats: int, about: str, trainings: int) -> Scenario:
    """Folds of two learners.

    Args:
      a: a learner; the same as b for an A/A comparison, whose truth is 0.
      b: another.
      texts: of the corpus.
      folds: of the cross-validation.
      repeats: each with folds of its own.
      about: the learners, in words.
      trainings: over which the truth is averaged.
    """
    truth = 0.0
    if a is not b:
        random = np.random.default_rng(1)
        differences = []
        for _ in range(trainings):
            points, label = _points(random, texts * (folds - 1) // folds)
            others, true = _points(random, 2_000)
            right = [fit(points, label, random)(others) == true for fit in (a, b)]
            differences.append(right[0].mean() - right[1].mean())
        truth = float(np.mean(differences))

    def draw(random: np.random.Generator) -> Sample:
        points, label = _points(random, texts)
        values, ids = [], []
        for _ in range(repeats):
            fold_of = random.permutation(np.arange(texts) % folds)
            for fold in range(folds):
                held = fold_of == fold
                right = [fit(points[~held], label[~held], random)(points[held]) == label[held] for fit in (a, b)]
                values.append(right[0].astype(np.float64) - right[1])
                ids.append(np.flatnonzero(held))
        return make_sample(np.array([v.mean() for v in values]), values, ids, folds=folds)

    name = f"{folds} folds x {repeats}, {texts:,} texts, {about}"
    return Scenario(name, folds, truth, draw)
