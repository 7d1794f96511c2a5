"""Record which texts a run has seen, as fingerprints that identify equal and nearly equal texts but cannot be read.

Texts are *equal* if they have the same words in the same order; case, punctuation and white space are ignored. They are
*near copies* if they share about 90 % of their different words (Jaccard similarity). MinHash estimates this share
(Broder 1997, "On the resemblance and containment of documents"): in a random order of all words, two texts have the
same first word with a probability equal to their similarity. A fingerprint keeps 16 bits of the first word in each of
12 such orders (Li & König 2010, "b-bit minwise hashing").
"""

import functools
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from research.data.cache import cached_of_texts
from research.data.corpora import Corpus

_ORDERS = 12
# 33 bytes a text: a hash of its words in order, a sketch for near copies (zeros if the words are too few), and whether
# the text was trained on or only used for early stopping.
FINGERPRINT = np.dtype([("words", "<u8"), ("sketch", "<u2", _ORDERS), ("trained", "?")])
WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")  # a Chinese character, or a word
_MIN_AGREEING = 10  # orders with equal sketches that make a near copy
_MIN_WORDS = 10  # in shorter texts, one different word may change the meaning
_FORMAT = 1  # version of the cached fingerprints
CHUNK = 100_000  # texts processed at a time
_MAX_CANDIDATES = 200  # compared for one text, to bound the time for texts made from a template


def fingerprint_texts(texts: Iterable[str], *, trained: bool) -> np.ndarray:
    """Return the fingerprints of texts, `FINGERPRINT` [N]; `trained` says whether a run trains on them."""
    return np.concatenate([no_fingerprints(), *fingerprint_chunks(texts, trained=trained)])


def fingerprint_chunks(texts: Iterable[str], *, trained: bool) -> Iterator[np.ndarray]:
    """Yield fingerprints in chunks; the texts need not fit into memory."""
    remaining = iter(texts)
    while chunk := list(itertools.islice(remaining, CHUNK)):
        prints = _fingerprint(chunk)
        prints["trained"] = trained
        yield prints


def no_fingerprints() -> np.ndarray:
    """Return an empty array of fingerprints."""
    return np.empty(0, FINGERPRINT)


def fingerprint_run(corpus: Corpus, train: np.ndarray, validation: np.ndarray) -> np.ndarray:
    """Return the fingerprints of a run's training and validation texts, given as indices int [n] into a corpus."""
    prints = fingerprint_corpus(corpus)
    trained = prints[train]
    trained["trained"] = True
    return np.concatenate([trained, prints[validation]])


def fingerprint_corpus(corpus: Corpus) -> np.ndarray:
    """Return the fingerprints of all texts in a corpus, with `trained` false; they are computed once."""
    return _cached_fingerprints(corpus).copy()


@functools.lru_cache(maxsize=4)
def _cached_fingerprints(corpus: Corpus) -> np.ndarray:
    def make() -> dict[str, np.ndarray]:
        return {"seen": fingerprint_texts(corpus.texts, trained=False)}

    return cached_of_texts(corpus.texts, "seen", f"format {_FORMAT} {corpus.checksum}", make)["seen"]


def _fingerprint(texts: Sequence[str]) -> np.ndarray:
    prints = np.zeros(len(texts), FINGERPRINT)
    vocabulary: dict[str, int] = {}
    flat: list[int] = []
    lengths = []
    for row, text in enumerate(texts):
        words = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
        prints["words"][row] = _hash(" ".join(words) or text)  # texts without words (an emoji) must be equal
        words = words if len(set(words)) >= _MIN_WORDS else []
        flat += [vocabulary.setdefault(word, len(vocabulary)) for word in words]
        lengths.append(len(words))
    long = np.flatnonzero(lengths)
    if not len(long):
        return prints
    hashes = np.array([_hash(word) for word in vocabulary], np.uint64)
    starts = np.cumsum([0, *np.array(lengths)[long]])[:-1]
    for order in range(_ORDERS):
        ranks = hashes * np.uint64(_hash(f"multiplier {order}") | 1) + np.uint64(_hash(f"shift {order}"))
        first = np.minimum.reduceat(ranks[flat], starts)
        prints["sketch"][long, order] = (first >> np.uint64(24)) & np.uint64(0xFFFF)
    return prints


def _hash(text: str) -> int:
    """Return the first 64 bits of a text's SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "little")


def find_matches(texts: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the texts that are equal to seen texts, or near copies of them.

    Args:
      texts: fingerprints [N].
      seen: fingerprints [M]; a memory-mapped file is possible.

    Returns:
      `(equal bool [N], near bool [N])`; no text is both.
    """
    equal, near = np.zeros(len(texts), bool), np.zeros(len(texts), bool)
    for start in range(0, len(seen), CHUNK):
        chunk = seen[start : start + CHUNK]
        equal |= np.isin(texts["words"], chunk["words"])
        near |= _near(texts, chunk)
    return equal, near & ~equal


def _near(texts: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return which texts have a near copy, bool [N].

    Near copies differ in at most 2 of 12 sketches, so one of the 3 groups of 4 sketches is equal in both. Only texts
    with an equal group are compared.
    """
    result = np.zeros(len(texts), bool)
    ours, theirs = np.ascontiguousarray(texts["sketch"]), np.ascontiguousarray(seen["sketch"])
    rows = np.flatnonzero(ours.any(axis=1))
    for our_four, their_four in zip(ours.view("<u8").T, theirs.view("<u8").T, strict=True):
        order = np.argsort(their_four, kind="stable")
        low = np.searchsorted(their_four[order], our_four[rows], "left")
        high = np.searchsorted(their_four[order], our_four[rows], "right")
        for mine, other in _pairs(rows, low, np.minimum(high, low + _MAX_CANDIDATES)):
            is_copy = (ours[mine] == theirs[order[other]]).sum(axis=1) >= _MIN_AGREEING
            result[mine[is_copy]] = True
    return result


def _pairs(rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs (row, number) for each number from the row's `low` up to its `high`, as arrays in pieces."""
    for start in range(0, len(rows), 10_000):
        piece = slice(start, start + 10_000)
        count = high[piece] - low[piece]
        before = np.repeat(np.cumsum(count) - count, count)
        yield np.repeat(rows[piece], count), np.repeat(low[piece], count) + np.arange(count.sum()) - before
