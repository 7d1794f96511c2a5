"""The training step: a pure function `(state, batch) -> (state, metrics)`, compiled by `programs.py`."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct

from research.data.batches import Batch
from research.data.tokenizer import PADDING_ID, Encoded
from research.settings import Config, Optimizer
from research.training import waiting_rows
from research.training.metric_sums import Metrics, cross_entropy, measure, probabilities, zero
from research.training.optimizers import Rates, is_weight, limit_columns
from research.training.sharding import Placement


@struct.dataclass
class TrainState:
    """All that a step reads besides a batch. Random keys are derived from `dropout_seed` and `step`."""

    step: jax.Array  # int32 []
    dropout_seed: jax.Array  # uint32 []
    class_weights: jax.Array  # float32 [C]
    num_texts: jax.Array  # float32 [], the size of the training split
    num_steps: jax.Array  # float32 [], the steps of the whole run
    rates: Rates
    sums: Metrics  # of the epoch so far
    params: Any
    constants: Any  # fitted by the module on the training texts before the first step; empty for most modules
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that the module is applied to."""
        return {"params": self.params, **self.constants}


class Capacity(NamedTuple):
    """The size of the arrays that hold the training texts; equal for all runs on a corpus, which share a program."""

    tokens: int
    texts: int


class DeviceTexts(NamedTuple):
    """N encoded texts end to end; the rest of each array is not read."""

    tokens: jax.Array  # int32 [capacity.tokens]
    offsets: jax.Array  # int32 [capacity.texts + 1]
    labels: jax.Array  # int32 [capacity.texts]


def pad_texts(encoded: Encoded, capacity: Capacity) -> DeviceTexts:
    """Return texts as NumPy arrays of the given capacity, ready for the device."""
    return DeviceTexts(
        np.pad(encoded.tokens, (0, capacity.tokens - len(encoded.tokens))),
        np.pad(encoded.offsets.astype(np.int32), (0, capacity.texts - len(encoded.labels)), mode="edge"),
        np.pad(encoded.labels, (0, capacity.texts - len(encoded.labels))),
    )


def take(texts: DeviceTexts, index: jax.Array, width: int) -> Batch:
    """Return the batch of some texts, as `data.batches.gather` makes it on the host.

    Args:
      texts: N texts. Those that are taken are not longer than `width`.
      index: int32 [B], -1 for filler rows.
      width: W.

    Returns:
      the batch, with `token_ids` int32 [B, W].
    """
    real, index = index >= 0, jnp.maximum(index, 0)
    starts = texts.offsets[index]
    lengths = jnp.where(real, texts.offsets[index + 1] - starts, 0)
    column = jnp.arange(width, dtype=jnp.int32)[None, :]
    ids = texts.tokens.at[starts[:, None] + column].get(mode="clip")
    labels = jnp.where(real, texts.labels[index], 0)
    return Batch(jnp.where(column < lengths[:, None], ids, PADDING_ID), lengths, labels, real.astype(jnp.float32))


def in_dtype(variables: Any, name: str) -> Any:
    """Return variables with float32 leaves in the named dtype; activations then have it too."""
    if name == "float32":
        return variables
    return jax.tree.map(lambda leaf: leaf.astype(name) if leaf.dtype == jnp.float32 else leaf, variables)


def apply_in_dtype(
    module: nn.Module, config: Config, variables: dict[str, Any], batch: Batch, key: jax.Array | None = None
) -> jax.Array:
    """Return the logits float32 [B, C] of a forward pass in `compute_dtype`, with dropout if a key is given."""
    variables = in_dtype(variables, config.training.compute_dtype)
    if batch.vectors is not None:
        return module.apply(variables, batch.vectors, method="classify").astype(jnp.float32)
    rngs = None if key is None else {"dropout": key}
    logits = module.apply(variables, batch.token_ids, batch.lengths, deterministic=key is None, rngs=rngs)
    return logits.astype(jnp.float32)


class Variant(NamedTuple):
    """What the runs of a variant share."""

    module: nn.Module
    optimizer: optax.GradientTransformationExtraArgs  # its Optax chain
    config: Config


def train_step(
    variant: Variant,
    state: TrainState,
    batch: Batch,
    width: jax.typing.ArrayLike = 0,
    widths: tuple[int, ...] = (),
) -> tuple[TrainState, Metrics]:
    """Take one step of the optimizer on the mean loss of a batch, weighted by class.

    Args:
      variant: the model and its optimizer.
      state: the state before the step.
      batch: B examples.
      width: int32 [], the number of the width that is enough for the batch.
      widths: the widths to choose from; empty: the whole batch.

    Returns:
      the state after the step, and the metrics of the batch by the parameters before it.
    """
    module, optimizer, config = variant
    key = jax.random.fold_in(jax.random.key(state.dropout_seed), state.step)
    weights = batch.weights * state.class_weights[batch.labels]

    def loss_of(params: Any, width: int | None = None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        cut = batch._replace(token_ids=batch.token_ids[:, :width])
        logits = apply_in_dtype(module, config, {"params": params, **state.constants}, cut, key)
        losses = cross_entropy(logits, batch.labels, config.training.label_smoothing)
        loss = jnp.sum(losses * weights) / jnp.maximum(jnp.sum(weights), 1e-30)
        if config.training.l2:
            named = jax.tree_util.tree_leaves_with_path(params)
            squares = [jnp.sum(jnp.square(p)) for path, p in named if is_weight(path, p)]
            loss += 0.5 * state.rates.l2 / state.num_texts * sum(squares)
        return loss, (logits, losses)

    derive = jax.value_and_grad(loss_of, has_aux=True)
    at_widths = [functools.partial(derive, width=width) for width in widths or (None,)]
    (loss, (logits, losses)), gradients = jax.lax.switch(width, at_widths, state.params)
    of_lbfgs = {
        "value": loss,
        "grad": gradients,
        "value_fn": lambda params: loss_of(params)[0],
    }
    state = descend(optimizer, config.optimizer, state, gradients, **of_lbfgs)
    return state, measure(logits, batch.labels, batch.weights, losses)


def descend(
    optimizer: optax.GradientTransformationExtraArgs, settings: Optimizer, state: Any, gradients: Any, **of_lbfgs: Any
) -> Any:
    """Return the state after a step of the optimizer.

    Args:
      optimizer: the result of `make_optimizer`.
      settings: the settings that it was made from.
      state: a state with `step`, `num_steps`, `rates`, `params` and `opt_state`.
      gradients: the gradients of the loss, a tree like `params`.
      **of_lbfgs: the arguments that only L-BFGS reads, see `make_optimizer`.
    """
    extra = {"rates": state.rates, "step": state.step, "num_steps": state.num_steps, **of_lbfgs}
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params, **extra)
    params = optax.apply_updates(state.params, updates)
    if settings.max_norm:
        params = limit_columns(params, settings.max_norm)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state)


def train_steps(
    variant: Variant,
    placement: Placement,
    states: TrainState,
    texts: DeviceTexts,
    index: jax.Array,
    width: jax.Array,
    *,
    widths: tuple[int, ...],
) -> tuple[TrainState, Metrics]:
    """Take up to K steps of each run, so that a program is started once for many steps.

    Args:
      variant: the model and its optimizer.
      placement: where the arrays are.
      states: [R, ...], the states before the first step.
      texts: [R, ...], the training texts.
      index: int32 [R, K, B], the texts of each batch, -1 for filler. Among several runs, one whose batch is all filler
        takes no step.
      width: int32 [K], the number of each batch's width, -1 behind the last batch.
      widths: the widths to choose from, ascending. The model is compiled for each.

    Returns:
      the states after the last step, and the metrics [R, ...] of all steps, which are also added to their `sums`.
    """
    runs, most_steps, rows = index.shape
    rows_wait = waiting_rows.can_wait(variant.config, variant.module) and rows * widths[-1] < variant.module.vocab_size
    if rows_wait:
        variant = variant._replace(module=variant.module.clone(vocab_size=rows * widths[-1]))

    def one_run(state: TrainState, texts: DeviceTexts, index: jax.Array) -> tuple[TrainState, Metrics]:
        def one_step(i: jax.Array, loop: tuple[Any, ...]) -> tuple[Any, ...]:
            state, waiting, sums = loop
            batch, before = take(texts, index[i], widths[-1]), state
            if rows_wait:
                before, token_ids, owners = waiting_rows.read(state, waiting, batch.token_ids)
                batch = batch._replace(token_ids=token_ids)
            after, metrics = train_step(variant, before, batch, width[i], widths)
            if runs > 1:
                trains = jnp.any(batch.weights > 0)
                after = jax.tree.map(lambda new, old: jnp.where(trains, new, old), after, before)
            # Step by step, so that an epoch's sums do not depend on where it was interrupted.
            after = after.replace(sums=state.sums.merge(metrics))
            if rows_wait:
                after, waiting = waiting_rows.write(state, waiting, after, owners)
            return after, waiting, sums.merge(metrics)

        waiting = waiting_rows.begin(variant.config.optimizer, state, most_steps) if rows_wait else None
        no_metrics = jax.tree.map(jnp.asarray, zero(state.class_weights.shape[0]))
        loop = state, waiting, no_metrics
        state, waiting, metrics = jax.lax.fori_loop(0, jnp.sum(width >= 0), one_step, loop)
        return (waiting_rows.end(state, waiting) if rows_wait else state), metrics

    if runs == 1:
        results = one_run(*jax.tree.map(lambda leaf: leaf[0], (states, texts, index)))
        return placement.replicate(jax.tree.map(lambda leaf: leaf[None], results))
    return placement.replicate(jax.vmap(one_run)(states, texts, index))


def evaluate_step(
    module: nn.Module, config: Config, variables: dict[str, Any], batch: Batch
) -> tuple[Metrics, jax.Array]:
    """Return the metrics of a batch, without class weights, and its class probabilities float32 [B, C].

    The same program evaluates and predicts: to predict, pass labels of zeros and ignore the metrics.
    """
    logits = apply_in_dtype(module, config, variables, batch)
    losses = cross_entropy(logits, batch.labels)
    return measure(logits, batch.labels, batch.weights, losses), probabilities(logits)
