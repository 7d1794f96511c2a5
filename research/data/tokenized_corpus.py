"""The tokens of a whole corpus, computed once and cached on disk, and the vocabulary of a run's training texts."""

import collections
import functools
import importlib.metadata
import itertools
from collections.abc import Iterable

import numpy as np

from research.data.cache import cached_of_texts
from research.data.corpora import Corpus
from research.data.tokenizer import (
    PADDING_ID,
    UNKNOWN_ID,
    Encoded,
    Interned,
    encode_texts,
    intern_texts,
    pipeline_text,
    read_tokenizer,
)
from research.data.tokenizer_files import read_given_tokenizer
from research.data.word_pieces import PADDING, UNKNOWN
from research.settings import Data, is_tokenizer_file

CHUNK_TEXTS = 10_000  # texts whose words are counted at a time


def tokenize_corpus(corpus: Corpus, data: Data) -> Interned | Encoded:
    """Return the words of a corpus or, with the tokenizer of an encoder or a file, its tokens."""
    if data.weights == "none" and not is_tokenizer_file(data.tokens):
        return intern_corpus(corpus, data)
    return encode_corpus(corpus, read_given_tokenizer(data).to_str(pretty=True))


def cut_sentence(corpus: Corpus, data: Data) -> str:
    """Say which share of the texts is cut at `data.max_length`; empty if that is hardly any."""
    tokens, most = tokenize_corpus(corpus, data), data.max_length
    # Pieces were cut already, together with the special tokens around them.
    share = np.mean(np.diff(tokens.offsets) > (most - isinstance(tokens, Encoded)))
    if share < 0.005:
        return ""
    return (
        f"{100 * share:.0f} % of the texts have more than data.max_length={most} tokens, "
        f"of which the {data.keep} {most} are read"
    )


def intern_corpus(corpus: Corpus, data: Data) -> Interned:
    """Return `intern_texts` of a corpus."""
    return _intern(corpus, data.tokens, data.lowercase, data.stop_words)


@functools.lru_cache(maxsize=4)
def _intern(corpus: Corpus, tokens: str, lowercase: bool, stop_words: str) -> Interned:
    data = Data(tokens=tokens, lowercase=lowercase, stop_words=stop_words)

    def make() -> dict[str, np.ndarray]:
        words, *arrays = intern_texts(corpus.texts, data)
        lines = "".join(f"{word}\n" for word in words).encode()  # no word contains white space
        return {"lines": np.frombuffer(lines, np.uint8), "tokens": arrays[0], "offsets": arrays[1]}

    arrays = cached_of_texts(corpus.texts, "words", f"{pipeline_text(data)} {corpus.checksum}", make)
    words = tuple(arrays["lines"].tobytes().decode().split("\n")[:-1])
    return Interned(words, arrays["tokens"], arrays["offsets"])


@functools.lru_cache(maxsize=4)
def encode_corpus(corpus: Corpus, tokenizer: str) -> Encoded:
    """Return all texts of a corpus as pieces of a tokenizer, given as its `tokenizer.json`."""

    def make() -> dict[str, np.ndarray]:
        encoded = encode_texts(read_tokenizer(tokenizer), corpus.texts, Data(tokens="pieces"))
        return {name: getattr(encoded, name) for name in ("tokens", "offsets", "labels")}

    made_from = f"format 2 {corpus.checksum} {tokenizer} {importlib.metadata.version('tokenizers')}"
    return Encoded(**cached_of_texts(corpus.texts, "pieces", made_from, make))


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
