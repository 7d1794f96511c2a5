"""This project's own step, encoding and populations, and the limit of the processor: a large product of matrices."""

import functools
import gzip
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import peers
from experiments.benchmarks.peers import PADDED, answer, example_batch, time_calls
from experiments.variants import load_config
from research.data.batches import Batch, blocks
from research.data.corpora import load
from research.data.tokenized_corpus import fit_vocabulary
from research.data.tokenizer import Encoded, encode, intern_texts
from research.models import with_kernels
from research.models.kernels.options import Kernels
from research.parallel import device_setup
from research.runs.flops import count_product_flops
from research.runs.texts import RunSpec, RunTexts, prepare_texts
from research.runs.warm_start import start_from_pretrained
from research.settings import Config, Data
from research.training.initial_state import Start, init_state
from research.training.loop import Call, fit, of_run, stack
from research.training.programs import Programs, TrainData, classifier_task, programs_for
from research.training.sharding import ONE_DEVICE
from research.training.step import TrainState, evaluate_step, pad_texts

_SIZE = 1024


def step(threads: int) -> dict[str, Any]:
    """Time the article's padded step; JAX uses the cores that the process has, whatever `threads` says."""
    device_setup.use_devices()
    config, (ids, labels) = load_config("lstm"), example_batch()
    lengths, weights = np.full(len(labels), PADDED, np.int32), np.ones(len(labels), np.float32)
    batch = Batch(ids, lengths, labels, weights)
    texts = Encoded(ids.ravel(), np.arange(len(ids) + 1) * PADDED, labels)
    programs = programs_for(config, 2)
    state = init_state(programs, config, texts, (PADDED,))

    def train_once() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(programs.train(state, batch))

    return {"seconds": time_calls(train_once)}


def product(threads: int) -> dict[str, Any]:
    """Return the FLOPs a second of a float32 product, on the cores that the process has."""
    a = jax.random.normal(jax.random.key(0), (_SIZE, _SIZE))
    multiply = jax.jit(lambda x, y: x @ y)
    return {"flops_per_second": [2 * _SIZE**3 / s for s in time_calls(lambda: jax.block_until_ready(multiply(a, a)))]}


def encoding(threads: int) -> dict[str, float]:
    """Time how IMDb is cleaned and split, and how a fold's vocabulary and token ids are made; return their size too."""
    corpus, data = load("imdb"), Data(max_length=10_000)
    start = time.perf_counter()
    interned = intern_texts(corpus.texts, data)
    cleaned = time.perf_counter()
    vocabulary = fit_vocabulary(interned, np.flatnonzero(np.arange(len(corpus)) % 5), data.vocab_size)
    encoded = encode(interned, vocabulary, corpus.labels, np.arange(len(corpus)), data)
    done = time.perf_counter()
    size = encoded.tokens.nbytes + encoded.offsets.nbytes + encoded.labels.nbytes
    return {
        "cleaning and splitting IMDb, s": cleaned - start,
        "a fold's vocabulary and ids, s": done - cleaned,
        "an encoded corpus, bytes over those of its ids": size / encoded.tokens.nbytes,
    }


def _fold(variant: str = "lstm") -> tuple[Config, Programs, RunTexts]:
    """Return what the first fold of rotten_tomatoes is trained with."""
    config = load_config(variant)
    prepared = prepare_texts(RunSpec(config, load("rotten_tomatoes"), 5, 0, 0))
    return config, programs_for(config, 2), prepared


def populations(threads: int) -> dict[str, float]:
    """Return the training texts a second of an epoch of R runs in one program, for several R."""
    device_setup.use_devices()
    config, programs, prepared = _fold()
    config.training.epochs = 2
    data = TrainData(prepared.train, prepared.validation, 0)
    rates = {}
    for size in (1, 8) if jax.default_backend() == "cpu" else (1, 8, 64, 256):
        widths = prepared.shapes.widths
        fresh = [init_state(programs, config, prepared.train, widths, Start(init_seed=seed)) for seed in range(size)]
        task = classifier_task(programs, [data] * size, config.training, prepared.shapes)
        seconds, start = 0.0, 0.0
        for states, _ in fit(task, ONE_DEVICE.put(stack(fresh)), 2, done=[0] * size):
            jax.block_until_ready(states)
            seconds, start = time.perf_counter() - start, time.perf_counter()  # of the second epoch in the end
        rates[f"{size} run(s) in one program"] = size * len(prepared.train.labels) / seconds
    return rates


def _put(state: TrainState, prepared: RunTexts) -> tuple[Any, Any]:
    """Return the states and the texts of one run on the device."""
    texts = pad_texts(prepared.train, prepared.shapes.capacity)
    return ONE_DEVICE.put(stack([state])), ONE_DEVICE.put(stack([texts]))


def tuning(threads: int) -> dict[str, float]:
    """Return the unpadded tokens a second of fine-tuning MiniLM-L6, and the FLOPs of its products for each token."""
    device_setup.use_devices()
    config, prepared, order = peers.fine_tuning_data()
    programs = programs_for(config, 2)
    start_from = functools.partial(start_from_pretrained, programs.module, config, prepared)
    state = init_state(
        programs, config, prepared.train, prepared.shapes.widths, Start(num_steps=1000, start_from=start_from)
    )
    states, texts = _put(state, prepared)
    planned = list(blocks([(prepared.train.lengths, order)], config.training.batch_size, prepared.shapes.widths, 16))
    seconds = 0.0
    for compiled_already in (False, True):
        start = time.perf_counter()
        for rows, width in planned if compiled_already else planned[:1]:
            states, metrics = programs.train_steps(states, texts, rows, width, widths=prepared.shapes.widths)
        jax.block_until_ready(metrics)
        seconds = time.perf_counter() - start
    tokens = sum(int(prepared.train.lengths[index].sum()) for index in order)
    model = config.model
    of_block = 4 * model.hidden_size**2 + 2 * model.hidden_size * model.feed_forward
    return {"tokens_per_second": tokens / seconds, "flops_per_token": 6.0 * model.layers * of_block}


def profile(folder: str, variant: str, threads: int) -> dict[str, Any]:
    """Time an epoch of a variant, and trace its first steps.

    Returns:
      the milliseconds of a step, the FLOPs of a step's products of unpadded tokens, and the milliseconds a step of each
      operation of XLA.
    """
    device_setup.use_devices()
    config, programs, prepared = _fold(variant)
    state = init_state(programs, config, prepared.train, prepared.shapes.widths, Start(num_steps=1000))
    states, _ = _put(state, prepared)
    data = [TrainData(prepared.train, prepared.validation, 0)]
    task = classifier_task(programs, data, config.training, prepared.shapes)
    calls = list(task.calls(0, {0: 0}))

    def train(calls: list[Call]) -> float:
        nonlocal states
        start = time.perf_counter()
        for call in calls:
            states, metrics = task.train(states, *call.arguments, **call.keywords)
        jax.block_until_ready(metrics)
        return 1e3 * (time.perf_counter() - start) / sum(call.count for call in calls)

    train(calls)
    step = min(train(calls) for _ in range(5))
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level, options.host_tracer_level = 0, 3
    traced = calls[:4]
    with jax.profiler.trace(folder, profiler_options=options):
        train(traced)
    steps = sum(call.count for call in traced)
    operations: dict[str, float] = {}
    for file in Path(folder).rglob("*.trace.json.gz"):
        for event in json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]:
            if event.get("ph") == "X":
                operations[event["name"]] = operations.get(event["name"], 0.0) + event["dur"] / 1e3 / steps
    flops = _product_flops(config, programs, states, prepared) / task.steps[0]
    return {"step": step, "operations": operations, "flops": flops}


def _product_flops(config: Config, programs: Programs, states: TrainState, prepared: RunTexts) -> float:
    """Return the FLOPs of the products of an epoch without padding; the backward pass costs twice the forward pass."""
    module = with_kernels(programs.module, Kernels(plain=True))  # plain loops state their length
    forward = functools.partial(evaluate_step, module, config, of_run(states, 0).variables)
    flops = 0
    for length, count in zip(*np.unique(np.maximum(prepared.train.lengths, 1), return_counts=True), strict=True):
        ids, lengths = np.zeros((1, length), np.int32), np.full(1, length, np.int32)
        text = Batch(ids, lengths, np.zeros(1, np.int32), np.ones(1, np.float32))
        flops += count * count_product_flops(forward, text)
    return 3.0 * flops


if __name__ == "__main__":
    measures = {"step": step, "product": product, "encoding": encoding, "populations": populations}
    answer(measures | {"tuning": tuning, "profile": profile})
