"""Pretrained word vectors: GloVe, or a file of the user's own, for the words of one corpus."""

import functools
import itertools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from research.data.assets import ASSETS, fetch
from research.data.cache import file_checksum
from research.errors import UserError, not_installed

_LOCK = threading.Lock()  # runs side by side ask for the same vectors at once; one of them reads
# "isn't", "film's": such files hold the pieces of the Penn Treebank, "is" and "n't", "film" and "'s".
_CONTRACTION = re.compile(r"(.+?)(n't|'[^']+)")


class Vectors(NamedTuple):
    """Vectors of words."""

    row: dict[str, int]  # word -> its row
    values: np.ndarray  # float32 [M, D]
    commonest: tuple[str, ...]  # the words that stand first in the source, which lists them by frequency


def read_vectors(source: str, words: tuple[str, ...], commonest: int = 0) -> Vectors:
    """The vectors of those of `words` that the source has; a contraction is the mean of its pieces.

    Args:
      source: "glove" (6B tokens, 50 numbers; Pennington et al. 2014), or a text file with a word and its numbers a
        line, separated by blanks: GloVe's `.txt`, or word2vec's and fastText's `.vec` with its first line of sizes.
      words: of the corpus.
      commonest: how many words from the top of the source are read besides.

    Raises:
      UserError: no such file, or a line that is not a word with as many numbers as the first one has.
    """
    with _LOCK:
        return _read(source, words, commonest, vectors_checksum(source))


def vectors_checksum(source: str) -> str:
    """SHA-256 of what the vectors are read from.

    Raises:
      UserError: it is no file.
    """
    if source == "glove":
        return ASSETS[source].sha256
    path = Path(source)
    if path.suffix not in (".txt", ".vec") or not path.is_file():
        raise UserError(
            f"config.data.vectors is {source!r}, expected none, glove, or a .txt or .vec file that is there"
        )
    return file_checksum(path)


@functools.lru_cache(maxsize=2)
def _read(source: str, words: tuple[str, ...], commonest: int, checksum: str) -> Vectors:
    pieces = {word: match.groups() for word in words if (match := _CONTRACTION.fullmatch(word))}
    wanted = {*words, *(piece for pair in pieces.values() for piece in pair)}
    found = dict(_glove(wanted, commonest) if source == "glove" else _text_file(Path(source), wanted, commonest))
    first = tuple(itertools.islice(found, commonest))
    for word, pair in pieces.items():
        if word not in found and all(piece in found for piece in pair):
            found[word] = np.mean([found[piece] for piece in pair], axis=0)
    if found.keys().isdisjoint(words):
        raise UserError(f"{source}: has a vector of no word of the corpus, expected some")
    row = {word: row for row, word in enumerate(found)}
    return Vectors(row, np.stack(list(found.values())).astype(np.float32), first)


def _glove(wanted: set[str], commonest: int) -> Iterator[tuple[str, np.ndarray]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise not_installed("config.data.vectors=glove", "pyarrow", "vectors") from None
    values, index = fetch("glove")
    rows = np.load(values, mmap_mode="r")
    for row, word in enumerate(parquet.read_table(index)["index"].to_pylist()):
        if row < commonest or word in wanted:
            yield word, rows[row]


def _text_file(path: Path, wanted: set[str], commonest: int) -> Iterator[tuple[str, np.ndarray]]:
    size, seen = None, set()
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip().split(b" ")
            if number == 1 and len(fields) == 2:  # word2vec's first line: how many words, how many numbers
                continue
            size = size or len(fields) - 1
            if len(fields) - 1 < size or size < 1:
                raise UserError(f"{path}:{number}: has {len(fields) - 1} numbers, expected a word and {size or 'some'}")
            # From the right, because a word may have blanks in it.
            word = b" ".join(fields[:-size]).decode("utf-8", "replace")
            if word in seen or (len(seen) >= commonest and word not in wanted):
                continue
            try:
                vector = np.array([float(field) for field in fields[-size:]], np.float32)
            except ValueError as error:
                raise UserError(f"{path}:{number}: {error}, expected a word and {size} numbers") from None
            if not np.isfinite(vector).all():
                raise UserError(f"{path}:{number}: a number is not finite, expected a word and {size} numbers")
            seen.add(word)
            yield word, vector


def extend_vocabulary(vocabulary: dict[str, int], vectors: Vectors, size: int) -> dict[str, int]:
    """The words of training texts, and in the entries that they leave the commonest of the vectors.

    A word that no training text has is then known by its vector, as in Kim (2014).

    Args:
      vocabulary: word -> id, of training texts.
      vectors: with at least `size` commonest words, or all of theirs.
      size: most entries.

    Returns:
      word -> id; those of `vocabulary` keep theirs.
    """
    new = [word for word in vectors.commonest if word not in vocabulary][: size - len(vocabulary)]
    return vocabulary | {word: number for number, word in enumerate(new, len(vocabulary))}


def embedding_rows(vectors: Vectors, vocabulary: dict[str, int], vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of an embedding that the vectors give.

    Args:
      vectors: of the corpus.
      vocabulary: word -> id.
      vocab_size: rows of the embedding.

    Returns:
      `(values float32 [vocab_size, D], found bool [vocab_size])`; zeros where a word has no vector.
    """
    values = np.zeros((vocab_size, vectors.values.shape[1]), np.float32)
    found = np.zeros(vocab_size, bool)
    for word, token in vocabulary.items():
        if (row := vectors.row.get(word)) is not None:
            values[token], found[token] = vectors.values[row], True
    return values, found
