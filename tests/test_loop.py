"""The training loop with a task of plain arithmetic: which states are saved when training ends."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from research.errors import Diverged
from research.training.loop import Call, Hooks, Task, fit
from research.training.sharding import ONE_DEVICE

STEPS = 6


class State(NamedTuple):
    step: Any  # int [R]
    sums: Any = ()

    def replace(self, **fields):
        return self._replace(**fields)


class Metrics(NamedTuple):
    loss: Any  # float [R]
    weight: Any


def task_that_diverges(at_step):
    """Two runs with epochs of six steps; the loss of run 0 is not finite from a step on."""

    def train(states):
        losses = np.where([states.step[0] + 1 >= at_step, False], np.nan, 1.0)
        return State(states.step + 1), Metrics(losses, np.ones(2))

    def calls(epoch, taken):
        return [Call((), {}, 1)] * STEPS

    def validate(states):
        return Metrics(np.ones(2), np.ones(2))

    return Task([STEPS, STEPS], train, calls, validate, lambda metrics: {"loss": 1.0}, ONE_DEVICE)


@pytest.mark.parametrize("at_step", [2, 5, 6])
def test_a_state_that_diverged_is_not_saved_when_a_callback_ends_training(at_step):
    """In the middle of an epoch, and while the losses of its last calls are read."""
    saved = []

    def stop(run, epochs, loss):
        if run == 1 and epochs >= at_step / STEPS:
            raise KeyboardInterrupt

    def save(states, runs, is_end):
        if is_end:
            saved.append(set(runs))

    hooks = Hooks(on_progress=stop, on_checkpoint=save)
    with pytest.raises(KeyboardInterrupt):
        list(fit(task_that_diverges(at_step), State(np.zeros(2, int)), 1, done=[0, 0], hooks=hooks))
    assert saved == [{1}]


def test_a_run_that_diverges_ends_and_the_other_goes_on():
    progress = []
    hooks = Hooks(on_progress=lambda run, epochs, loss: progress.append((run, round(epochs * STEPS))))
    states = State(np.zeros(2, int))
    results = [results for _, results in fit(task_that_diverges(3), states, 2, done=[0, 0], hooks=hooks)]
    assert isinstance(results[0][0], Diverged)
    assert "by step 3;" in str(results[0][0])
    assert results[1][0] is None
    assert [record["epoch"] for _, other in results for record in other] == [1, 1, 2, 2]
    assert [step for run, step in progress if run == 0] == [1, 2]
    assert [step for run, step in progress if run == 1] == [*range(1, 7), 6, *range(7, 13), 12]
