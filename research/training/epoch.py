"""The calls of one epoch, made ahead of what is read of them; what they come to is kept where one is interrupted."""

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from research.errors import Diverged

_AHEAD = 2  # calls that are made before the metrics of one are read


def train_epoch(
    calls: Iterable[tuple[Callable[[Any], tuple[Any, Any]], int]],
    states: Any,
    watch: Callable[[int, Any], bool],
    keep: Callable[[Any, bool], None],
) -> Any:
    """The states after an epoch.

    Args:
      calls: each takes states, which are donated, to (states, metrics), by so many steps.
      states: before the first.
      watch: told, late, of each call's metrics; where it returns false the epoch ends.
      keep: as in `fit`.
    """
    ahead: collections.deque[tuple[int, Any]] = collections.deque()  # steps taken after a call, and its metrics
    taken = 0
    for call, count in calls:
        states, metrics = call(states)
        taken += count
        ahead.append((taken, metrics))
        if len(ahead) > _AHEAD:  # the device always has work, and no more of it than a stop may wait for
            with kept_if_ended(keep, states):
                goes_on = watch(*ahead.popleft())
            if not goes_on:
                break
            keep(states, False)
    with kept_if_ended(keep, states):
        for late in ahead:
            watch(*late)
    return states


@contextlib.contextmanager
def kept_if_ended(keep: Callable[[Any, bool], None], states: Any) -> Iterator[None]:
    """Keeps the states where what is done within ends training."""
    try:
        yield
    except BaseException:
        keep(states, True)
        raise


def watch_losses(
    active: Mapping[int, int],
    epoch: int,
    steps: Sequence[int],
    lost: dict[int, Diverged],
    resting: set[int],
    tick: Callable[[int, float, float], None],
    taken: int,
    metrics: Any,
) -> bool:
    """Looks at the losses of a call, and ticks; members whose loss is not finite are lost, and rest from then on.

    Args:
      active: member -> steps of this epoch that it had taken before.
      epoch: counted from 0.
      steps: of an epoch, of each member.
      lost: member -> what ended it; filled.
      resting: members that are not trained; filled.
      tick: as in `fit`.
      taken: steps of this epoch up to the end of the call.
      metrics: of the call, [R].

    Returns:
      whether a member is left that trains.
    """
    losses, weights = np.atleast_1d(metrics.loss), np.atleast_1d(metrics.weight)
    for r in active.keys() - lost.keys():
        step = min(active[r] + taken, steps[r])
        if np.isfinite(losses[r]):
            tick(r, epoch + step / steps[r], float(losses[r]) / max(float(weights[r]), 1.0))
        else:
            resting.add(r)
            lost[r] = diverged(epoch * steps[r] + step)
    return len(lost) < len(active)


def diverged(step: int) -> Diverged:
    """What ends a run whose loss is not finite."""
    return Diverged(
        f"the loss is not finite by step {step}; a smaller --config.optimizer.learning_rate or "
        "--config.optimizer.clip_norm=1 may help"
    )
