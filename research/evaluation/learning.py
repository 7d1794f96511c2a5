"""Decide whether a run has learned anything: a model that was not trained is not judged."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.settings import Training

_AT_CHANCE = 0.97  # of the loss of the label shares; a loss above it is no better than they are
_NO_BETTER = 0.02  # above the share of the commonest class
_HARDLY_BELOW = 0.9  # of that loss
_SKEWED = 0.8  # share of the commonest class above which a trained model may well give all texts one label
_FEWEST_TEXTS = 10  # tested, from which on one label for all of them says something
_LAST_PART = 0.1  # of the epochs
_STILL_FALLING = 0.07  # share of the whole fall of the loss that the last part of the epochs has


class Problem(NamedTuple):
    """Why a run counts as not trained, and what may mend it."""

    why: str
    mend: str  # flags


def problem_of(
    records: Sequence[Mapping[str, Any]], best_epoch: int, label_counts: np.ndarray, predicted: np.ndarray
) -> Problem | None:
    """Return the reason why a run counts as not trained, or None.

    Args:
      records: of `metrics.jsonl`, with `split`, `epoch`, `loss` and `accuracy`.
      best_epoch: the chosen epoch.
      label_counts: int [C], training texts of each class.
      predicted: int [N], the labels that the test texts were given.

    Returns:
      the first of these reasons that holds. (1) At the chosen epoch, training accuracy is no better than the share of
      the commonest class, and neither the training loss nor the validation loss is below that of a model that knows the
      shares of the classes alone. (2) All test texts get one label. (3) The validation loss was still falling when
      training ended.
    """
    shares = label_counts / label_counts.sum()
    prior = float(-np.sum(shares[shares > 0] * np.log(shares[shares > 0])))  # the least loss that knows no text
    if not prior:
        return None  # one class: nothing to learn
    train, validation = ([r for r in records if r["split"] == split] for split in ("train", "validation"))
    epochs = max((r["epoch"] for r in validation), default=1)
    commonest = float(shares.max())
    longer = f"--config.training.epochs={_more(epochs, max((r['step'] for r in validation), default=0))}"
    mend = longer
    if max((r.get("accuracy", 0.0) for r in train), default=0.0) > (1 + commonest) / 2:
        # It went on to learn its training texts by heart, and nothing of that held for others.
        mend = "more texts, --config.data.vectors=glove or a lower --config.optimizer.learning_rate"
    loss, accuracy = _taken(train, best_epoch, "loss"), _taken(train, best_epoch, "accuracy")
    least_loss = min(loss, _taken(validation, best_epoch, "loss"))
    if least_loss >= _AT_CHANCE * prior and accuracy <= commonest + _NO_BETTER:
        why = f"training accuracy {100 * accuracy:.1f} % where the commonest class has {100 * commonest:.1f} %"
        return Problem(why, mend)
    one_label = len(predicted) >= _FEWEST_TEXTS and len(np.unique(predicted)) == 1
    if one_label and (commonest <= _SKEWED or loss >= _HARDLY_BELOW * prior):
        return Problem("one label for all test texts", mend)
    if is_falling([r["loss"] for r in validation if "loss" in r], prior):
        return Problem(f"the validation loss was still falling after epoch {epochs}", longer)
    return None


def _more(epochs: int, steps: int) -> int:
    """Return twice as many epochs, or as many as the default trains for where those were far fewer steps."""
    default = Training()
    usual = -(-default.min_steps * epochs // steps) if steps else default.epochs
    return max(2 * epochs, min(usual, default.epochs))


def _taken(records: Sequence[Mapping[str, Any]], epoch: int, name: str) -> float:
    """Return a value of the chosen epoch, or NaN where it was not recorded: comparisons with NaN are false."""
    return next((r[name] for r in records if r["epoch"] == epoch and name in r), float("nan"))


def is_falling(losses: Sequence[float], start: float) -> bool:
    """Return whether a loss makes a notable part of its whole fall in the last tenth of the epochs.

    Args:
      losses: after each epoch.
      start: before the first.
    """
    if len(losses) < 2:
        return False  # a single epoch shows no course
    before = max(1, int(len(losses) * (1 - _LAST_PART)))
    least, least_before = min(losses), min(losses[:before])
    return (least_before - least) > _STILL_FALLING * max(start - least, 0.0)
