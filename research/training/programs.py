"""Compile the functions that train and evaluate a classifier, and call them for R runs.

All runs of a variant share the compiled functions. The texts are put on the device once, and a compiled function takes
the texts of each batch from there. States, texts and batches have a leading axis of runs, [R, ...].
"""

import functools
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.data.augmentation import augment
from research.data.batches import Batch, blocks, epoch_order, evaluation_order, gather, steps_per_epoch, width_of
from research.data.tokenizer import Encoded
from research.machine import release_memory
from research.models import build, config_from_dict
from research.models.kernels.options import Kernels
from research.settings import Config, Data, Training, to_dict
from research.training.loop import Call, Task, stack
from research.training.metric_sums import Metrics, summarise, zero
from research.training.optimizers import make_optimizer, without_rates
from research.training.sharding import ONE_DEVICE, Placement
from research.training.step import (
    Capacity,
    DeviceTexts,
    TrainState,
    Variant,
    evaluate_step,
    pad_texts,
    train_step,
    train_steps,
)

_EVALUATION_ROWS = 64  # of a batch; on CPU, more rows do not fit into the processor's cache
_MOST_STEPS = 16  # of one call of a compiled function
_COMPILED_SECONDS = 0.3  # a call that does nothing and takes longer than this has compiled
# The first option uses the widest vectors of the processor, because XLA uses only half of the width of AVX-512. The
# second keeps XLA from dividing each loop among the cores, which costs more than it saves.
_OPTIONS_ON_CPU = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_multi_thread_eigen": False}
# Initial values are drawn once a run: compiling well would take longer.
_INITIAL_VALUES_ON_CPU = {"xla_backend_optimization_level": 1}


class Programs:
    """The compiled functions of one variant, for R runs that are trained together.

    Attributes:
      placement: the devices that hold the arrays.
      module: the linen module.
      optimizer: its Optax chain.
      train_steps: `(states, texts, index [R, K, B], width [K], widths=) -> (states, metrics)`, see `train_steps`. The
        memory of `states` is reused.
      evaluate: `(variables, batch) -> (metrics, probabilities [R, B, C])`, `evaluate_step` of each run.
      init: `(key, token_ids, lengths) -> variables` of one run.
      init_optimizer: `params -> opt_state` of one run.
      train: `(state, batch) -> (state, metrics)`, a single `train_step` of one run. The memory of `state` is reused.
        Tests and benchmarks call it.
      flops: width -> floating-point operations of predicting one text; filled when they are counted first.
    """

    def __init__(self, config: Config, num_classes: int, placement: Placement = ONE_DEVICE):
        num_outputs = 1 if num_classes == 2 else num_classes
        self.placement = placement
        kernels = Kernels(mesh=placement.row_mesh)
        sizes = {"vocab_size": config.data.vocab_size, "num_outputs": num_outputs}
        self.module = build(config.model, **sizes, kernels=kernels)
        self.optimizer = make_optimizer(config.optimizer, self.module)
        variant = Variant(self.module, self.optimizer, config)
        evaluate = for_each_run(functools.partial(evaluate_step, self.module, config))
        self.train_steps = jit_compiled(
            placement.map_runs(functools.partial(train_steps, variant, placement), 3),
            donate_argnums=0,
            static_argnames="widths",
        )
        self.evaluate = jit_compiled(
            placement.map_runs(lambda variables, batch: placement.replicate(evaluate(variables, batch)), 2)
        )
        self.init = jit_compiled(functools.partial(self.module.init, deterministic=True), on_cpu=_INITIAL_VALUES_ON_CPU)
        # Copies, because L-BFGS starts from the parameters' own buffers and a buffer is donated only once.
        self.init_optimizer = jax.jit(lambda params: jax.tree.map(jnp.copy, self.optimizer.init(params)))
        self.train = jit_compiled(functools.partial(train_step, variant), donate_argnums=0)
        self.flops: dict[int, int] = {}


def jit_compiled(function: Callable[..., Any], on_cpu: dict[str, Any] = _OPTIONS_ON_CPU, **options: Any) -> Any:
    """Return `jax.jit(function, **options)`, on CPU with compiler options, by default those of all training."""
    return jax.jit(function, compiler_options=on_cpu if jax.default_backend() == "cpu" else {}, **options)


def for_each_run(function: Callable[..., Any]) -> Callable[..., Any]:
    """Map a function over the leading axis of runs; a single run is computed without `vmap`, which is slower on CPU."""

    def mapped(*arguments: Any) -> Any:
        if jax.tree.leaves(arguments)[0].shape[0] > 1:
            return jax.vmap(function)(*arguments)
        result = function(*jax.tree.map(lambda leaf: leaf[0], arguments))
        return jax.tree.map(lambda leaf: leaf[None], result)

    return mapped


def programs_for(config: Config, num_classes: int, placement: Placement = ONE_DEVICE) -> Programs:
    """Return the programs of a variant.

    All configs with the same settings of a step share them. Rates are arguments of a step, so they may differ; only
    whether weight decay and L2 are used is compiled.
    """
    config = without_rates(config)
    step_settings = Config(
        model=config.model,
        data=Data(vocab_size=config.data.vocab_size),
        optimizer=config.optimizer,
        training=Training(**{n: getattr(config.training, n) for n in ("l2", "label_smoothing", "compute_dtype")}),
    )
    return cached_programs(json.dumps(to_dict(step_settings), sort_keys=True), num_classes, placement)


# The cache is small because a compiled program holds a thousand memory mappings on CPU, of which a process may have
# 65,530. The runs of one variant follow one another, so few programs are in use at a time.
@functools.lru_cache(maxsize=4)
def cached_programs(config_json: str, num_classes: int, placement: Placement) -> Programs:
    """Return the programs of a config in JSON, see `programs_for`. Tests empty its cache."""
    return Programs(config_from_dict(json.loads(config_json)), num_classes, placement)


class TrainData(NamedTuple):
    """The texts of one run, and the seed of their order."""

    train: Encoded
    validation: Encoded  # chooses the epoch
    order_seed: int  # the seed of the run's "order" stream


class Shapes(NamedTuple):
    """The shapes of batches and of the arrays on the device, equal for all runs on a corpus."""

    widths: tuple[int, ...]  # the widths that batches are padded to, ascending
    capacity: Capacity


def classifier_task(programs: Programs, data: Sequence[TrainData], training: Training, shapes: Shapes) -> Task:
    """Return the task of training R classifiers.

    Args:
      programs: the compiled functions of the variant.
      data: the texts of each run.
      training: the settings, equal for all runs.
      shapes: the shapes of batches.
    """
    placement = programs.placement
    sizes = [len(run.validation.labels) for run in data]
    held_out = list(evaluation_batches([run.validation for run in data], shapes.widths, placement))

    def validate(states: TrainState) -> Metrics:
        return evaluate_runs(programs, states.variables, held_out, sizes)[0]

    steps = [steps_per_epoch(len(run.train.labels), training.batch_size) for run in data]
    calls = _classifier_calls(programs, data, training, shapes)
    return Task(steps, programs.train_steps, calls, validate, summarise, placement)


def _classifier_calls(
    programs: Programs, data: Sequence[TrainData], training: Training, shapes: Shapes
) -> Callable[[int, Mapping[int, int]], Iterator[Call]]:
    """Return a function for `Task.calls`. A call trains on up to `_MOST_STEPS` batches."""
    placement = programs.placement
    rows = _batch_rows(training, data, placement)
    widths, most_steps = _training_widths(shapes, training, data), _steps_per_call(training, data)
    is_augmented = bool(training.random_deletion or training.random_swap)
    all_texts = None if is_augmented else _put_texts(placement, data, shapes)

    def calls(epoch: int, taken: Mapping[int, int]) -> Iterator[Call]:
        runs = [_augment(run, training, epoch) for run in data] if is_augmented else data
        texts = _put_texts(placement, runs, shapes) if is_augmented else all_texts
        orders = []
        for r, run in enumerate(runs):
            order = epoch_order(run.train.lengths, training.batch_size, run.order_seed, epoch)
            orders.append((run.train.lengths, order[taken[r] :] if r in taken else []))
        for index, width in blocks(orders, rows, widths, most_steps):
            arguments = texts, placement.put_rows(index, 2), placement.put_shared(width)
            yield Call(arguments, {"widths": widths}, int(np.sum(width >= 0)))

    return calls


def _augment(run: TrainData, training: Training, epoch: int) -> TrainData:
    deletion, swap = training.random_deletion, training.random_swap
    return run._replace(train=augment(run.train, run.order_seed, epoch, deletion=deletion, swap=swap))


def _put_texts(placement: Placement, data: Sequence[TrainData], shapes: Shapes) -> DeviceTexts:
    return placement.put(stack([pad_texts(run.train, shapes.capacity) for run in data]))


def compile_programs(
    programs: Programs, states: TrainState, data: Sequence[TrainData], training: Training | None, shapes: Shapes
) -> None:
    """Compile every program of R runs, by calls that train and evaluate no texts.

    Args:
      programs, data, shapes: as in `classifier_task`.
      states: [R, ...], the states before the first step.
      training: as in `classifier_task`; None if no steps are taken.
    """
    placement = programs.placement
    if training is not None:
        texts, rows = _put_texts(placement, data, shapes), _batch_rows(training, data, placement)
        steps = _steps_per_call(training, data)
        filler = placement.put_rows(np.full((len(data), steps, rows), -1, np.int32), 2)
        no_batches = placement.put_shared(np.full(steps, -1, np.int32))
        arguments = placement.put(jax.tree.map(np.array, states)), texts, filler, no_batches
        widths = _training_widths(shapes, training, data)
        _compile(functools.partial(programs.train_steps, *arguments, widths=widths))
    empty = np.empty(0, np.int32)
    for width in _evaluation_widths(shapes.widths):
        batch = stack([gather(run.validation, empty, _evaluation_rows(placement), (width,)) for run in data])
        _compile(functools.partial(programs.evaluate, states.variables, placement.put_rows(batch, 1)))


def _compile(call: Callable[[], Any]) -> None:
    """Make a call that compiles, and give the memory that compiling has freed back to the system."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    if time.perf_counter() - start > _COMPILED_SECONDS:
        release_memory()


def _training_widths(shapes: Shapes, training: Training, data: Sequence[TrainData]) -> tuple[int, ...]:
    """Return the widths of training batches: only the last for several runs, as one of them almost always needs it."""
    return shapes.widths if training.batch_size and len(data) == 1 else shapes.widths[-1:]


def _evaluation_widths(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Return every other width: a forward pass over padding costs less than compiling for each width."""
    return widths[::-2][::-1]


def _steps_per_call(training: Training, data: Sequence[TrainData]) -> int:
    return min(_MOST_STEPS, *(steps_per_epoch(len(run.train.labels), training.batch_size) for run in data))


def _batch_rows(training: Training, data: Sequence[TrainData], placement: Placement) -> int:
    """Return the rows of a batch. A batch of all texts is rounded up, so that folds of similar size share a program."""
    all_rows = _round_up(max(len(run.train.labels) for run in data), 64 * placement.row_shares)
    if not training.batch_size:
        return all_rows
    return min(all_rows, _round_up(training.batch_size, placement.row_shares))


def _evaluation_rows(placement: Placement) -> int:
    return _round_up(_EVALUATION_ROWS, placement.row_shares)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def evaluation_batches(
    texts: Sequence[Encoded], widths: tuple[int, ...], placement: Placement
) -> Iterator[tuple[list[np.ndarray], Batch]]:
    """Yield batches of the texts of R runs, the shortest texts first.

    Args:
      texts: the texts of each run.
      widths: the widths of batches; every other one is used.
      placement: the devices that hold the batches.

    Yields:
      for each run the indices of its texts in the batch, and the batch [R, B, ...].
    """
    widths, rows = _evaluation_widths(widths), _evaluation_rows(placement)
    orders = [evaluation_order(encoded.lengths, rows) for encoded in texts]
    for indices in itertools.zip_longest(*orders, fillvalue=np.empty(0, np.int64)):
        longest = max(int(e.lengths[index].max(initial=0)) for e, index in zip(texts, indices, strict=True))
        width = (width_of(longest, widths),)
        batch = stack([gather(e, index, rows, width) for e, index in zip(texts, indices, strict=True)])
        yield list(indices), placement.put_rows(batch, 1)


def evaluate_runs(
    programs: Programs,
    variables: dict[str, Any],
    batches: Iterable[tuple[list[np.ndarray], Batch]],
    sizes: Sequence[int],
) -> tuple[Metrics, list[np.ndarray]]:
    """Evaluate R runs, each on its own texts.

    Args:
      programs: the compiled functions of the variant.
      variables: [R, ...].
      batches: the result of `evaluation_batches`.
      sizes: the number of texts of each run.

    Returns:
      metrics [R, ...] and, for each run, class probabilities float32 [N, C] in the order of its texts.
    """
    classes = max(programs.module.num_outputs, 2)
    dispatched = [(indices, programs.evaluate(variables, batch)) for indices, batch in batches]
    results = [np.empty((size, classes), np.float32) for size in sizes]
    metrics = stack([zero(classes)] * len(sizes))
    fetched = jax.device_get([outputs for _, outputs in dispatched])  # only now, so that no batch waits for a transfer
    for (indices, _), (batch_metrics, probabilities) in zip(dispatched, fetched, strict=True):
        for r, index in enumerate(indices):
            results[r][index] = probabilities[r, : len(index)]
        metrics = metrics.merge(batch_metrics)
    return metrics, results
