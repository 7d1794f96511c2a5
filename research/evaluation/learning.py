"""Decide whether a run has learned anything: a model that was not trained is not judged."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.evaluation.scores import UNBALANCED
from research.settings import Training

_AT_CHANCE = 0.97  # of the loss of the label shares; a loss above it is no better than they are
_HARDLY_BELOW = 0.9  # of that loss
_NO_BETTER = 0.02  # above the share of the commonest class, or what luck may be where there are few texts
_FEWEST_TEXTS = 10  # tested, from which on one label for all of them says something
_LAST_PART = 0.1  # of the epochs
# Share of the whole fall of the loss that the last part of the epochs has; a rate that ends at 0 ends a fall itself.
_STILL_FALLING, _STILL_FALLING_ANNEALED = 0.07, 0.25
_ANNEALED = ("linear", "cosine")  # schedules that end at 0


class Problem(NamedTuple):
    """Why a run counts as not trained, and what may mend it."""

    why: str
    mend: str  # flags


class HeldOut(NamedTuple):
    """The test texts of a run: their labels and the labels that it gave them, int [N] each."""

    label: np.ndarray
    predicted: np.ndarray


def problem_of(
    records: Sequence[Mapping[str, Any]],
    best_epoch: int,
    label_counts: np.ndarray,
    held_out: HeldOut,
    settings: Mapping[str, Any],
) -> Problem | None:
    """Return the reason why a run counts as not trained, or None.

    Args:
      records: of `metrics.jsonl`, with `step`, `split`, `epoch`, `loss`, `accuracy` and `macro_recall`.
      best_epoch: the chosen epoch.
      label_counts: int [C], training texts of each class.
      held_out: the labels of the test texts.
      settings: of the run, as `research.settings.to_dict` writes them.

    Returns:
      the first of these reasons that holds. (1) At the chosen epoch, training accuracy is no better than the share of
      the commonest class, training recall no better than that of one label for all, and neither the training loss nor
      the validation loss is below that of a model that knows the shares of the classes alone. (2) All test texts get
      one label. (3) The validation loss was still falling when training ended.
    """
    shares = label_counts / label_counts.sum()
    prior = float(-np.sum(shares[shares > 0] * np.log(shares[shares > 0])))  # the least loss that knows no text
    if not prior:
        return None  # one class: nothing to learn
    train, validation = ([r for r in records if r["split"] == split] for split in ("train", "validation"))
    commonest = float(shares.max())
    longer = _longer(validation, settings)
    mend = longer
    if max((r.get("accuracy", 0.0) for r in train), default=0.0) > (1 + commonest) / 2:
        # It went on to learn its training texts by heart, and nothing of that held for others.
        mend = "more texts, --config.data.vectors=glove or a lower --config.optimizer.learning_rate"
    loss, accuracy, recall = (_chosen(train, best_epoch, name) for name in ("loss", "accuracy", "macro_recall"))
    least_loss = min(loss, _chosen(validation, best_epoch, "loss"))
    luck = max(_NO_BETTER, 2 * float(np.sqrt(commonest * (1 - commonest) / label_counts.sum())))
    is_no_better = accuracy <= commonest + luck and not recall > 1 / np.sum(shares > 0) + luck
    if least_loss >= _AT_CHANCE * prior and is_no_better:
        why = f"training accuracy {100 * accuracy:.1f} % where the commonest class has {100 * commonest:.1f} %"
        return Problem(why, mend)
    one_label = len(held_out.predicted) >= _FEWEST_TEXTS and len(np.unique(held_out.predicted)) == 1
    if one_label and len(np.unique(held_out.label)) > 1 and (commonest <= UNBALANCED or loss >= _HARDLY_BELOW * prior):
        return Problem("one label for all test texts", mend)
    losses = [r["loss"] for r in validation if "loss" in r]
    is_annealed = settings["optimizer"].get("schedule") in _ANNEALED and len(losses) == settings["training"]["epochs"]
    if is_falling(losses, prior, _STILL_FALLING_ANNEALED if is_annealed else _STILL_FALLING):
        return Problem(f"the validation loss was still falling after epoch {validation[-1]['epoch']}", longer)
    return None


def _longer(validation: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """Return the flags that train longer: more epochs, or no early stopping where that ended the run."""
    training, default = settings["training"], Training()
    epochs, steps = (validation[-1]["epoch"], validation[-1]["step"]) if validation else (1, 0)
    if epochs < training["epochs"]:
        return "--config.training.patience=0"
    usual = -(-default.min_steps * epochs // steps) if steps else default.epochs
    return f"--config.training.epochs={max(2 * epochs, min(usual, default.epochs))}"


def _chosen(records: Sequence[Mapping[str, Any]], epoch: int, name: str) -> float:
    """Return a value of the chosen epoch, or NaN where it was not recorded: comparisons with NaN are false."""
    return next((r[name] for r in records if r["epoch"] == epoch and name in r), float("nan"))


def is_falling(losses: Sequence[float], start: float, notable: float = _STILL_FALLING) -> bool:
    """Return whether a loss makes a notable part of its whole fall in the last tenth of the epochs.

    Args:
      losses: after each epoch.
      start: before the first.
      notable: which share of the fall is notable.
    """
    if len(losses) < 2:
        return False  # a single epoch shows no course
    before = max(1, int(len(losses) * (1 - _LAST_PART)))
    least, least_before = min(losses), min(losses[:before])
    return (least_before - least) > notable * max(start - least, 0.0)
