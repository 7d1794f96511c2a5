"""Comparisons whose truth is known: how often do the intervals and verdicts of `statistics` hold?

*A fixed test split*: a text is right if b + text + text of the variant + run + run of the text > 0, each part normal
with a spread of its own. The difference of two variants' expected accuracies follows from their b.

*Cross-validation*: small learners are really trained, on texts that are points of two overlapping normal classes, so
that folds share training texts as they do in earnest. One is ridge regression, the other ridge regression on random
ReLU features, which start anew in each run. Their true difference is the mean over many fresh trainings.

A comparison that goes on until it is decided is looked at after each of several numbers of repeats, and each look's
interval allows for all of them.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats

from research.evaluation.intervals import Estimate, Outcome, difference, verdict

MARGIN = 0.01
Fit = Callable[[np.ndarray, np.ndarray, np.random.Generator], Callable[[np.ndarray], np.ndarray]]
Sides = tuple[list[Outcome], list[Outcome]]  # the runs of a and of b


class Scenario(NamedTuple):
    """One kind of comparison; `draw(random)` makes one: the runs that there are at each look."""

    name: str
    folds: int
    truth: float
    looks: tuple[int, ...]  # after how many repeats
    draw: Callable[[np.random.Generator], Iterator[Sides]]


class Tally(NamedTuple):
    """Shares of the comparisons of a scenario, and the mean half length of their intervals."""

    coverage: float  # the interval holds the true difference
    wrong: float  # called better or worse where that is untrue, or equivalent where the truth is beyond the margin
    right: float  # called what it is: better or worse, or equivalent where the truth is within the margin
    half: float
    repeats: float  # used, on average


def run(scenario: Scenario, comparisons: int, seed: int) -> Tally:
    """Draws comparisons and counts what is said of them."""
    random = np.random.default_rng(seed)
    held = wrong = right = 0
    halves, repeats = [], []
    for _ in range(comparisons):
        for sides, upto in zip(scenario.draw(random), scenario.looks, strict=False):
            found = difference(*sides, "accuracy", folds=scenario.folds, level=1 - 0.05 / len(scenario.looks))
            used = upto
            if verdict(found, MARGIN)[0] != "undecided":
                break
        held += found.low <= scenario.truth <= found.high
        word = _judge(found, scenario.truth)
        wrong, right = wrong + (word == "wrong"), right + (word == "right")
        halves.append((found.high - found.low) / 2)
        repeats.append(used)
    shares = (count / comparisons for count in (held, wrong, right))
    return Tally(*shares, float(np.mean(halves)), float(np.mean(repeats)))


def _judge(found: Estimate, truth: float) -> str:
    word, _ = verdict(found, MARGIN)
    if word == "undecided":
        return "undecided"
    if word == "equivalent":
        return "right" if abs(truth) <= MARGIN else "wrong"
    return "right" if truth and (word == "better") == (truth > 0) else "wrong"


def fixed_split(*, texts: int, looks: tuple[int, ...], run_sd: float, truth: float) -> Scenario:
    """Runs of two variants on one test split.

    Args:
      texts: of the test split.
      looks: after how many runs of each variant the difference is looked at.
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
    ids = np.arange(texts)

    def draw(random: np.random.Generator) -> Iterator[Sides]:
        text = random.normal(0, of_text, texts)
        shared = [threshold + text + random.normal(0, of_variant, texts) for threshold in thresholds]
        sides: Sides = ([], [])
        for repeat in range(looks[-1]):
            for side, of_side in zip(sides, shared, strict=True):
                right = of_side + random.normal(0, of_run) + random.normal(0, of_run_and_text, texts) > 0
                side.append(_outcome((repeat, 0), ids, right))
            if repeat + 1 in looks:
                yield sides

    name = f"fixed split, {texts:,} texts, {_spelt(looks)} runs, run sd {100 * run_sd:g}"
    return Scenario(name, 0, truth, looks, draw)


def _outcome(run: tuple[int, int], ids: np.ndarray, right: np.ndarray) -> Outcome:
    return Outcome(run, ids, np.ones(len(ids), np.int32), np.stack([~right, right], axis=1).astype(np.float32))


def _spelt(looks: tuple[int, ...]) -> str:
    return f"{looks[0]} to {looks[-1]}" if len(looks) > 1 else str(looks[0])


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


def cross_validation(
    a: Fit, b: Fit, *, texts: int, folds: int, looks: tuple[int, ...], about: str, truth: float, own_folds: bool = False
) -> Scenario:
    """Folds of two learners.

    Args:
      a: a learner; the same as b for an A/A comparison, whose truth is 0.
      b: another.
      texts: of the corpus.
      folds: of the cross-validation.
      looks: after how many repeats, each with folds of its own, the difference is looked at.
      about: the learners, in words.
      truth: the difference of their expected accuracies, see `true_difference`.
      own_folds: whether each learner has folds of its own, as variants with different seeds have.
    """

    def draw(random: np.random.Generator) -> Iterator[Sides]:
        points, label = _points(random, texts)
        sides: Sides = ([], [])
        for repeat in range(looks[-1]):
            shared = random.permutation(np.arange(texts) % folds)
            for side, fit in zip(sides, (a, b), strict=True):
                fold_of = random.permutation(shared) if own_folds else shared
                for fold in range(folds):
                    held = fold_of == fold
                    right = fit(points[~held], label[~held], random)(points[held]) == label[held]
                    side.append(_outcome((repeat, fold), np.flatnonzero(held), right))
            if repeat + 1 in looks:
                yield sides

    name = f"{folds} folds x {_spelt(looks)}, {texts:,} texts, {about}"
    return Scenario(name, folds, truth, looks, draw)


def true_difference(a: Fit, b: Fit, *, texts: int, trainings: int) -> float:
    """The mean difference of accuracy over `trainings` fresh ones on so many texts; 0 for an A/A comparison."""
    if a is b:
        return 0.0
    random = np.random.default_rng(1)
    differences = []
    for _ in range(trainings):
        points, label = _points(random, texts)
        others, true = _points(random, 2_000)
        right = [fit(points, label, random)(others) == true for fit in (a, b)]
        differences.append(right[0].mean() - right[1].mean())
    return float(np.mean(differences))
