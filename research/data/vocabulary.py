"""Fit the vocabulary of a model: the most frequent words of its training texts."""

import collections
import itertools
from collections.abc import Iterable

import numpy as np

from research.data.tokenizer import PADDING_ID, UNKNOWN_ID, Interned, intern_texts
from research.data.word_pieces import PADDING, UNKNOWN
from research.settings import Data

CHUNK_TEXTS = 10_000  # texts whose words are counted at a time


def fit_vocabulary(interned: Interned, train: np.ndarray, size: int) -> dict[str, int]:
    """Return a vocabulary of the most frequent words in the training texts; ties are sorted by word.

    Args:
      interned: the corpus.
      train: int [n], indices of the training texts.
      size: maximum number of entries, including padding and unknown.

    Returns:
      word -> id; padding is 0, unknown is 1, and the most frequent word is 2.
    """
    count = np.zeros(len(interned.words), np.int64)
    for n in train:
        np.add.at(count, interned.tokens[interned.offsets[n] : interned.offsets[n + 1]], 1)
    return _keep_most_frequent(zip(interned.words, count.tolist(), strict=True), size)


def learn_vocabulary(texts: Iterable[str], data: Data) -> dict[str, int]:
    """Return the vocabulary that `fit_vocabulary` would fit, for texts that need not fit into memory."""
    counts: collections.Counter[str] = collections.Counter()
    texts = iter(texts)
    while chunk := list(itertools.islice(texts, CHUNK_TEXTS)):
        interned = intern_texts(chunk, data)
        frequencies = np.bincount(interned.tokens, minlength=len(interned.words)).tolist()
        counts.update(dict(zip(interned.words, frequencies, strict=True)))
    return _keep_most_frequent(counts.items(), data.vocab_size)


def _keep_most_frequent(counts: Iterable[tuple[str, int]], size: int) -> dict[str, int]:
    by_frequency = sorted((-count, word) for word, count in counts if count)
    vocabulary = {PADDING: PADDING_ID, UNKNOWN: UNKNOWN_ID}
    for _, word in by_frequency[: size - len(vocabulary)]:
        vocabulary[word] = len(vocabulary)
    return vocabulary
