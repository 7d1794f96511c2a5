"""State and step: pure functions over (state, batch), compiled once a variant and shared by all its runs."""

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct

from research.data.batches import Batch, gather
from research.data.tokenizer import Encoded
from research.models import build, config_from_dict
from research.settings import Config, Data, Optimizer, Training, to_dict
from research.training.environment import require_memory
from research.training.feed import Texts, take
from research.training.metrics import Metrics, cross_entropy, measure, probabilities, zero
from research.training.optimizers import Rates, is_weight, limit_columns, make_optimizer, rate_factor, rates_of
from research.training.sharing import whole


@struct.dataclass
class TrainState:
    """All that a run changes; keys are derived from `dropout_seed` and `step`, so none is kept."""

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


# Arithmetic in the widest vectors that the processor has, where XLA takes half of AVX-512's. And loops in one piece:
# XLA would cut each among the cores that it saw when it compiled, which costs more than it brings.
_OPTIONS_ON_CPU = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_multi_thread_eigen": False}


class Programs:
    """The compiled functions of one variant, for runs that are trained together: R of them, on the leading axis.

    train_block: `(states, texts, rows [R, K, B], count, width=) -> (states, metrics)`, `repeat_step` of each; the
      states are donated.
    evaluate: `(variables, batch) -> (metrics, probabilities [R, B, C])`, `evaluate_step` of each.
    init: `(key, token_ids, lengths) -> variables` of one run.
    train: `(state, batch) -> (state, metrics)`, a single `train_step` of one run, the state donated; for who looks at
      one step, as tests and the benchmark do.
    flops: of predicting one text, by width; filled by who asks for it first.
    """

    def __init__(self, config: Config, num_classes: int):
        num_outputs = 1 if num_classes == 2 else num_classes
        self.module = build(config.model, vocab_size=config.data.vocab_size, num_outputs=num_outputs)
        self.optimizer = make_optimizer(config.optimizer)
        step = functools.partial(train_step, self.module, self.optimizer, config)
        self.train_block = compiled(functools.partial(repeat_members, step), donate_argnums=0, static_argnames="width")
        evaluate = for_members(functools.partial(evaluate_step, self.module, config))
        self.evaluate = compiled(lambda variables, batch: whole(evaluate(variables, batch)))
        self.init = jax.jit(functools.partial(self.module.init, deterministic=True))
        self.train = compiled(step, donate_argnums=0)
        self.flops: dict[int, int] = {}


def compiled(function: Callable[..., Any], **given: Any) -> Any:
    """`jax.jit` as all that trains or evaluates is compiled."""
    options = _OPTIONS_ON_CPU if jax.default_backend() == "cpu" else {}
    return jax.jit(function, compiler_options=options, **given)


def for_members(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` for each member of the leading axis; as it is where there is one: on CPU faster than `vmap`."""

    def of_members(*arguments: Any) -> Any:
        if jax.tree.leaves(arguments)[0].shape[0] > 1:
            return jax.vmap(function)(*arguments)
        found = function(*jax.tree.map(lambda leaf: leaf[0], arguments))
        return jax.tree.map(lambda leaf: leaf[None], found)

    return of_members


def programs(config: Config, num_classes: int) -> Programs:
    """The programs of a variant, shared by its runs and by all variants that differ in nothing that a step reads.

    What differs between runs is data, not code: rates, and with them whether there is any decay or penalty at all.
    """
    decay, l2 = float(config.optimizer.weight_decay > 0), float(config.training.l2 > 0)
    training = Training(
        l2=l2, label_smoothing=config.training.label_smoothing, compute_dtype=config.training.compute_dtype
    )
    read = Config(
        model=config.model,
        data=Data(vocab_size=config.data.vocab_size),
        optimizer=dataclasses.replace(config.optimizer, learning_rate=1.0, weight_decay=decay),
        training=training,
    )
    return _programs(json.dumps(to_dict(read), sort_keys=True), num_classes)


# Few, because a compiled program holds a thousand memory mappings on CPU and a process may have 65,530; runs of one
# variant follow one another.
@functools.lru_cache(maxsize=4)
def _programs(config_json: str, num_classes: int) -> Programs:
    return Programs(config_from_dict(json.loads(config_json)), num_classes)


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
    """A fresh state.

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
        # Copies, because L-BFGS starts from the parameters' own buffers and a buffer is donated only once.
        opt_state=jax.tree.map(jnp.copy, programs.optimizer.init(params)),
    )


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
        "value_fn": lambda params, rates: loss_of(params)[0],  # is handed what L-BFGS does not read itself
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
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params, rates=state.rates, **of_loss)
    if settings.schedule != "constant" or settings.warmup:
        factor = rate_factor(settings, (state.step + 1).astype(jnp.float32) / state.num_steps)
        updates = jax.tree.map(lambda update: update * factor, updates)
    params = optax.apply_updates(state.params, updates)
    if settings.max_norm:
        params = limit_columns(params, settings.max_norm)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state)


def repeat_step(
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    state: TrainState,
    texts: Texts,
    rows: jax.Array,
    count: jax.Array,
    *,
    width: int,
) -> tuple[TrainState, Metrics]:
    """Takes `step` on the first `count` of K batches, so that a program is started once for many steps.

    Args:
      step: `train_step` of a variant.
      state: before the first step.
      texts: the training texts.
      rows: int32 [K, B], the texts of each batch, -1 for filler.
      count: int32 [], at most K.
      width: that the batches are padded to.

    Returns:
      the state after the last step, and the metrics of all of them, which its `sums` hold as well.
    """

    def one(i: jax.Array, loop: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        state, metrics = step(loop[0], take(texts, rows[i], width))
        # Step by step, so that an epoch's sums do not depend on where it was interrupted.
        return state.replace(sums=state.sums.merge(metrics)), loop[1].merge(metrics)

    nothing = jax.tree.map(jnp.asarray, zero(state.class_weights.shape[0]))
    return jax.lax.fori_loop(0, count, one, (state, nothing))


def repeat_members(
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    states: TrainState,
    texts: Texts,
    rows: jax.Array,
    count: jax.Array,
    *,
    width: int,
) -> tuple[TrainState, Metrics]:
    """`repeat_step` of each member, on states, texts and rows [R, ...]; one stands still where its rows are filler."""

    def unless_at_rest(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        after, metrics = step(state, batch)
        trains = jnp.any(batch.weights > 0)
        return jax.tree.map(lambda new, old: jnp.where(trains, new, old), after, state), metrics

    def of_member(state: TrainState, texts: Texts, rows: jax.Array) -> tuple[TrainState, Metrics]:
        return repeat_step(step if alone else unless_at_rest, state, texts, rows, count, width=width)

    alone = rows.shape[0] == 1
    return whole(for_members(of_member)(states, texts, rows))


def evaluate_step(
    module: nn.Module, config: Config, variables: dict[str, Any], batch: Batch
) -> tuple[Metrics, jax.Array]:
    """The metrics of a batch, every example weighing the same, and class probabilities float32 [B, C].

    One program for both: whoever predicts has labels of zeros and ignores the metrics.
    """
    logits = apply_in_dtype(module, config, variables, batch)
    losses = cross_entropy(logits, batch.labels)
    return measure(logits, batch.labels, batch.weights, losses), probabilities(logits)
