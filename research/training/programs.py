"""The compiled functions of a variant, shared by all its runs, and the state that they begin with."""

import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.data.batches import Batch, gather
from research.data.tokenizer import Encoded
from research.models import build, config_from_dict
from research.settings import Config, Data, Training, to_dict
from research.training.device_memory import require_memory
from research.training.feed import Texts
from research.training.metric_sums import Metrics, zero
from research.training.optimizers import make_optimizer, rates_of, without_rates
from research.training.sharding import replicated
from research.training.step import TrainState, evaluate_step, repeat_step, train_step

# Arithmetic in the widest vectors that the processor has, where XLA takes half of AVX-512's. And loops in one piece:
# XLA would cut each among the cores that it saw when it compiled, which costs more than it brings.
_OPTIONS_ON_CPU = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_multi_thread_eigen": False}


class Programs:
    """The compiled functions of one variant, for runs that are trained together: R of them, on the leading axis.

    train_block: `(states, texts, index [R, K, B], count, width=) -> (states, metrics)`, `repeat_step` of each; the
      states are donated.
    evaluate: `(variables, batch) -> (metrics, probabilities [R, B, C])`, `evaluate_step` of each.
    init: `(key, token_ids, lengths) -> variables` of one run.
    init_optimizer: `params -> opt_state` of one run.
    train: `(state, batch) -> (state, metrics)`, a single `train_step` of one run, the state donated; for who looks at
      one step, as tests and the benchmark do.
    flops: of predicting one text, by width; filled by who asks for it first.
    """

    def __init__(self, config: Config, num_classes: int):
        num_outputs = 1 if num_classes == 2 else num_classes
        self.module = build(config.model, vocab_size=config.data.vocab_size, num_outputs=num_outputs)
        self.optimizer = make_optimizer(config.optimizer)
        step = functools.partial(train_step, self.module, self.optimizer, config)
        self.train_block = jit_compiled(
            functools.partial(repeat_members, step), donate_argnums=0, static_argnames="width"
        )
        evaluate = for_members(functools.partial(evaluate_step, self.module, config))
        self.evaluate = jit_compiled(lambda variables, batch: replicated(evaluate(variables, batch)))
        self.init = jax.jit(functools.partial(self.module.init, deterministic=True))
        # Copies, because L-BFGS starts from the parameters' own buffers and a buffer is donated only once.
        self.init_optimizer = jax.jit(lambda params: jax.tree.map(jnp.copy, self.optimizer.init(params)))
        self.train = jit_compiled(step, donate_argnums=0)
        self.flops: dict[int, int] = {}


def jit_compiled(function: Callable[..., Any], **given: Any) -> Any:
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


def programs_for(config: Config, num_classes: int) -> Programs:
    """The programs of a variant, shared by its runs and by all variants that differ in nothing that a step reads.

    What differs between runs is data, not code: rates, and with them whether there is any decay or penalty at all.
    """
    given = without_rates(config)
    read = Config(
        model=given.model,
        data=Data(vocab_size=given.data.vocab_size),
        optimizer=given.optimizer,
        training=Training(**{n: getattr(given.training, n) for n in ("l2", "label_smoothing", "compute_dtype")}),
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
        opt_state=programs.init_optimizer(params),
    )


def repeat_members(
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    states: TrainState,
    texts: Texts,
    index: jax.Array,
    count: jax.Array,
    *,
    width: int,
) -> tuple[TrainState, Metrics]:
    """`repeat_step` of each member, on states, texts and index [R, ...]; one stands still where its index is filler."""

    def unless_at_rest(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        after, metrics = step(state, batch)
        trains = jnp.any(batch.weights > 0)
        return jax.tree.map(lambda new, old: jnp.where(trains, new, old), after, state), metrics

    def of_member(state: TrainState, texts: Texts, index: jax.Array) -> tuple[TrainState, Metrics]:
        return repeat_step(step if alone else unless_at_rest, state, texts, index, count, width=width)

    alone = index.shape[0] == 1
    return replicated(for_members(of_member)(states, texts, index))
