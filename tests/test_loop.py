"""The training loop: which states are saved when training ends, and what it costs to call a step."""

import traceback
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from research.errors import Diverged
from research.runs.prepare import Run, fresh_state, prepare_run
from research.runs.train import RunOptions, train
from research.training import step as module
from research.training.loop import Call, Hooks, Task, fit, stack
from research.training.programs import cached_programs, classifier_task, programs_for
from research.training.sharding import ONE_DEVICE
from research.training.step import train_step
from tests.small import small_lstm

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


@pytest.mark.accelerator
def test_nothing_is_compiled_after_training_has_begun(small_corpus, tmp_path):
    config = small_lstm("--config.model.hidden_size=17")  # programs of its own
    counts = []

    def count(run, done, loss):
        compiled = programs_for(config, 2)
        counts.append((compiled.train_steps._cache_size(), compiled.evaluate._cache_size()))

    train(config, small_corpus, tmp_path / "run", options=RunOptions(on_progress=count))
    assert len(counts) >= 3
    assert len(set(counts)) == 1


def test_few_functions_stand_between_a_run_and_its_step(small_corpus, tmp_path, monkeypatch):
    """A reader can follow a gradient; docs/design.md lists the same functions."""
    stacks = []

    def record_frames(*arguments):
        frames = [(Path(frame.filename).parts[-2:], frame.name) for frame in traceback.extract_stack()]
        stacks.append([frame for frame in frames if frame[0][0] in ("runs", "training", "data", "models")])
        return train_step(*arguments)

    monkeypatch.setattr(module, "train_step", record_frames)
    cached_programs.cache_clear()
    train(small_lstm("--config.training.epochs=1"), small_corpus, tmp_path / "run")
    cached_programs.cache_clear()  # of the step that records its frames
    assert stacks
    for frames in stacks:
        last = max(i for i, (file, _) in enumerate(frames) if file == ("runs", "train.py"))
        assert len(frames) - 1 - last <= 5, frames


@pytest.mark.accelerator
def test_the_loop_makes_no_implicit_transfers_between_host_and_device(small_corpus, tmp_path):
    """An epoch puts states and batches on the device and fetches metrics, and nothing else is transferred."""
    config = small_lstm("--config.training.epochs=2")
    compiled = programs_for(config, 2)
    prepared = prepare_run(Run(config, tmp_path / "run"), small_corpus, 5)
    task = classifier_task(compiled, [prepared.data], config.training, prepared.texts.shapes)
    states = ONE_DEVICE.put(stack([fresh_state(compiled, prepared)]))
    with jax.transfer_guard("disallow"):
        epochs = [results for _, results in fit(task, states, 2, done=[0])]
    assert [record["epoch"] for ((record, _),) in epochs] == [1, 2]
