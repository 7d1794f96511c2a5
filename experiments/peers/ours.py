"""This project's step and encoding, and what the processor could do: a large product of matrices."""

import time
from typing import Any

import jax
import numpy as np

from experiments import program
from experiments.peers import PADDED, answer, example, timed
from experiments.variants import load_config
from research.data.batches import Batch
from research.data.corpora import load
from research.data.tokenizer import Encoded, encode, fit_vocabulary, intern_texts
from research.settings import Data
from research.training.step import init_state, programs

_SIZE = 1024


def step(threads: int) -> dict[str, Any]:
    """The article's padded step; the threads are those of the cores that the process has."""
    program.use_devices(side_by_side=False)
    config, (ids, labels) = load_config("lstm"), example()
    lengths, weights = np.full(len(labels), PADDED, np.int32), np.ones(len(labels), np.float32)
    batch = Batch(ids, lengths, labels, weights)
    texts = Encoded(ids.ravel(), np.arange(len(ids) + 1) * PADDED, labels)
    compiled = programs(config, 2)
    state = init_state(compiled, config, texts, (PADDED,))

    def one() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(compiled.train(state, batch))

    return {"seconds": timed(one)}


def product(threads: int) -> dict[str, Any]:
    """FLOPs a second of a float32 product, on the cores that the process has."""
    a = jax.random.normal(jax.random.key(0), (_SIZE, _SIZE))
    multiply = jax.jit(lambda x, y: x @ y)
    return {"flops_per_second": [2 * _SIZE**3 / s for s in timed(lambda: jax.block_until_ready(multiply(a, a)))]}


def encoding(threads: int) -> dict[str, float]:
    """IMDb cleaned and split, and then one fold's vocabulary and ids: seconds, and bytes over those of the ids."""
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


if __name__ == "__main__":
    answer({"step": step, "product": product, "encoding": encoding})
