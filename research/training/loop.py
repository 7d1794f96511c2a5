"""Epochs of one run: pure in the state, so a run resumed from a saved state goes on as if never interrupted."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from research.data.augmentation import augment
from research.data.batches import Batch, epoch_order, evaluation_batches, gather_blocks
from research.data.tokenizer import PADDING_ID, Encoded
from research.errors import Diverged
from research.settings import Training
from research.training.metrics import Metrics, summarise, zero
from research.training.step import Programs, TrainState

EVALUATION_ROWS = 64  # on CPU more would leave the cache
_MOST_STEPS = 16  # that one call of a program takes
_AHEAD = 2  # calls that are made before the metrics of one are read
_MOST_TOKENS = 1 << 20  # of the batches of one call


def steps_per_epoch(num_texts: int, batch_size: int) -> int:
    """How many batches an epoch has, the last one perhaps partial; 0 puts all texts into one."""
    return -(-num_texts // batch_size) if batch_size else 1


def warm_up(programs: Programs, state: TrainState, training: Training, num_texts: int, widths: tuple[int, ...]) -> None:
    """Compiles every program of a run, by steps on empty batches whose results are thrown away."""
    if not training.batch_size:
        widths = widths[-1:]
    rows, most = training.batch_size or num_texts, _steps_of_a_call(training, num_texts, widths)
    for width in widths:
        nothing = Batch(*(np.zeros((most, *array.shape), array.dtype) for array in _empty(rows, width)))
        jax.block_until_ready(programs.train_block(jax.tree.map(np.array, state), nothing, 0))
    for width in _evaluation_widths(widths):
        jax.block_until_ready(programs.evaluate(state.variables, _empty(EVALUATION_ROWS, width)))


def _evaluation_widths(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Every other one: a forward pass over padding costs less than compiling for each width."""
    return widths[::-2][::-1]


def _steps_of_a_call(training: Training, num_texts: int, widths: tuple[int, ...]) -> int:
    tokens = (training.batch_size or num_texts) * widths[-1]
    return max(1, min(_MOST_STEPS, steps_per_epoch(num_texts, training.batch_size), _MOST_TOKENS // tokens))


def _empty(rows: int, width: int) -> Batch:
    ids = np.full((rows, width), PADDING_ID, np.int32)
    return Batch(ids, np.zeros(rows, np.int32), np.zeros(rows, np.int32), np.zeros(rows, np.float32))


def fit(
    programs: Programs,
    state: TrainState,
    train: Encoded,
    validation: Encoded,
    training: Training,
    *,
    order_seed: int,
    widths: tuple[int, ...],
    tick: Callable[[float, float], None] = lambda epochs, loss: None,
) -> Iterator[tuple[TrainState, list[dict[str, Any]]]]:
    """Trains from `state` to the last epoch.

    Args:
      programs: of the variant.
      state: fresh, or restored at the end of an epoch; donated.
      train: training texts.
      validation: texts that choose the epoch.
      training: the settings.
      order_seed: of the run's "order" stream.
      widths: of batches.
      tick: called now and then with (epochs done, a recent loss).

    Raises:
      Diverged: a loss is not finite.

    Yields:
      after each epoch the state (valid until the next is asked for) and two records, of train and validation:
      `{"step", "epoch", "split", metric...}`. Training metrics are means over the epoch while it changed.
    """
    steps = steps_per_epoch(len(train.labels), training.batch_size)
    most = _steps_of_a_call(training, len(train.labels), widths)
    for epoch in range(int(state.step) // steps, training.epochs):
        done: list[tuple[int, Metrics]] = []  # after so many steps of all, those of one call
        texts = train
        if training.random_deletion or training.random_swap:
            deletion, swap = training.random_deletion, training.random_swap
            texts = augment(train, order_seed, epoch, deletion=deletion, swap=swap)
        taken = 0
        order = epoch_order(texts.lengths, training.batch_size, order_seed, epoch)
        for batches, count in gather_blocks(texts, order, training.batch_size or len(texts.labels), widths, most):
            state, metrics = programs.train_block(state, batches, count)
            taken += count
            done.append((epoch * steps + taken, metrics))
            if len(done) > _AHEAD:  # the device always has work, and no more of it than a stop may wait for
                step, late = done[-1 - _AHEAD]
                tick(epoch + taken / steps, _require_finite(step, float(late.loss) / max(float(late.weight), 1.0)))
        for step, late in done[-1 - _AHEAD :]:
            _require_finite(step, float(late.loss))
        result = {
            "train": summarise(functools.reduce(Metrics.merge, jax.device_get([metrics for _, metrics in done]))),
            "validation": summarise(evaluate(programs, state.variables, validation, widths)[0]),
        }
        tick(epoch + 1.0, result["train"]["loss"])
        at = {"step": int(state.step), "epoch": epoch + 1}
        yield state, [at | {"split": split} | values for split, values in result.items()]


def _require_finite(step: int, loss: float) -> float:
    if not np.isfinite(loss):
        raise Diverged(
            f"the loss is not finite by step {step}; a smaller --config.optimizer.learning_rate or "
            "--config.optimizer.clip_norm=1 may help"
        )
    return loss


def evaluate(
    programs: Programs, variables: dict[str, Any], texts: Encoded, widths: tuple[int, ...]
) -> tuple[Metrics, np.ndarray]:
    """The metrics of N texts and their class probabilities float32 [N, C], in the order of the texts."""
    classes = max(programs.module.num_outputs, 2)
    batches = [
        (index, programs.evaluate(variables, batch))
        for index, batch in evaluation_batches(texts, EVALUATION_ROWS, _evaluation_widths(widths))
    ]
    result = np.empty((len(texts.labels), classes), np.float32)
    metrics = zero(classes)
    for index, (of_batch, probabilities) in batches:  # fetched when all have been dispatched
        result[index] = np.asarray(probabilities)[: len(index)]
        metrics = metrics.merge(jax.device_get(of_batch))
    return metrics, result
