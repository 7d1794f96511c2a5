"""Epochs of the runs of a population, one or many: pure in their states, so that a run resumed from a saved state goes
on as if never interrupted.

States, texts and batches have a leading axis of members, [R, ...]; `Programs` knows what becomes of it.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from research.data.augmentation import augment
from research.data.batches import Batch, epoch_order, evaluation_order, gather, steps_per_epoch, width_of
from research.data.tokenizer import Encoded
from research.errors import Diverged
from research.machine import release_memory
from research.settings import Training
from research.training.epoch import diverged, kept_if_ended, train_epoch, watch_losses
from research.training.feed import Room, Texts, blocks, put
from research.training.metric_sums import Metrics, summarise, zero
from research.training.programs import Programs
from research.training.sharding import put_replicated, put_rows, shares
from research.training.step import TrainState

_EVALUATION_ROWS = 64  # of a batch; on CPU more would leave the cache
_MOST_STEPS = 16  # that one call of a program takes
_COMPILED_SECONDS = 0.3  # a call that takes longer where it does nothing has compiled

# Of a member's epoch: its records, what ended it, or nothing, where it rested.
Result = list[dict[str, Any]] | Diverged | None


class Fed(NamedTuple):
    """What one member trains on."""

    train: Encoded
    validation: Encoded  # chooses the epoch
    order_seed: int  # of the run's "order" stream


def stack(trees: Sequence[Any]) -> Any:
    """Trees of arrays of equal shapes -> one with a leading axis of members."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def warm_up(
    programs: Programs,
    states: TrainState,
    members: Sequence[Fed],
    training: Training,
    widths: tuple[int, ...],
    room: Room,
) -> None:
    """Compiles every program of a population, by calls that do nothing."""
    texts, rows = _put(members, room), _batch_rows(training, members)
    filler = np.full((len(members), _steps_of_a_call(training, members), rows), -1, np.int32)
    for width in _training_widths(widths, training, members):
        copy = put_replicated(jax.tree.map(np.array, states))
        _first(functools.partial(programs.train_block, copy, texts, put_rows(filler, 2), 0, width=width))
    empty = np.empty(0, np.int32)
    for width in _evaluation_widths(widths):
        batch = stack([gather(member.validation, empty, _evaluation_rows(), (width,)) for member in members])
        _first(functools.partial(programs.evaluate, states.variables, put_rows(batch, 1)))


def _first(call: Callable[[], Any]) -> None:
    """A call that compiles, which leaves much memory free that the system may need before the next one."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    if time.perf_counter() - start > _COMPILED_SECONDS:
        release_memory()


def _training_widths(widths: tuple[int, ...], training: Training, members: Sequence[Fed]) -> tuple[int, ...]:
    """Of many members one: among their batches there is a long one at almost every step."""
    return widths if training.batch_size and len(members) == 1 else widths[-1:]


def _evaluation_widths(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Every other one: a forward pass over padding costs less than compiling for each width."""
    return widths[::-2][::-1]


def _steps_of_a_call(training: Training, members: Sequence[Fed]) -> int:
    return min(_MOST_STEPS, *(steps_per_epoch(len(m.train.labels), training.batch_size) for m in members))


def _batch_rows(training: Training, members: Sequence[Fed]) -> int:
    """Of a batch; where it is all texts, a multiple, so that folds of almost equal size share a program."""
    every = _up(max(len(member.train.labels) for member in members), 64 * shares())
    return min(every, _up(training.batch_size, shares())) if training.batch_size else every


def _evaluation_rows() -> int:
    return _up(_EVALUATION_ROWS, shares())


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _put(members: Sequence[Fed], room: Room) -> Texts:
    return put_replicated(stack([put(member.train, room) for member in members]))


def fit(
    programs: Programs,
    states: TrainState,
    members: Sequence[Fed],
    training: Training,
    *,
    widths: tuple[int, ...],
    room: Room,
    done: Sequence[int],
    resting: set[int],
    tick: Callable[[int, float, float], None] = lambda member, epochs, loss: None,
    keep: Callable[[TrainState, bool], None] = lambda states, at_once: None,
) -> Iterator[tuple[TrainState, list[Result]]]:
    """Trains R members from their states to the last epoch.

    Args:
      programs: of the variant.
      states: [R, ...], fresh, or handed to `keep` or yielded once, not all after the same step; donated.
      members: what each is fed with.
      training: the settings.
      widths: of batches.
      room: that the training texts fit into.
      done: how many epochs of each have been yielded.
      resting: members that are not trained; those that the caller adds between epochs and those that diverge rest
        from then on, whatever the others do.
      tick: called now and then with (member, epochs done, a recent loss); what it raises ends training.
      keep: called now and then with states to go on from and whether these are the last, as `tick` ends training.

    Yields:
      after each epoch the states (valid until the next are asked for) and what each member did: two records, of train
      and validation, `{"step", "epoch", "split", metric...}`. Training metrics are means over the epoch while it
      changed.
    """
    steps = [steps_per_epoch(len(member.train.labels), training.batch_size) for member in members]
    done, at_step = list(done), np.asarray(states.step)
    validations = [member.validation for member in members]
    held = [(index, put_rows(batch, 1)) for index, batch in batches_to_evaluate(validations, widths)]
    sizes = [len(encoded.labels) for encoded in validations]
    texts = _put(members, room)
    for epoch in range(min(done), training.epochs):
        active = {  # and how many steps of this epoch they have taken already
            r: int(at_step[r]) - epoch * steps[r] for r in range(len(members)) if r not in resting and done[r] == epoch
        }
        if not active:
            continue
        states = _without_sums(states, [r for r, steps_taken in active.items() if not steps_taken])
        fed = members
        if training.random_deletion or training.random_swap:
            fed = [_augmented(member, training, epoch) for member in members]
            texts = _put(fed, room)
        orders = [
            (f.train.lengths, _order(f, training, epoch)[active[r] :] if r in active else []) for r, f in enumerate(fed)
        ]
        lost: dict[int, Diverged] = {}
        watch = functools.partial(watch_losses, active, epoch, steps, lost, resting, tick)
        shapes = _training_widths(widths, training, members), _steps_of_a_call(training, members)
        planned = blocks(orders, _batch_rows(training, members), *shapes)
        calls = ((functools.partial(_call, programs, texts, *block), block[1]) for block in planned)
        states = train_epoch(calls, states, watch, keep)
        at_step = np.asarray(states.step)
        results: list[Result] = [lost.get(r) for r in range(len(members))]
        if len(lost) < len(active):
            validated = evaluate_members(programs, states.variables, held, sizes)[0]
            for r in active.keys() - lost.keys():
                if not np.isfinite(validated.loss[r]):  # the last step's own loss is of before it
                    resting.add(r)
                    results[r] = diverged(int(at_step[r]))
                    continue
                at = {"step": int(at_step[r]), "epoch": epoch + 1}
                results[r] = [
                    at | {"split": split} | summarise(of_member(metrics, r))
                    for split, metrics in (("train", states.sums), ("validation", validated))
                ]
                done[r] += 1
        yield states, results
        with kept_if_ended(keep, states):
            for r, result in enumerate(results):
                if isinstance(result, list):
                    tick(r, epoch + 1.0, result[0]["loss"])


def of_member(tree: Any, member: int) -> Any:
    """The arrays of one member on the host, copied: the next step is given the memory of its states."""
    return jax.tree.map(lambda leaf: np.array(np.asarray(leaf)[member]), tree)


def _without_sums(states: TrainState, members: Sequence[int]) -> TrainState:
    """The states with the sums of some members put to zero."""
    sums = jax.tree.map(np.array, states.sums)
    for leaf in jax.tree.leaves(sums):
        leaf[list(members)] = 0
    return states.replace(sums=put_replicated(sums))


def _call(
    programs: Programs, texts: Texts, index: np.ndarray, count: int, width: int, states: TrainState
) -> tuple[TrainState, Metrics]:
    return programs.train_block(states, texts, put_rows(index, 2), count, width=width)


def _augmented(member: Fed, training: Training, epoch: int) -> Fed:
    deletion, swap = training.random_deletion, training.random_swap
    return member._replace(train=augment(member.train, member.order_seed, epoch, deletion=deletion, swap=swap))


def _order(member: Fed, training: Training, epoch: int) -> list[np.ndarray]:
    return epoch_order(member.train.lengths, training.batch_size, member.order_seed, epoch)


def batches_to_evaluate(texts: Sequence[Encoded], widths: tuple[int, ...]) -> Iterator[tuple[list[np.ndarray], Batch]]:
    """Yields which texts of each of R members come next, and they, [R, B, ...]: shortest first, of equal shape."""
    widths = _evaluation_widths(widths)
    orders = [evaluation_order(encoded.lengths, _evaluation_rows()) for encoded in texts]
    for of_members in itertools.zip_longest(*orders, fillvalue=np.empty(0, np.int64)):
        chosen = list(zip(texts, of_members, strict=True))
        width = (width_of(max(int(e.lengths[index].max(initial=0)) for e, index in chosen), widths),)
        yield list(of_members), stack([gather(e, index, _evaluation_rows(), width) for e, index in chosen])


def evaluate_members(
    programs: Programs,
    variables: dict[str, Any],
    batches: Iterable[tuple[list[np.ndarray], Batch]],
    sizes: Sequence[int],
) -> tuple[Metrics, list[np.ndarray]]:
    """What each of R members makes of its texts.

    Args:
      programs: of the variant.
      variables: [R, ...].
      batches: of `batches_to_evaluate`.
      sizes: how many texts each member has.

    Returns:
      metrics [R, ...] and, for each member, class probabilities float32 [N, C] in the order of its texts.
    """
    classes = max(programs.module.num_outputs, 2)
    found = [(of_members, programs.evaluate(variables, put_rows(batch, 1))) for of_members, batch in batches]
    results = [np.empty((size, classes), np.float32) for size in sizes]
    metrics = stack([zero(classes)] * len(sizes))
    fetched = jax.device_get([of_batch for _, of_batch in found])  # when all have been dispatched
    for (of_members, _), (of_batch, probabilities) in zip(found, fetched, strict=True):
        for r, index in enumerate(of_members):
            results[r][index] = probabilities[r, : len(index)]
        metrics = metrics.merge(of_batch)
    return metrics, results
