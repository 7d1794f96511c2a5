"""Which texts a run has seen, as fingerprints: enough to find equal and nearly equal texts, whatever file they came
from, and not enough to read them.

Texts are *equal* if they have the same words in the same order, whatever their case, punctuation and white space. They
are *near copies* if about nine tenths of their different words are common to both (Jaccard). MinHash tells that (Broder
1997, "On the resemblance and containment of documents"): in a random order of all words, the chance that two texts
begin with the same word is the share of their words that is common. Of 12 such orders 16 bits of the first word are
kept (Li & König 2010, "b-bit minwise hashing").
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
# 33 bytes a text: a hash of its words in their order, a sketch of them (zeros: too few), and whether it was trained on,
# or only chose an epoch.
SEEN = np.dtype([("words", "<u8"), ("sketch", "<u2", _ORDERS), ("trained", "?")])
WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")  # a Chinese character, or a word
_AGREE = 10  # of the orders, for near copies
_LEASTWORDS = 10  # in fewer, one other word may mean another thing
_FORMAT = 1  # of the fingerprints
_CHUNK = 100_000  # texts at a time
_MOST_CANDIDATES = 200  # for one text; of texts made from a template, some pairs are passed over


def fingerprints(texts: Iterable[str], *, trained: bool) -> np.ndarray:
    """Return the fingerprints of texts, `SEEN` [N]; `trained` says whether they are trained on."""
    return np.concatenate([nothing(), *in_chunks(texts, trained=trained)])


def in_chunks(texts: Iterable[str], *, trained: bool) -> Iterator[np.ndarray]:
    """Yield `fingerprints` piece by piece; the texts need not fit into memory."""
    left = iter(texts)
    while chunk := list(itertools.islice(left, _CHUNK)):
        found = _of_chunk(chunk)
        found["trained"] = trained
        yield found


def nothing() -> np.ndarray:
    """Return the fingerprints of no texts."""
    return np.empty(0, SEEN)


def seen_of(corpus: Corpus, train: np.ndarray, validation: np.ndarray) -> np.ndarray:
    """Return the fingerprints of a run's training and validation texts, given as indices int [n] into a corpus."""
    every = of_corpus(corpus)
    trained = every[train]
    trained["trained"] = True
    return np.concatenate([trained, every[validation]])


def of_corpus(corpus: Corpus) -> np.ndarray:
    """Return the fingerprints of all texts of a corpus, with `trained` false; they are computed once a process."""
    return _of_corpus(corpus).copy()


@functools.lru_cache(maxsize=4)
def _of_corpus(corpus: Corpus) -> np.ndarray:
    made_from = f"format {_FORMAT} {corpus.checksum}"
    return cached_of_texts(
        corpus.texts, "seen", made_from, lambda: {"seen": fingerprints(corpus.texts, trained=False)}
    )["seen"]


def _of_chunk(texts: Sequence[str]) -> np.ndarray:
    result = np.zeros(len(texts), SEEN)
    vocabulary: dict[str, int] = {}
    flat: list[int] = []
    lengths = []
    for row, text in enumerate(texts):
        words = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
        result["words"][row] = _hash(" ".join(words) or text)  # without words (an emoji), equal texts alone are alike
        flat += [vocabulary.setdefault(word, len(vocabulary)) for word in words]
        lengths.append(len(words) if len(set(words)) >= _LEASTWORDS else 0)
        if not lengths[-1] and words:
            del flat[-len(words) :]
    long = np.flatnonzero(lengths)
    if not len(long):
        return result
    hashes = np.array([_hash(word) for word in vocabulary], np.uint64)
    starts = np.cumsum([0, *np.array(lengths)[long]])[:-1]
    for order in range(_ORDERS):
        places = hashes * np.uint64(_hash(f"multiplier {order}") | 1) + np.uint64(_hash(f"shift {order}"))
        first = np.minimum.reduceat(places[flat], starts)
        result["sketch"][long, order] = (first >> np.uint64(24)) & np.uint64(0xFFFF)
    return result


def _hash(text: str) -> int:
    """Return the first 64 bits of a text's SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "little")


def matches(texts: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the texts that have been seen, exactly or nearly.

    Args:
      texts: fingerprints [N].
      seen: fingerprints [M], perhaps of a file that is mapped into memory.

    Returns:
      `(equal bool [N], near bool [N])`; a text is never both.
    """
    equal, near = np.zeros(len(texts), bool), np.zeros(len(texts), bool)
    for start in range(0, len(seen), _CHUNK):
        chunk = seen[start : start + _CHUNK]
        equal |= np.isin(texts["words"], chunk["words"])
        near |= _near(texts, chunk)
    return equal, near & ~equal


def _near(texts: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return which texts have a near copy, bool [N].

    Near copies differ in at most 2 of 12 places, so at least one of the 3 blocks of 4 places is the same in both: only
    texts that share a block are compared.
    """
    result = np.zeros(len(texts), bool)
    ours, theirs = np.ascontiguousarray(texts["sketch"]), np.ascontiguousarray(seen["sketch"])
    rows = np.flatnonzero(ours.any(axis=1))
    for our_block, their_block in zip(ours.view("<u8").T, theirs.view("<u8").T, strict=True):
        order = np.argsort(their_block, kind="stable")
        low = np.searchsorted(their_block[order], our_block[rows], "left")
        high = np.searchsorted(their_block[order], our_block[rows], "right")
        for mine, other in _pairs(rows, low, np.minimum(high, low + _MOST_CANDIDATES)):
            agree = (ours[mine] == theirs[order[other]]).sum(axis=1) >= _AGREE
            result[mine[agree]] = True
    return result


def _pairs(rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, in pieces, each row beside each number from its low to its high."""
    for start in range(0, len(rows), 10_000):
        piece = slice(start, start + 10_000)
        count = high[piece] - low[piece]
        before = np.repeat(np.cumsum(count) - count, count)
        yield np.repeat(rows[piece], count), np.repeat(low[piece], count) + np.arange(count.sum()) - before
