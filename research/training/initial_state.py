"""Make the state that a run begins with, after a check that memory can hold it."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.data.batches import gather
from research.data.tokenizer import Encoded
from research.errors import UserError
from research.machine import memory_bytes
from research.settings import Config
from research.training.metric_sums import zero
from research.training.optimizers import rates_of
from research.training.programs import Programs
from research.training.step import TrainState


class Start(NamedTuple):
    """The settings of a first state that differ between the runs of a variant."""

    init_seed: int = 0  # the seed of the run's "init" stream
    dropout_seed: int = 0  # the seed of the run's "dropout" stream
    class_weights: np.ndarray | None = None  # float32 [C]; None means ones
    num_steps: int = 1  # the steps of the whole run
    takes_steps: bool = True  # False for a model that is fitted to all texts at once, see `whole_fit`
    # Takes freshly initialised variables, and returns the variables to start from.
    start_from: Callable[[dict[str, Any]], dict[str, Any]] = lambda variables: variables


def init_state(
    programs: Programs,
    config: Config,
    train: Encoded,
    widths: tuple[int, ...],
    start: Start = Start(),
) -> TrainState:
    """Return the state before the first step.

    Args:
      programs: the compiled functions of the variant.
      config: the settings of the run; the rates are read from them.
      train: the training texts. Modules with a method `fit_constants` fit constants to them.
      widths: the widths of batches, ascending.
      start: the settings that differ between the runs of a variant.

    Raises:
      UserError: the model needs more memory than the device has.
    """
    module = programs.module
    example = gather(train, np.arange(0), 1, widths)
    require_memory(jax.eval_shape(programs.init, jax.random.key(0), example.token_ids, example.lengths))
    variables = dict(programs.init(jax.random.key(start.init_seed), example.token_ids, example.lengths))
    if hasattr(module, "fit_constants") and start.takes_steps:
        variables["constants"] = jax.tree.map(jnp.asarray, module.fit_constants(train))
    variables = start.start_from(variables)
    params = variables.pop("params")
    class_weights = start.class_weights
    if class_weights is None:
        class_weights = np.ones(max(module.num_outputs, 2), np.float32)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        dropout_seed=jnp.asarray(start.dropout_seed, jnp.uint32),
        class_weights=jnp.asarray(class_weights, jnp.float32),
        num_texts=jnp.asarray(len(train.labels), jnp.float32),
        num_steps=jnp.asarray(start.num_steps, jnp.float32),
        rates=rates_of(config.optimizer, config.training.l2),
        sums=jax.tree.map(jnp.asarray, zero(len(class_weights))),
        params=params,
        constants=variables,
        opt_state=programs.init_optimizer(params) if start.takes_steps else {},
    )


def require_memory(variables: Any) -> None:
    """Raise UserError if the device's memory cannot hold variables (arrays or their shapes) in training."""
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
    needed, available = 16 * count, _memory_bytes()  # float32: a parameter, its gradient and two moments
    if needed > available:
        raise UserError(
            f"the model has {count:,} parameters, which take {needed / 1e9:,.0f} GB in training, but there are only "
            f"{available / 1e9:,.0f} GB; use smaller sizes in --config.model or --config.data.vocab_size"
        )


@functools.cache
def _memory_bytes() -> float:
    """Return the memory of the default device in bytes; for a CPU, the memory of the machine."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit", memory_bytes())
