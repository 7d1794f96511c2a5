"""Simulate comparisons whose true difference is known, to see how often intervals hold and verdicts err.

*A fixed test split*: a run has a text right if b + text + variant x text + run + run x text > 0. Each part is normal
with a spread of its own, and b is the threshold of the variant. The difference of two variants' expected accuracies
follows from their thresholds.

*Cross-validation*: small learners are really trained. Their texts are points of two overlapping normal classes, and
their folds share training texts as real folds do. One learner is ridge regression, the other is ridge regression on
random ReLU features, which start anew in each run. The true difference is the mean over many fresh trainings.

A comparison may go on until it is decided. It is then looked at after each of several numbers of repeats, and the
interval at each look allows for all of them.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats

from research.evaluation.intervals import Estimate, difference, verdict
from research.evaluation.outcome import Outcome

MARGIN = 0.01
Predict = Callable[[np.ndarray], np.ndarray]  # points float64 [N, F] -> labels bool [N]
Fit = Callable[[np.ndarray, np.ndarray, np.random.Generator], Predict]  # points, labels and a random generator
Sides = tuple[list[Outcome], list[Outcome]]  # the runs of a and of b


class Scenario(NamedTuple):
    """One kind of comparison; `draw(random)` simulates one and yields the runs that exist at each look."""

    name: str
    folds: int
    truth: float  # the true difference a - b
    looks: tuple[int, ...]  # the numbers of repeats after which the comparison is looked at
    draw: Callable[[np.random.Generator], Iterator[Sides]]


class Learners(NamedTuple):
    """Two learners to compare; equal ones are an A/A comparison, whose true difference is 0."""

    about: str
    a: Fit
    b: Fit
    has_own_folds: bool = False  # each learner has its own folds, as variants with different seeds do


class Tally(NamedTuple):
    """The shares and means over the comparisons of a scenario."""

    coverage: float  # the interval contains the true difference
    wrong: float  # better or worse is untrue, or equivalent although the true difference is beyond the margin
    right: float  # better or worse is true, or equivalent and the true difference is inside the margin
    half: float  # the mean half length of the intervals
    repeats: float  # the mean number of repeats used


def simulate(scenario: Scenario, comparisons: int, seed: int) -> Tally:
    """Simulate comparisons of a scenario and count how their intervals and verdicts fare."""
    random = np.random.default_rng(seed)
    words, covered, halves, repeats = [], [], [], []
    for _ in range(comparisons):
        estimated, used = _look_until_decided(scenario, random)
        words.append(_judge(estimated, scenario.truth))
        covered.append(estimated.low <= scenario.truth <= estimated.high)
        halves.append((estimated.high - estimated.low) / 2)
        repeats.append(used)
    return Tally(
        coverage=sum(covered) / comparisons,
        wrong=words.count("wrong") / comparisons,
        right=words.count("right") / comparisons,
        half=float(np.mean(halves)),
        repeats=float(np.mean(repeats)),
    )


def _look_until_decided(scenario: Scenario, random: np.random.Generator) -> tuple[Estimate, int]:
    """Simulate one comparison; return its last difference and the number of repeats used."""
    level = 1 - 0.05 / len(scenario.looks)
    for sides, repeats in zip(scenario.draw(random), scenario.looks, strict=True):
        estimated = difference(*sides, "accuracy", folds=scenario.folds, level=level)
        if repeats == scenario.looks[-1] or verdict(estimated, MARGIN)[0] != "undecided":
            return estimated, repeats
    raise ValueError(f"{scenario.name}: no look")


def _judge(estimated: Estimate, truth: float) -> str:
    """Return whether a verdict is `right`, `wrong` or `undecided`."""
    word, _ = verdict(estimated, MARGIN)
    if word == "undecided":
        return "undecided"
    if word == "equivalent":
        return "right" if abs(truth) <= MARGIN else "wrong"
    return "right" if truth and (word == "better") == (truth > 0) else "wrong"


def fixed_split(*, texts: int, looks: tuple[int, ...], run_sd: float, truth: float) -> Scenario:
    """Return a scenario in which all runs of two variants share one test split.

    Args:
      texts: the number of test texts.
      looks: the numbers of runs of each variant after which the difference is looked at.
      run_sd: the standard deviation of a run's accuracy over all possible texts, a fraction.
      truth: the difference of the expected accuracies, which are 0.78 and 0.78 - truth.
    """
    text_sd, variant_sd, run_text_sd = 1.0, 0.5, 0.6
    accuracy = 0.78
    slope = stats.norm.pdf(stats.norm.ppf(accuracy))  # change of accuracy for a shift by the total spread
    other_sd = np.sqrt(text_sd**2 + variant_sd**2 + run_text_sd**2)
    share = run_sd / slope  # of the total spread
    luck_sd = other_sd * share / np.sqrt(1 - share**2)
    total_sd = np.hypot(other_sd, luck_sd)
    thresholds = [total_sd * stats.norm.ppf(a) for a in (accuracy, accuracy - truth)]
    ids = np.arange(texts)

    def draw(random: np.random.Generator) -> Iterator[Sides]:
        text = random.normal(0, text_sd, texts)
        shared = [threshold + text + random.normal(0, variant_sd, texts) for threshold in thresholds]
        sides: Sides = ([], [])
        for repeat in range(looks[-1]):
            for side, of_variant in zip(sides, shared, strict=True):
                right = of_variant + random.normal(0, luck_sd) + random.normal(0, run_text_sd, texts) > 0
                side.append(_outcome((repeat, 0), ids, right))
            if repeat + 1 in looks:
                yield sides

    name = f"fixed split, {texts:,} texts, {_range_text(looks)} runs, run sd {100 * run_sd:g}"
    return Scenario(name, 0, truth, looks, draw)


def _outcome(run: tuple[int, int], ids: np.ndarray, right: np.ndarray) -> Outcome:
    """Return the outcome of a run on texts of label 1 that it has right where `right`."""
    return Outcome(run, ids, np.ones(len(ids), np.int32), np.stack([~right, right], axis=1).astype(np.float32))


def _range_text(looks: tuple[int, ...]) -> str:
    return f"{looks[0]} to {looks[-1]}" if len(looks) > 1 else str(looks[0])


_FEATURES = 30


def _draw_points(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points float64 [count, F] of two overlapping classes, and their labels bool [count]."""
    label = random.integers(0, 2, count) == 1
    points = random.normal(size=(count, _FEATURES)) + np.where(label, 0.2, -0.2)[:, None]
    points[:, 0] *= np.where(label, 1.5, 0.8)  # so that a straight line is not the best separation
    return points, label


def _ridge(features: np.ndarray, label: np.ndarray) -> np.ndarray:
    gram = features.T @ features + np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ np.where(label, 1.0, -1.0))


def linear(points: np.ndarray, label: np.ndarray, random: np.random.Generator) -> Predict:
    """Fit ridge regression; equal texts always give the same model."""
    weights = _ridge(_with_constant(points), label)
    return lambda others: _with_constant(others) @ weights > 0


def random_features(count: int) -> Fit:
    """Return ridge regression on `count` random ReLU features; with fewer features, luck matters more."""

    def fit(points: np.ndarray, label: np.ndarray, random: np.random.Generator) -> Predict:
        directions = random.normal(size=(_FEATURES, count)) / np.sqrt(_FEATURES)
        offsets = 0.3 * random.normal(size=count)

        def features(points: np.ndarray) -> np.ndarray:
            return _with_constant(np.maximum(points @ directions + offsets[None, :], 0.0))

        weights = _ridge(features(points), label)
        return lambda others: features(others) @ weights > 0

    return fit


def _with_constant(points: np.ndarray) -> np.ndarray:
    """Return the points with a feature that is always 1."""
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def cross_validation(learners: Learners, *, texts: int, folds: int, looks: tuple[int, ...], truth: float) -> Scenario:
    """Return a scenario in which two learners are trained on folds.

    Args:
      learners: the two learners.
      texts: the number of texts of the corpus.
      folds: the number of folds.
      looks: the numbers of repeats, each with new folds, after which the difference is looked at.
      truth: the difference of their expected accuracies, see `true_difference`.
    """

    def draw(random: np.random.Generator) -> Iterator[Sides]:
        points, label = _draw_points(random, texts)
        sides: Sides = ([], [])
        for repeat in range(looks[-1]):
            shared = random.permutation(np.arange(texts) % folds)
            for side, fit in zip(sides, (learners.a, learners.b), strict=True):
                fold_of = random.permutation(shared) if learners.has_own_folds else shared
                for fold in range(folds):
                    test = fold_of == fold
                    right = fit(points[~test], label[~test], random)(points[test]) == label[test]
                    side.append(_outcome((repeat, fold), np.flatnonzero(test), right))
            if repeat + 1 in looks:
                yield sides

    name = f"{folds} folds x {_range_text(looks)}, {texts:,} texts, {learners.about}"
    return Scenario(name, folds, truth, looks, draw)


def true_difference(learners: Learners, *, texts: int, trainings: int) -> float:
    """Return the mean difference of accuracy over fresh trainings on so many texts; 0 for an A/A comparison."""
    if learners.a is learners.b:
        return 0.0
    random = np.random.default_rng(1)
    differences = []
    for _ in range(trainings):
        points, label = _draw_points(random, texts)
        test_points, test_label = _draw_points(random, 2_000)
        right = [fit(points, label, random)(test_points) == test_label for fit in (learners.a, learners.b)]
        differences.append(right[0].mean() - right[1].mean())
    return float(np.mean(differences))
