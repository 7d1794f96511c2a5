"""State and step: pure functions over (state, batch), jitted by their callers (`programs.py`)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from research.data.batches import Batch
from research.settings import Config, Optimizer
from research.training.feed import Texts, take
from research.training.metric_sums import Metrics, cross_entropy, measure, probabilities, zero
from research.training.optimizers import Rates, is_weight, limit_columns


@struct.dataclass
class TrainState:
    """All that a step reads beside a batch; keys are derived from `dropout_seed` and `step`, so none is kept."""

    step: jax.Array  # int32 []
    dropout_seed: jax.Array  # uint32 []
    class_weights: jax.Array  # float32 [C]
    num_texts: jax.Array  # float32 [], of the training split
    num_steps: jax.Array  # float32 [], of the whole run
    rates: Rates
    sums: Metrics  # of the epoch so far
    params: Any
    constants: Any  # what the module fitted on the training texts before the first step; empty for most
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        return {"params": self.params, **self.constants}


def in_dtype(variables: Any, name: str) -> Any:
    """Variables whose floats are of the type of that name, as activations then are too."""
    if name == "float32":
        return variables
    return jax.tree.map(lambda leaf: leaf.astype(name) if leaf.dtype == jnp.float32 else leaf, variables)


def apply_in_dtype(
    module: nn.Module, config: Config, variables: dict[str, Any], batch: Batch, key: jax.Array | None = None
) -> jax.Array:
    """Logits float32 [B, C] of a forward pass in `compute_dtype`; with dropout where there is a key."""
    variables = in_dtype(variables, config.training.compute_dtype)
    rngs = None if key is None else {"dropout": key}
    logits = module.apply(variables, batch.token_ids, batch.lengths, deterministic=key is None, rngs=rngs)
    return logits.astype(jnp.float32)


def train_step(
    module: nn.Module,
    optimizer: optax.GradientTransformationExtraArgs,
    config: Config,
    state: TrainState,
    batch: Batch,
) -> tuple[TrainState, Metrics]:
    """One step of the optimizer on the mean loss of a batch, weighted by class.

    Args:
      module: the variant.
      optimizer: its Optax chain.
      config: its settings.
      state: before the step.
      batch: B examples.

    Returns:
      the state after the step, and the metrics of the batch before it.
    """
    key = jax.random.fold_in(jax.random.key(state.dropout_seed), state.step)
    weights = batch.weights * state.class_weights[batch.labels]

    def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        logits = apply_in_dtype(module, config, {"params": params, **state.constants}, batch, key)
        losses = cross_entropy(logits, batch.labels, config.training.label_smoothing)
        loss = jnp.sum(losses * weights) / jnp.maximum(jnp.sum(weights), 1e-30)
        if config.training.l2:
            named = jax.tree_util.tree_leaves_with_path(params)
            squares = [jnp.sum(jnp.square(p)) for path, p in named if is_weight(path, p)]
            loss += 0.5 * state.rates.l2 / state.num_texts * sum(squares)
        return loss, (logits, losses)

    (loss, (logits, losses)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    of_lbfgs = {
        "value": loss,
        "grad": gradients,
        "value_fn": lambda params: loss_of(params)[0],
    }
    state = descend(optimizer, config.optimizer, state, gradients, **of_lbfgs)
    return state, measure(logits, batch.labels, batch.weights, losses)


def descend(
    optimizer: optax.GradientTransformationExtraArgs, settings: Optimizer, state: Any, gradients: Any, **of_loss: Any
) -> Any:
    """The state after a step of the optimizer.

    Args:
      optimizer: of `make_optimizer`.
      settings: that it was made from.
      state: with `step`, `num_steps`, `rates`, `params` and `opt_state`.
      gradients: of the loss, like `params`.
      **of_loss: what L-BFGS reads besides.
    """
    given = {"rates": state.rates, "step": state.step, "num_steps": state.num_steps, **of_loss}
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params, **given)
    params = optax.apply_updates(state.params, updates)
    if settings.max_norm:
        params = limit_columns(params, settings.max_norm)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state)


def repeat_step(
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    state: TrainState,
    texts: Texts,
    index: jax.Array,
    count: jax.Array,
    *,
    width: int,
) -> tuple[TrainState, Metrics]:
    """Takes `step` on the first `count` of K batches, so that a program is started once for many steps.

    Args:
      step: `train_step` of a variant.
      state: before the first step.
      texts: the training texts.
      index: int32 [K, B], the texts of each batch, -1 for filler.
      count: int32 [], at most K.
      width: that the batches are padded to.

    Returns:
      the state after the last step, and the metrics of all of them, which its `sums` hold as well.
    """

    def one(i: jax.Array, loop: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        state, metrics = step(loop[0], take(texts, index[i], width))
        # Step by step, so that an epoch's sums do not depend on where it was interrupted.
        return state.replace(sums=state.sums.merge(metrics)), loop[1].merge(metrics)

    nothing = jax.tree.map(jnp.asarray, zero(state.class_weights.shape[0]))
    return jax.lax.fori_loop(0, count, one, (state, nothing))


def evaluate_step(
    module: nn.Module, config: Config, variables: dict[str, Any], batch: Batch
) -> tuple[Metrics, jax.Array]:
    """The metrics of a batch, every example weighing the same, and class probabilities float32 [B, C].

    One program for both: whoever predicts has labels of zeros and ignores the metrics.
    """
    logits = apply_in_dtype(module, config, variables, batch)
    losses = cross_entropy(logits, batch.labels)
    return measure(logits, batch.labels, batch.weights, losses), probabilities(logits)
