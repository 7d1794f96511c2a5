"""Decide whether a run has learned anything; a comparison does not judge a model that was not trained."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.evaluation.metrics import UNBALANCED
from research.settings import Training

# Losses are compared with the loss of a model that knows only the shares of the classes.
_AT_CHANCE = 0.97  # a loss above this part of it is no better than chance
_HARDLY_BELOW = 0.9  # a loss above this part of it is hardly better than chance
_NO_BETTER = 0.02  # an accuracy at most this much above the commonest class is no better; more for few texts
_FEWEST_TEXTS = 10  # with fewer test texts, one label for all of them says nothing
_LAST_PART = 0.1  # of the epochs
# A loss is still falling if the last part of the epochs has more than this share of its whole fall.
# A learning rate that ends at 0 ends the fall itself, so the share may be larger.
_STILL_FALLING, _STILL_FALLING_ANNEALED = 0.07, 0.25
_ANNEALED = ("linear", "cosine")  # schedules that end at 0


class Problem(NamedTuple):
    """The reason why a run counts as not trained, and what may help."""

    why: str
    mend: str  # flags


class HeldOut(NamedTuple):
    """The test texts of a run: their labels and predicted labels, int [N] each."""

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
      records: the records of `metrics.jsonl`, with `step`, `split`, `epoch`, `loss`, `accuracy` and `macro_recall`.
      best_epoch: the chosen epoch.
      label_counts: int [C], the training texts of each class.
      held_out: the labels of the test texts.
      settings: the run's settings, as `research.settings.to_dict` writes them.

    Returns:
      the first of these reasons that holds. (1) The chosen epoch is at chance: see `_is_at_chance`. (2) All test texts
      get one label. (3) The validation loss was still falling when training ended.
    """
    shares = label_counts / label_counts.sum()
    # The lowest loss that is possible without reading the texts.
    chance_loss = float(-np.sum(shares[shares > 0] * np.log(shares[shares > 0])))
    if not chance_loss:
        return None  # one class: nothing to learn
    train, validation = ([r for r in records if r["split"] == split] for split in ("train", "validation"))
    commonest = float(shares.max())
    longer = _flag_to_train_longer(validation, settings)
    has_overfitted = max((r.get("accuracy", 0.0) for r in train), default=0.0) > (1 + commonest) / 2
    mend = "more texts, --config.data.vectors=glove or a lower --config.optimizer.learning_rate"
    mend = mend if has_overfitted else longer
    if _is_at_chance(train, validation, best_epoch, label_counts, chance_loss):
        accuracy = 100 * _value_at(train, best_epoch, "accuracy")
        why = f"training accuracy {accuracy:.1f} %, with {100 * commonest:.1f} % of the texts in one class"
        return Problem(why, mend)
    # A model of rare labels may have learned much and still give all texts the common label.
    is_sign = commonest <= UNBALANCED or _value_at(train, best_epoch, "loss") >= _HARDLY_BELOW * chance_loss
    if is_sign and _has_one_label(held_out):
        return Problem("one label for all test texts", mend)
    losses = [r["loss"] for r in validation if "loss" in r]
    is_annealed = settings["optimizer"].get("schedule") in _ANNEALED and len(losses) == settings["training"]["epochs"]
    if is_falling(losses, chance_loss, _STILL_FALLING_ANNEALED if is_annealed else _STILL_FALLING):
        return Problem(f"the validation loss was still falling after epoch {validation[-1]['epoch']}", longer)
    return None


def problem_of_predictions(label_counts: np.ndarray, held_out: HeldOut) -> Problem | None:
    """Return the reason why a model of which only predictions are known counts as not trained, or None.

    Args:
      label_counts: int [C], the training texts of each class.
      held_out: the labels of the test texts. If all get the same label, the model has not learned, unless one class has
        nearly all texts: then it may well have.
    """
    if label_counts.max() <= UNBALANCED * label_counts.sum() and _has_one_label(held_out):
        return Problem("one label for all test texts", "other settings of the model, or other texts for it")
    return None


def _is_at_chance(
    train: Sequence[Mapping[str, Any]],
    validation: Sequence[Mapping[str, Any]],
    best_epoch: int,
    label_counts: np.ndarray,
    chance_loss: float,
) -> bool:
    """Return whether nothing at the chosen epoch is better than a model that knows the shares of the classes alone.

    Training accuracy is compared with the share of the commonest class, training recall with that of one label for all,
    training and validation loss with the loss of the shares.
    """
    count, commonest = label_counts.sum(), float(label_counts.max() / label_counts.sum())
    luck = max(_NO_BETTER, 2 * float(np.sqrt(commonest * (1 - commonest) / count)))
    loss = min(_value_at(train, best_epoch, "loss"), _value_at(validation, best_epoch, "loss"))
    accuracy, recall = _value_at(train, best_epoch, "accuracy"), _value_at(train, best_epoch, "macro_recall")
    recall_of_one_label = 1 / np.sum(label_counts > 0)
    # Old runs did not record the recall; their NaN must not count as better.
    is_no_better = accuracy <= commonest + luck and not recall > recall_of_one_label + luck
    return bool(loss >= _AT_CHANCE * chance_loss and is_no_better)


def _has_one_label(held_out: HeldOut) -> bool:
    """Return whether enough test texts of several classes all get the same label."""
    is_enough = len(held_out.predicted) >= _FEWEST_TEXTS and len(np.unique(held_out.label)) > 1
    return is_enough and len(np.unique(held_out.predicted)) == 1


def _flag_to_train_longer(validation: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """Return the flag that trains longer: more epochs, or no early stopping if this ended the run."""
    training, default = settings["training"], Training()
    epochs, steps = (validation[-1]["epoch"], validation[-1]["step"]) if validation else (1, 0)
    if epochs == 1 and settings["optimizer"].get("name") == "lbfgs":  # fitted to all texts at once
        return "more texts, more --config.training.epochs or a lower --config.training.l2"
    if epochs < training["epochs"]:
        return "--config.training.patience=0"
    usual = -(-default.min_steps * epochs // steps) if steps else default.epochs
    return f"--config.training.epochs={max(2 * epochs, min(usual, default.epochs))}"


def _value_at(records: Sequence[Mapping[str, Any]], epoch: int, name: str) -> float:
    """Return a value of an epoch, or NaN if it was not recorded; all comparisons with NaN are false."""
    return next((r[name] for r in records if r["epoch"] == epoch and name in r), float("nan"))


def is_falling(losses: Sequence[float], start: float, notable: float = _STILL_FALLING) -> bool:
    """Return whether the last tenth of the epochs has a notable share of the whole fall of a loss.

    Args:
      losses: the loss after each epoch.
      start: the loss before the first epoch.
      notable: a larger share than this is notable.
    """
    if len(losses) < 2:
        return False  # one epoch shows no trend
    before = max(1, int(len(losses) * (1 - _LAST_PART)))
    lowest, lowest_before = min(losses), min(losses[:before])
    return (lowest_before - lowest) > notable * max(start - lowest, 0.0)
