"""Decide when training stops and which epoch is kept, and warn if the corpus is small.

A run is trained for at most `training.epochs` epochs. Early stopping ends it when neither the validation score nor the
validation loss has improved for `patience` epochs, but not before `min_steps` optimizer steps. On a few hundred texts
an epoch has only a few steps, so a run that stops after a few epochs has learned little. The study
`experiments/studies/protocol.py` compares such rules.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from research.data.batches import steps_per_epoch
from research.data.corpora import Corpus
from research.data.splits import split_corpus
from research.evaluation.metrics import METRICS, default_metric
from research.settings import Config, Pretraining, Training

FEW_VALIDATION_TEXTS = 50  # with fewer, the loss tells more about an epoch than the accuracy
# With at least so many validation texts, steps an epoch and steps in all, there is nothing to warn about.
_MANY_TEXTS, _MANY_STEPS, _MANY_STEPS_IN_ALL = 200, 30, 200
_TIE_WEIGHT = 1e-9  # of the loss in a score: it breaks ties, and is smaller than any difference of two scores


def chosen_by(training: Training | Pretraining, labels: np.ndarray, validation_texts: int) -> str:
    """Return the validation score that chooses the epoch of a run: `training.select`, with "auto" resolved.

    Args:
      training: the settings.
      labels: int [N], the labels of the training texts.
      validation_texts: the number of validation texts.
    """
    if training.select != "auto":
        return training.select
    return "log_loss" if validation_texts < FEW_VALIDATION_TEXTS else default_metric(labels)


def score_of(select: str, record: Mapping[str, Any]) -> float:
    """Return the score of an epoch. The epoch with the highest score is the best; the loss breaks ties.

    Args:
      select: the name that `chosen_by` returned.
      record: the validation record of the epoch.
    """
    if select == "last":
        return float(record["epoch"])
    if select == "log_loss":
        return -record["loss"]
    sign = -1 if METRICS[select].is_lower_better else 1
    return sign * record[select] - _TIE_WEIGHT * record["loss"]


def is_last(training: Training | Pretraining, epoch: int, steps: int, *, best: int, lowest: int) -> bool:
    """Return whether training ends after an epoch: it is the last one allowed, or early stopping applies.

    Args:
      training: the settings.
      epoch: the epoch, counted from 1.
      steps: the number of optimizer steps in an epoch.
      best: the epoch with the best validation score so far.
      lowest: the epoch with the lowest validation loss so far.
    """
    if epoch >= training.epochs:
        return True
    return 0 < training.patience <= epoch - max(best, lowest) and epoch * steps >= training.min_steps


def protocol_sentence(corpus: Corpus, config: Config, folds: int, fold: int = 0) -> str:
    """Return a warning about training a variant on a small corpus; empty if the corpus is large enough.

    Raises:
      UserError: the fold does not fit the corpus.
    """
    training, size = config.training, config.data.train_size
    fraction = training.validation_fraction
    split = split_corpus(
        corpus, config.seed, folds=folds, fold=fold, repeat=0, train_size=size, validation_fraction=fraction
    )
    if training.select == "last":
        return ""
    steps, texts = steps_per_epoch(len(split.train), training.batch_size), len(split.validation)
    if texts >= _MANY_TEXTS and steps >= _MANY_STEPS and steps * training.epochs >= _MANY_STEPS_IN_ALL:
        return ""
    warnings = [f"{steps} steps per epoch, {texts} validation texts"]
    if steps * training.epochs < _MANY_STEPS_IN_ALL:
        warnings.append(f"{training.epochs} epoch(s) are {steps * training.epochs} steps, too few for most models")
    elif 0 < steps * training.patience < training.min_steps:
        first_end = min(training.epochs, -(-training.min_steps // steps))
        warnings.append(f"no run stops before {first_end} epochs")
    select = chosen_by(training, corpus.labels[split.train], texts).replace("_", " ")
    luck = 98 / max(texts, 1) ** 0.5  # half the width of the 95 % interval of an accuracy of 0.5, in points
    warnings.append(
        f"the epoch is chosen by {select} on these texts, whose accuracy may be off by {luck:.0f} points by luck"
    )
    return "; ".join(warnings)
