"""The training loop: it trains one or more runs together, epoch after epoch.

An epoch is a function of the states. So a run that is resumed from a saved state ends as if it had never been
interrupted. The loop reads and writes no files. Its caller saves and logs, through `Hooks` and after each epoch.
States, texts and batches have a leading axis of runs, [R, ...].
"""

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from research.errors import Diverged
from research.training.sharding import Placement

_CALLS_AHEAD = 2  # calls that are made before the metrics of an earlier one are read

# The result of one epoch of one run: its records, or why the run ended, or None if the run was not trained.
Result = list[dict[str, Any]] | Diverged | None


class Call(NamedTuple):
    """One call of `Task.train`: the arguments after the states."""

    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    count: int  # the steps that the call takes


class Task(NamedTuple):
    """The functions that train and validate R runs of one kind of model.

    Attributes:
      steps: for each run, the optimizer steps of an epoch.
      train: `(states, *arguments, **keywords) -> (states, metrics)`, called for each `Call`. Metrics [R, ...] have a
        `loss`, a sum, and its `weight`.
      calls: `(epoch, taken) -> calls`, the calls that complete an epoch, counted from 0. `taken` holds the runs that
        train, with the number of steps of this epoch that each has taken before.
      validate: `states -> metrics [R, ...]` of the validation texts.
      summarise: turns the metrics of one run into means.
      placement: the devices that hold the arrays.
    """

    steps: Sequence[int]
    train: Callable[..., tuple[Any, Any]]
    calls: Callable[[int, Mapping[int, int]], Iterable[Call]]
    validate: Callable[[Any], Any]
    summarise: Callable[[Any], dict[str, float]]
    placement: Placement


class Hooks(NamedTuple):
    """The callbacks of `fit`; an exception that one raises ends training."""

    # Called with (run, epochs done, a recent loss).
    on_progress: Callable[[Any, float, float], None] = lambda run, epochs, loss: None
    # Called with (states, the runs that train, whether an exception ends training here).
    on_checkpoint: Callable[[Any, set[int], bool], None] = lambda states, runs, is_end: None
    runs: Sequence[Any] = range(1 << 30)  # what `on_progress` is called with for each run; by default its number


class _Epoch(NamedTuple):
    number: int  # counted from 0
    steps: Sequence[int]  # of the epoch, for each run
    taken: Mapping[int, int]  # run -> steps of this epoch that it has taken before; only the runs that train


def fit(
    task: Task,
    states: Any,
    epochs: int,
    *,
    done: Sequence[int],
    is_finished: Callable[[int], bool] = lambda run: False,
    hooks: Hooks = Hooks(),
) -> Iterator[tuple[Any, list[Result]]]:
    """Train R runs from their states to the last epoch.

    Args:
      task: the functions that train and validate.
      states: [R, ...], the states before the first step, or states that were saved by `hooks.on_checkpoint` or after an
        epoch. They may be after different steps. Their memory is reused.
      epochs: the number of the last epoch, counted from 1.
      done: for each run, the epochs that it has completed.
      is_finished: called before each epoch; returns whether a run needs no more training.
      hooks: the callbacks for progress and checkpoints.

    Yields:
      after each epoch the states, which are valid until the next epoch, and the result of each run. The records of an
      epoch are two, of train and validation: `{"step", "epoch", "split", metric...}`; without validation texts, there
      is no second one. Training metrics are means over the epoch, during which the parameters changed.
    """
    done, at_step, diverged = list(done), jax.device_get(states.step), set[int]()
    for number in range(min(done), epochs):
        runs = [r for r in range(len(done)) if r not in diverged and done[r] == number and not is_finished(r)]
        if not runs:
            continue
        epoch = _Epoch(number, task.steps, {r: int(at_step[r]) - number * task.steps[r] for r in runs})
        states = _reset_sums(task.placement, states, [r for r in runs if not epoch.taken[r]])
        states, failures = _train_epoch(task, epoch, states, hooks)
        at_step = jax.device_get(states.step)
        results: list[Result] = [failures.get(r) for r in range(len(done))]
        if len(failures) < len(runs):
            validation = task.validate(states)
            for r in set(runs) - failures.keys():
                if np.isfinite(validation.loss[r]):
                    results[r] = _records(task, number, int(at_step[r]), (states.sums, validation), r)
                    done[r] += 1
                else:  # training noticed nothing, because the loss of a step is computed before its update
                    failures[r] = results[r] = _diverged(int(at_step[r]))
        diverged |= failures.keys()
        yield states, results
        with _checkpoint_on_exception(hooks, states, set(runs) - diverged):
            for r, result in enumerate(results):
                if isinstance(result, list):
                    hooks.on_progress(hooks.runs[r], number + 1.0, result[0]["loss"])


def _train_epoch(task: Task, epoch: _Epoch, states: Any, hooks: Hooks) -> tuple[Any, dict[int, Diverged]]:
    """Return the states after an epoch, and for each run that diverged why it ended.

    Metrics are read some calls late, so that the device always has work. It never has more work than a user who stops
    training would wait for.
    """
    pending: collections.deque[tuple[int, Any]] = collections.deque()  # steps up to the end of a call, and its metrics
    steps, failures = 0, dict[int, Diverged]()
    for call in task.calls(epoch.number, epoch.taken):
        states, metrics = task.train(states, *call.arguments, **call.keywords)
        steps += call.count
        pending.append((steps, metrics))
        if len(pending) > _CALLS_AHEAD:
            failures |= _read_losses(epoch, pending.popleft(), epoch.taken.keys() - failures.keys(), states, hooks)
            if len(failures) == len(epoch.taken):
                break
            hooks.on_checkpoint(states, epoch.taken.keys() - failures.keys(), False)
    for call_end in pending:
        failures |= _read_losses(epoch, call_end, epoch.taken.keys() - failures.keys(), states, hooks)
    return states, failures


def _read_losses(
    epoch: _Epoch, call_end: tuple[int, Any], runs: set[int], states: Any, hooks: Hooks
) -> dict[int, Diverged]:
    """Report the losses of a call, and return for each run whose loss is not finite why it ended.

    Args:
      epoch: the epoch.
      call_end: the steps of the epoch up to the end of the call, and the metrics [R, ...] of the call.
      runs: the runs that train.
      states: [R, ...], after the last call. They are saved if an exception ends training here.
      hooks: the callbacks.
    """
    (steps, metrics), failures, good_runs = call_end, {}, set(runs)
    with _checkpoint_on_exception(hooks, states, good_runs):
        losses, weights = jax.device_get((metrics.loss, metrics.weight))
        step_of = {r: min(epoch.taken[r] + steps, epoch.steps[r]) for r in sorted(runs)}
        for r, step in step_of.items():  # before any report, which may raise: a state that diverged is not saved
            if not np.isfinite(losses[r]):
                failures[r] = _diverged(epoch.number * epoch.steps[r] + step)
        good_runs.difference_update(failures)
        for r in sorted(good_runs):
            loss = float(losses[r]) / max(float(weights[r]), 1.0)
            hooks.on_progress(hooks.runs[r], epoch.number + step_of[r] / epoch.steps[r], loss)
    return failures


@contextlib.contextmanager
def _checkpoint_on_exception(hooks: Hooks, states: Any, runs: set[int]) -> Iterator[None]:
    """Save the states of the runs that the set holds when an exception ends training here."""
    try:
        yield
    except BaseException:
        hooks.on_checkpoint(states, runs, True)
        raise


def _records(task: Task, epoch: int, step: int, metrics: tuple[Any, Any], run: int) -> list[dict[str, Any]]:
    """Return the records of an epoch of one run, from the metrics [R, ...] of train and of validation, if any."""
    at = {"step": step, "epoch": epoch + 1}
    train, validation = (of_run(sums, run) for sums in metrics)
    records = [at | {"split": "train"} | task.summarise(train)]
    if validation.weight > 0:
        records.append(at | {"split": "validation"} | task.summarise(validation))
    return records


def _diverged(step: int) -> Diverged:
    return Diverged(
        f"the loss is not finite by step {step}; a smaller --config.optimizer.learning_rate or "
        "--config.optimizer.clip_norm=1 may help"
    )


def _reset_sums(placement: Placement, states: Any, runs: Sequence[int]) -> Any:
    """Return the states with the sums of some runs set to zero."""
    sums = jax.tree.map(np.array, jax.device_get(states.sums))
    for leaf in jax.tree.leaves(sums):
        leaf[list(runs)] = 0
    return states.replace(sums=placement.put(sums))


def stack(trees: Sequence[Any]) -> Any:
    """Stack trees of arrays of equal shapes into one tree with a leading axis of runs."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def of_run(tree: Any, run: int) -> Any:
    """Return copies of the arrays of one run on the host, because the next step reuses the memory of the states."""
    return jax.tree.map(lambda leaf: np.array(jax.device_get(leaf)[run]), tree)
