"""Train modules that fit themselves to all training texts at once, such as a linear model, in the place of steps.

To the training loop, such a fit is an epoch of one step.
"""

from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

from research.models import load_module
from research.models.linear_fit import LogisticLoss
from research.settings import Config
from research.training.loop import Call, Task, of_run, stack
from research.training.metric_sums import Metrics, summarise
from research.training.programs import Programs, Shapes, TrainData, evaluate_runs, evaluation_batches
from research.training.step import TrainState


def is_fitted_whole(config: Config) -> bool:
    """Return whether a run is one fit by its module, and not steps of an Optax optimizer."""
    training = config.training
    changes_texts = training.random_deletion or training.random_swap
    is_convex_fit = config.optimizer.name == "lbfgs" and not training.batch_size and not changes_texts
    return is_convex_fit and hasattr(load_module(config.model.module), "fit")


def whole_fit_task(programs: Programs, data: Sequence[TrainData], config: Config, shapes: Shapes) -> Task:
    """Return the task of fitting R runs, one after the other; arguments as of `classifier_task`."""
    training = config.training

    def evaluate(states: TrainState, texts: str) -> Metrics:
        encoded = [getattr(run, texts) for run in data]
        batches = evaluation_batches(encoded, shapes.widths, programs.placement)
        return evaluate_runs(programs, states.variables, batches, [len(part.labels) for part in encoded])[0]

    def fit(states: TrainState, runs: Sequence[int]) -> tuple[TrainState, Metrics]:
        fitted = [of_run(states, r) for r in range(len(data))]
        for r in runs:
            loss = LogisticLoss(float(fitted[r].rates.l2), fitted[r].class_weights, training.label_smoothing)
            variables = dict(programs.module.fit(data[r].train, loss, training.epochs).variables)
            params = variables.pop("params")
            fitted[r] = fitted[r].replace(step=np.int32(1), params=params, constants=variables)
        states = programs.placement.put(stack(fitted))
        metrics = evaluate(states, "train")
        return states.replace(sums=jax.tree.map(np.asarray, metrics)), metrics

    def calls(epoch: int, taken: Mapping[int, int]) -> Iterator[Call]:
        yield Call((sorted(taken),), {}, 1)

    def validate(states: TrainState) -> Metrics:
        return evaluate(states, "validation")

    return Task([1] * len(data), fit, calls, validate, summarise, programs.placement)
