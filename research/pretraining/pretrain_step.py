"""The pre-training step: a pure function `(state, rows) -> (state, sums)`, like that of `training/step.py`."""

import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from research.data.token_stream import Rows
from research.data.word_pieces import Special
from research.models import build, config_from_dict, init_guesser
from research.models.kernels.options import Kernels
from research.pretraining.objectives import Examples, Sums, make_examples, measure, zero
from research.settings import Config, Data, Pretraining, to_dict
from research.training.optimizers import Rates, make_optimizer, rates_of, without_rates
from research.training.programs import for_each_run, jit_compiled
from research.training.sharding import ONE_DEVICE, Placement
from research.training.step import descend, in_dtype


@struct.dataclass
class PretrainState:
    """All that a step reads besides its rows. Random keys are derived from `seed` and `step`, so none is stored."""

    step: jax.Array  # int32 []
    seed: jax.Array  # uint32 [], for masks and dropout
    num_steps: jax.Array  # float32 [], total number of steps of the run
    rates: Rates
    sums: Sums  # sums over the epoch so far
    params: Any
    opt_state: Any


class PretrainPrograms:
    """The compiled functions of a model; each is compiled on its first call.

    placement: where the arrays are.
    init: `(key) -> variables`.
    step: `(states, rows [1, K, B / K, ...]) -> (states, sums)`, one optimizer step of one run. Arrays have a leading
      axis of one run, [1, ...]. The states are donated.
    evaluate: `(params [1, ...], rows [B, ...], number) -> sums`; the number of the batch is the seed of its masks.
    """

    def __init__(self, config: Config, special: Special | None, num_ids: int, placement: Placement = ONE_DEVICE):
        """Define the functions; `special` and `num_ids` as in `objectives.make_examples`."""
        self.placement = placement
        kernels = Kernels(mesh=placement.row_mesh)
        self.module = build(config.model, vocab_size=config.data.vocab_size, num_outputs=1, kernels=kernels)
        self.optimizer = make_optimizer(config.optimizer, self.module)
        examples = functools.partial(make_examples, self.module.objective, special=special, num_ids=num_ids)
        step = functools.partial(pretrain_step, self.module, self.optimizer, config, examples)
        self.init = jax.jit(functools.partial(init_guesser, self.module))
        evaluate = functools.partial(_evaluate, self.module, config, examples)
        self.step = jit_compiled(
            lambda states, rows: placement.replicate(for_each_run(step)(states, rows)), donate_argnums=0
        )
        self.evaluate = jit_compiled(
            lambda params, rows, number: placement.replicate(
                evaluate(jax.tree.map(lambda leaf: leaf[0], params), rows, number)
            )
        )


def pretrain_programs(config: Config, special: Special | None, num_ids: int, placement: Placement) -> PretrainPrograms:
    """Return the programs of a model. Runs whose steps read the same settings share them."""
    read = Config(
        model=config.model,
        data=Data(vocab_size=config.data.vocab_size),
        optimizer=without_rates(config).optimizer,
        training=Pretraining(compute_dtype=config.training.compute_dtype),
    )
    return _programs(json.dumps(to_dict(read), sort_keys=True), special, num_ids, placement)


@functools.lru_cache(maxsize=2)
def _programs(config_json: str, special: Special | None, num_ids: int, placement: Placement) -> PretrainPrograms:
    return PretrainPrograms(config_from_dict(json.loads(config_json)), special, num_ids, placement)


def init_state(
    programs: PretrainPrograms,
    config: Config,
    *,
    init_seed: int,
    seed: int,
    num_steps: int,
    start_from: Callable[[Any], Any] = lambda params: params,
) -> PretrainState:
    """Return a fresh state.

    Args:
      programs: the programs for `config`.
      config: the settings; only the rates are read.
      init_seed: the seed of the run's "init" stream.
      seed: the seed of its "dropout" stream.
      num_steps: the total number of steps of the run.
      start_from: replaces fresh parameters by those to start from.
    """
    params = start_from(programs.init(jax.random.key(init_seed))["params"])
    return PretrainState(
        step=jnp.zeros((), jnp.int32),
        seed=jnp.asarray(seed, jnp.uint32),
        num_steps=jnp.asarray(num_steps, jnp.float32),
        rates=rates_of(config.optimizer),
        sums=jax.tree.map(jnp.asarray, zero()),
        params=params,
        opt_state=programs.optimizer.init(params),
    )


def pretrain_step(
    module: nn.Module,
    optimizer: optax.GradientTransformationExtraArgs,
    config: Config,
    examples_of_rows: Callable[[jax.Array, Rows], Examples],
    state: PretrainState,
    rows: Rows,
) -> tuple[PretrainState, Sums]:
    """Take one step on the mean loss per guessed token plus, where known, the mean loss of the order of segments.

    Args:
      module: the model.
      optimizer: its Optax chain.
      config: its settings.
      examples_of_rows: makes examples from a random key and rows.
      state: the state before the step.
      rows: [K, B / K, ...], a batch in K parts. Their gradients are added one after another, which gives the gradient
        of the whole batch.

    Returns:
      the state after the step, and the sums of the batch with the parameters before it.
    """
    example_key, dropout_key = jax.random.split(jax.random.fold_in(jax.random.key(state.seed), state.step))
    examples = examples_of_rows(example_key, rows)
    tokens = jnp.maximum(jnp.sum(examples.weights), 1.0)
    ordered = jnp.maximum(jnp.sum(examples.order >= 0).astype(jnp.float32), 1.0)

    def loss_of(params: Any, part: Examples, key: jax.Array) -> tuple[jax.Array, Sums]:
        variables = in_dtype({"params": params}, config.training.compute_dtype)
        sums = measure(module, variables, part, key)
        return sums.loss / tokens + sums.order_loss / ordered, sums

    def add_part(totals: tuple[Any, Sums], part: tuple[Examples, jax.Array]) -> tuple[tuple[Any, Sums], None]:
        gradients_before, sums_before = totals
        (_, sums), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params, *part)
        return (jax.tree.map(jnp.add, gradients_before, gradients), sums_before.merge(sums)), None

    parts = rows.lengths.shape[0]
    zeros = jax.tree.map(jnp.zeros_like, state.params), jax.tree.map(jnp.asarray, zero())
    if parts == 1:
        (gradients, sums), _ = add_part(zeros, (jax.tree.map(lambda leaf: leaf[0], examples), dropout_key))
    else:
        (gradients, sums), _ = jax.lax.scan(add_part, zeros, (examples, jax.random.split(dropout_key, parts)))
    state = descend(optimizer, config.optimizer, state, gradients)
    return state.replace(sums=state.sums.merge(sums)), sums


def _evaluate(
    module: nn.Module,
    config: Config,
    examples_of_rows: Callable[[jax.Array, Rows], Examples],
    params: Any,
    rows: Rows,
    number: jax.Array,
) -> Sums:
    """Return the sums of one validation batch, with the masks that its number draws."""
    examples = examples_of_rows(jax.random.key(number), rows)
    return measure(module, in_dtype({"params": params}, config.training.compute_dtype), examples)
