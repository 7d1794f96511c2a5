"""The training loop: epochs of R runs that are trained together, R being one or more.

The loop is pure in its states, so that a run that is resumed from a saved state goes on as if it had never been
interrupted. It knows no files: what is saved and logged is decided by its caller, through `Hooks` and after each epoch.
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

_CALLS_AHEAD = 2  # calls that are made before the metrics of one are read

# One epoch of one run: its records, or what ended the run, or nothing if the run was not trained.
Result = list[dict[str, Any]] | Diverged | None


class Call(NamedTuple):
    """What a compiled function is called with, beside the states."""

    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    count: int  # steps that it takes


class Task(NamedTuple):
    """What the loop trains: `classifier_task`, or language models (`research.pretraining`)."""

    steps: Sequence[int]  # optimizer steps of an epoch, for each run
    train: Callable[..., tuple[Any, Any]]  # (states, a call's arguments and keywords) -> (states, metrics)
    # (epoch, run -> steps of the epoch that were taken before) -> the calls of the rest of the epoch, in order.
    calls: Callable[[int, Mapping[int, int]], Iterable[Call]]
    validate: Callable[[Any], Any]  # states -> metrics [R, ...] of the validation texts
    summarise: Callable[[Any], dict[str, float]]  # metrics of one run -> means
    placement: Placement


class Hooks(NamedTuple):
    """What the caller of `fit` is told."""

    # (run, epochs done, a recent loss); an exception that it raises ends training.
    on_progress: Callable[[int, float, float], None] = lambda run, epochs, loss: None
    # (states, the runs among them that train, whether training ends here because of an exception)
    on_checkpoint: Callable[[Any, set[int], bool], None] = lambda states, runs, is_end: None


class _Epoch(NamedTuple):
    number: int  # from 0
    steps: Sequence[int]  # of each run
    taken: Mapping[int, int]  # run -> steps of this epoch that it took before; only the runs that train


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
      task: what is trained.
      states: [R, ...], fresh, or saved by `hooks.on_checkpoint` or after an epoch; not all need to be after the same
        step. Their memory is given to the next states.
      epochs: the last one, counted from 1.
      done: for each run the epochs that it has completed.
      is_finished: asked before each epoch whether a run needs no more training.
      hooks: progress and checkpoints.

    Yields:
      after each epoch the states (valid until the next are asked for) and the result of each run: two records, of train
      and validation, `{"step", "epoch", "split", metric...}`. Training metrics are means over the epoch, during which
      the parameters changed.
    """
    done, at_step, diverged = list(done), jax.device_get(states.step), set[int]()
    for number in range(min(done), epochs):
        trains = [r for r in range(len(done)) if r not in diverged and done[r] == number and not is_finished(r)]
        if not trains:
            continue
        epoch = _Epoch(number, task.steps, {r: int(at_step[r]) - number * task.steps[r] for r in trains})
        states = _without_sums(task.placement, states, [r for r in trains if not epoch.taken[r]])
        states, lost = _train_epoch(task, epoch, states, hooks)
        at_step = jax.device_get(states.step)
        results: list[Result] = [lost.get(r) for r in range(len(done))]
        if len(lost) < len(trains):
            validated = task.validate(states)
            for r in set(trains) - lost.keys():
                if np.isfinite(validated.loss[r]):
                    results[r] = _records(task, number, int(at_step[r]), (states.sums, validated), r)
                    done[r] += 1
                else:  # the loss of the last step is of before that step
                    lost[r] = results[r] = _diverged(int(at_step[r]))
        diverged |= lost.keys()
        yield states, results
        with _checkpoint_on_exit(hooks, states, set(trains) - diverged):
            for r, result in enumerate(results):
                if isinstance(result, list):
                    hooks.on_progress(r, number + 1.0, result[0]["loss"])


def _train_epoch(task: Task, epoch: _Epoch, states: Any, hooks: Hooks) -> tuple[Any, dict[int, Diverged]]:
    """Return the states after an epoch, and what ended the runs that diverged in it.

    Metrics are read some calls late, so that the device always has work, and no more of it than a stop may wait for.
    """
    pending: collections.deque[tuple[int, Any]] = collections.deque()  # steps up to the end of a call, and its metrics
    steps, lost = 0, dict[int, Diverged]()
    for call in task.calls(epoch.number, epoch.taken):
        states, metrics = task.train(states, *call.arguments, **call.keywords)
        steps += call.count
        pending.append((steps, metrics))
        if len(pending) > _CALLS_AHEAD:
            with _checkpoint_on_exit(hooks, states, epoch.taken.keys() - lost.keys()):
                lost |= _read_losses(epoch, *pending.popleft(), epoch.taken.keys() - lost.keys(), hooks)
            if len(lost) == len(epoch.taken):
                break
            hooks.on_checkpoint(states, epoch.taken.keys() - lost.keys(), False)
    with _checkpoint_on_exit(hooks, states, epoch.taken.keys() - lost.keys()):
        for late in pending:
            lost |= _read_losses(epoch, *late, epoch.taken.keys() - lost.keys(), hooks)
    return states, lost


def _read_losses(epoch: _Epoch, steps: int, metrics: Any, runs: set[int], hooks: Hooks) -> dict[int, Diverged]:
    """Report the losses of a call, and return what ended the runs whose loss is not finite.

    Args:
      epoch: the epoch.
      steps: taken in it up to the end of the call.
      metrics: of the call, [R].
      runs: those that train.
      hooks: are told the losses.
    """
    (losses, weights), lost = jax.device_get((metrics.loss, metrics.weight)), {}
    for r in sorted(runs):
        step = min(epoch.taken[r] + steps, epoch.steps[r])
        if np.isfinite(losses[r]):
            loss = float(losses[r]) / max(float(weights[r]), 1.0)
            hooks.on_progress(r, epoch.number + step / epoch.steps[r], loss)
        else:
            lost[r] = _diverged(epoch.number * epoch.steps[r] + step)
    return lost


@contextlib.contextmanager
def _checkpoint_on_exit(hooks: Hooks, states: Any, runs: set[int]) -> Iterator[None]:
    """Save the states if an exception ends training here."""
    try:
        yield
    except BaseException:
        hooks.on_checkpoint(states, runs, True)
        raise


def _records(task: Task, epoch: int, step: int, metrics: tuple[Any, Any], run: int) -> list[dict[str, Any]]:
    """Return the records of an epoch of one run, from the metrics of train and validation, [R, ...] each."""
    at = {"step": step, "epoch": epoch + 1}
    parts = zip(("train", "validation"), metrics, strict=True)
    return [at | {"split": split} | task.summarise(of_run(sums, run)) for split, sums in parts]


def _diverged(step: int) -> Diverged:
    return Diverged(
        f"the loss is not finite by step {step}; a smaller --config.optimizer.learning_rate or "
        "--config.optimizer.clip_norm=1 may help"
    )


def _without_sums(placement: Placement, states: Any, runs: Sequence[int]) -> Any:
    """Return the states with the sums of some runs put to zero."""
    sums = jax.tree.map(np.array, jax.device_get(states.sums))
    for leaf in jax.tree.leaves(sums):
        leaf[list(runs)] = 0
    return states.replace(sums=placement.put(sums))


def stack(trees: Sequence[Any]) -> Any:
    """Return trees of arrays of equal shapes as one, with a leading axis of runs."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def of_run(tree: Any, run: int) -> Any:
    """Return the arrays of one run on the host, copied: the next step is given the memory of its states."""
    return jax.tree.map(lambda leaf: np.array(jax.device_get(leaf)[run]), tree)
