"""The state that a run begins with, and the memory that it takes."""

import functools
import math
from collections.abc import Callable
from typing import Any

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


def init_state(
    programs: Programs,
    config: Config,
    train: Encoded,
    widths: tuple[int, ...],
    *,
    init_seed: int = 0,
    dropout_seed: int = 0,
    class_weights: np.ndarray | None = None,
    num_steps: int = 1,
    start_from: Callable[[dict[str, Any]], dict[str, Any]] = lambda variables: variables,
) -> TrainState:
    """Return a fresh state.

    Args:
      programs: of the variant.
      config: its settings, of which the rates are read.
      train: the training texts; read by modules that fit constants on them (`fit_constants`).
      widths: of batches.
      init_seed: of the run's "init" stream.
      dropout_seed: of the run's "dropout" stream.
      class_weights: float32 [C], ones if not given.
      num_steps: of the whole run.
      start_from: fresh variables -> those to start from.

    Raises:
      UserError: the model takes more memory than there is.
    """
    module = programs.module
    example = gather(train, np.arange(0), 1, widths)
    require_memory(jax.eval_shape(programs.init, jax.random.key(0), example.token_ids, example.lengths))
    variables = dict(programs.init(jax.random.key(init_seed), example.token_ids, example.lengths))
    if hasattr(module, "fit_constants"):
        every = gather(train, np.arange(len(train.labels)), len(train.labels), widths)
        fit = jax.jit(functools.partial(module.apply, method="fit_constants", mutable="constants"))
        variables |= fit(variables, every.token_ids, every.lengths, every.labels)[1]
    variables = start_from(variables)
    params = variables.pop("params")
    if class_weights is None:
        class_weights = np.ones(max(module.num_outputs, 2), np.float32)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        dropout_seed=jnp.asarray(dropout_seed, jnp.uint32),
        class_weights=jnp.asarray(class_weights, jnp.float32),
        num_texts=jnp.asarray(len(train.labels), jnp.float32),
        num_steps=jnp.asarray(num_steps, jnp.float32),
        rates=rates_of(config.optimizer, config.training.l2),
        sums=jax.tree.map(jnp.asarray, zero(len(class_weights))),
        params=params,
        constants=variables,
        opt_state=programs.init_optimizer(params),
    )


def require_memory(variables: Any) -> None:
    """Raise UserError if the device cannot hold variables (arrays or their shapes) while they are trained."""
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
    needed, available = 16 * count, _memory_bytes()  # a parameter itself, its gradient and two moments
    if needed > available:
        raise UserError(
            f"the model has {count:,} parameters, which take {needed / 1e9:,.0f} GB in training where there are "
            f"{available / 1e9:,.0f} GB, expected smaller sizes in --config.model or --config.data.vocab_size"
        )


@functools.cache
def _memory_bytes() -> float:
    """Return the memory of the default device, or of the machine if that is the device."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit", memory_bytes())
