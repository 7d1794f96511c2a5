"""Train modules that fit themselves to all training texts at once, such as linear models.

To the training loop, such a fit is one epoch of one step.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from research.data.tokenizer import Encoded
from research.errors import UserError
from research.models import load_module
from research.models.linear_fit import LogisticLoss
from research.settings import Config
from research.training.loop import Call, Task, of_run, stack
from research.training.metric_sums import Metrics, summarise
from research.training.programs import Programs, Shapes, TrainData, evaluate_runs, evaluation_batches
from research.training.step import TrainState


def require_whole_fit(config: Config) -> None:
    """Refuse settings by which a frozen encoder would be applied in every step, or has no pretrained weights.

    Raises:
      UserError: the module has a frozen encoder, and its settings are others.
    """
    if not hasattr(load_module(config.model.module), "embed"):
        return
    alone = "Leave the flag out; a second command can add other variants to the same --workdir"
    if config.data.weights == "none" or config.data.from_scratch:
        raise UserError(
            "the encoder of a probe is not trained, expected pretrained weights. Use --config=probe:minilm or "
            "probe:FOLDER, without --config.data.from_scratch"
        )
    for name, value, wanted in (
        ("optimizer.name", config.optimizer.name, "lbfgs"),
        ("training.batch_size", config.training.batch_size, 0),
    ):
        if value != wanted:
            raise UserError(
                f"config.{name} is {value}, expected {wanted}: a probe is fitted to all training texts at once. {alone}"
            )


def whole_fit_task(
    programs: Programs,
    data: Sequence[TrainData],
    config: Config,
    shapes: Shapes,
    on_progress: Callable[[Any, float, float], None] = lambda run, iterations, loss: None,
    runs: Sequence[Any] = range(1 << 30),
) -> Task:
    """Return the task of fitting R runs, one after the other.

    Args:
      programs, data, shapes: as of `classifier_task`.
      config: the settings; `training.epochs` is the largest number of iterations.
      on_progress: called after each iteration; an exception that it raises ends the fit, of which nothing is kept.
      runs: what `on_progress` is called with for each run; by default its number.
    """
    training = config.training

    def evaluate(states: TrainState, texts: Sequence[Encoded]) -> Metrics:
        batches = evaluation_batches(texts, shapes.widths, programs.placement)
        return evaluate_runs(programs, states.variables, batches, [len(part.labels) for part in texts])[0]

    def fit(states: TrainState, active: Sequence[int]) -> tuple[TrainState, Metrics]:
        fitted = [of_run(states, r) for r in range(len(data))]
        for r in active:
            loss = LogisticLoss(float(fitted[r].rates.l2), fitted[r].class_weights, training.label_smoothing)
            report = functools.partial(on_progress, runs[r])
            variables = programs.module.fit(data[r].train, loss, training.epochs, report).variables
            # A frozen encoder is a constant that the fit leaves alone.
            constants = fitted[r].constants.get("constants", {}) | variables.get("constants", {})
            state = fitted[r].replace(step=np.int32(1), params=variables["params"])
            fitted[r] = state.replace(constants={"constants": constants} if constants else {})
        states = programs.placement.put(stack(fitted))
        metrics = evaluate(states, [run.train for run in data])
        return states.replace(sums=jax.tree.map(np.asarray, metrics)), metrics

    def calls(epoch: int, taken: Mapping[int, int]) -> Iterator[Call]:
        yield Call((sorted(taken),), {}, 1)

    def validate(states: TrainState) -> Metrics:
        return evaluate(states, [run.validation for run in data])

    return Task([1] * len(data), fit, calls, validate, summarise, programs.placement)
