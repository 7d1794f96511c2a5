"""Compare two classifiers from arrays alone: which texts each run got right.

    from research import compare_scores

    result = compare_scores(correct_a, correct_b)  # bool [runs, texts] each
    print(result.difference, result.low, result.high, result.verdict)

No run folder is needed, so the models may come from any library.
"""

from typing import NamedTuple

import numpy as np

from research.errors import UserError
from research.evaluation.intervals import difference_interval, group_values, make_sample, verdict


class Comparison(NamedTuple):
    """The difference of accuracy a - b with its confidence interval, in fractions, and what it says about a."""

    difference: float
    low: float
    high: float
    verdict: str  # "better", "worse", "equivalent" or "undecided"
    is_negligible: bool  # better or worse, but by less than the margin


def compare_scores(
    correct_a: np.ndarray,
    correct_b: np.ndarray,
    *,
    folds: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    margin: float = 0.01,
    level: float = 0.95,
) -> Comparison:
    """Return the difference of two classifiers' accuracies, its interval and a verdict.

    The numbers are those that a report gives for the same runs. For the statistics see `intervals`. Runs of a and b are
    paired: row r of both is the same repeat, on the same split. With one run each the verdict is always `undecided`,
    because one run says nothing about another training. The report calls two variants equivalent if their probabilities
    are exactly equal; right and wrong answers alone cannot show this, so equal rows get an interval like any others.

    Args:
      correct_a: bool [R, N], whether run r has text n right. Fractions in [0, 1], such as partial credit, work too.
      correct_b: bool [R, N], the same for the other classifier.
      folds: None if all runs share a fixed test split. For cross-validation int [R, N], the fold of repeat r that
        tested text n, or int [N] if all repeats have the same folds. Every text is then tested once a repeat.
      groups: int [N] or None; texts of one group (copies, one author's texts) count as one.
      margin: differences inside +-margin are negligible.
      level: confidence level. For simultaneous intervals of P pairs use 1 - 0.05 / P (Bonferroni).

    Raises:
      UserError: the shapes do not match, or values are outside [0, 1].

    Examples:
      Five runs of each classifier on one test split of 1,000 texts:

      >>> random = np.random.default_rng(0)
      >>> is_easy = random.random(1_000) < 0.8
      >>> compare_scores(np.tile(is_easy, (5, 1)), random.random((5, 1_000)) < 0.6).verdict
      'better'
    """
    a, b = _checked(correct_a, "correct_a"), _checked(correct_b, "correct_b")
    if a.shape != b.shape:
        shapes = f"correct_a is {list(a.shape)} and correct_b is {list(b.shape)}"
        raise UserError(f"{shapes}. Give both the same runs and texts.")
    fold_of = _broadcast(0 if folds is None else folds, a.shape, "folds")
    group_of = None if groups is None else _broadcast(groups, a.shape[1:], "groups")
    scores, values, ids = [], [], []
    for row, row_folds in zip(a - b, fold_of, strict=True):
        for fold in np.unique(row_folds):
            tested = np.flatnonzero(row_folds == fold)
            scores.append(row[tested].mean())
            of_run, names = row[tested], tested
            if group_of is not None:
                of_run, names = group_values(of_run, group_of[tested])
            values.append(of_run)
            ids.append(names)
    num_folds = 0 if folds is None else len(np.unique(fold_of))
    sample = make_sample(np.array(scores), values, ids, folds=num_folds, bounds=(-1.0, 1.0))
    estimated = difference_interval(sample, level=level)
    word, is_negligible = verdict(estimated, margin)
    return Comparison(estimated.mean, estimated.low, estimated.high, word, is_negligible)


def _checked(correct: np.ndarray, name: str) -> np.ndarray:
    """Return the values as float64 [R, N]."""
    values = np.asarray(correct, np.float64)
    if values.ndim != 2 or not values.size:
        raise UserError(f"{name} has the shape {list(values.shape)}. Give it as [runs, texts].")
    if not ((values >= 0) & (values <= 1)).all():
        raise UserError(f"{name} has values outside [0, 1]. Give 1 (or True) for a right answer and 0 for a wrong one.")
    return values


def _broadcast(array: np.ndarray | int, shape: tuple[int, ...], name: str) -> np.ndarray:
    try:
        return np.broadcast_to(np.asarray(array), shape)
    except ValueError:
        raise UserError(f"{name} has the shape {list(np.shape(array))}. Texts and runs have {list(shape)}.") from None
