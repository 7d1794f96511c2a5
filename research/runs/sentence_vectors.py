"""Compute the sentence vectors of a corpus by a frozen encoder: once for all runs, cached on disk."""

import functools
import importlib.metadata
import json
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from research.data.batches import choose_widths, evaluation_order, gather
from research.data.cache import LONG_CHARACTERS, cached
from research.data.corpora import Corpus
from research.data.pretrained_encoders import read_weights, weights_checksum
from research.data.tokenized_corpus import encode_corpus
from research.data.tokenizer import Encoded
from research.data.tokenizer_files import read_given_tokenizer
from research.models import build
from research.settings import Config, to_dict
from research.training.programs import jit_compiled
from research.training.step import in_dtype

_LOG = logging.getLogger("research")
_FORMAT = 1  # version of the cached vectors; raise it when the same settings give other values
_ROWS = 64  # of a batch; on CPU, more rows do not fit into the processor's cache
_WIDTH_COST = 7_000  # tokens that are encoded in the time of compiling for one more width


class SentenceVectors(NamedTuple):
    """The sentence vectors of all texts of a corpus."""

    values: np.ndarray  # float32 [N, D]
    seconds: float  # that it took to compute them, when they were not in the cache


OnEncoded = Callable[[float], None]  # called after each batch with the share of the texts that are encoded


def sentence_vectors(corpus: Corpus, config: Config, on_encoded: OnEncoded = lambda share: None) -> SentenceVectors:
    """Return the sentence vectors of all texts of a corpus.

    They depend on the encoder, its tokenizer and the texts, and not on folds, repeats, seeds or the classifier.

    Args:
      corpus: N texts.
      config: the settings of a variant whose module has `embed`.
      on_encoded: called while vectors are computed. If it raises an exception, nothing is kept.

    Raises:
      UserError: the encoder cannot be read, or does not fit the settings.
    """
    weights, dtype = config.data.weights, config.training.compute_dtype
    tokenizer = read_given_tokenizer(config.data).to_str(pretty=True)
    model = json.dumps(to_dict(config)["model"], sort_keys=True)
    versions = f"format {_FORMAT} jax {importlib.metadata.version('jax')} {jax.default_backend()}"
    made_from = f"{versions} {weights_checksum(weights)} {corpus.checksum} {model} {dtype} {tokenizer}"

    def make() -> dict[str, np.ndarray]:
        if sum(map(len, corpus.texts)) >= LONG_CHARACTERS:
            _LOG.warning("%s: encoding %s texts, once for all runs on this corpus", weights, f"{len(corpus):,}")
        start = time.perf_counter()
        vectors = _encode(config, encode_corpus(corpus, tokenizer), on_encoded)
        return {"vectors": vectors, "seconds": np.array(time.perf_counter() - start)}

    arrays = cached("sentence_vectors", made_from, make)
    return SentenceVectors(arrays["vectors"], float(arrays["seconds"]))


def _encode(config: Config, texts: Encoded, on_encoded: OnEncoded) -> np.ndarray:
    """Return the sentence vectors of N texts, float32 [N, D]. The shortest texts come first, to save padding."""
    module = build(config.model, vocab_size=config.data.vocab_size, num_outputs=1)
    variables = jax.device_put(in_dtype(_pretrained(module, config), config.training.compute_dtype))
    embed = jit_compiled(functools.partial(module.apply, method="embed"))
    widths, done = choose_widths(texts.lengths, most=12, cost=_WIDTH_COST), 0
    vectors = np.empty((len(texts.labels), config.model.hidden_size), np.float32)
    for index in evaluation_order(texts.lengths, _ROWS):
        batch = gather(texts, index, _ROWS, widths)
        vectors[index] = np.asarray(embed(variables, batch.token_ids, batch.lengths), np.float32)[: len(index)]
        done += len(index)
        on_encoded(done / len(texts.labels))
    return vectors


def _pretrained(module: nn.Module, config: Config) -> dict[str, Any]:
    """Return the constants of a module that has `embed`, with the weights of its encoder; `embed` reads no others."""
    ids, lengths = np.zeros((1, 2), np.int32), np.full(1, 2, np.int32)
    shapes = jax.eval_shape(functools.partial(module.init, deterministic=True), jax.random.key(0), ids, lengths)
    constants = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes["constants"])
    source = config.data.weights
    return {"constants": module.start_from(constants, read_weights(source), source)}
