"""Read pretrained word vectors, GloVe or the user's file, for the words of a corpus."""

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

_LOCK = threading.Lock()  # several threads may need the same vectors; only one of them should read the file
# Vector files split contractions as the Penn Treebank does: "isn't" is "is" and "n't", "film's" is "film" and "'s".
_CONTRACTION = re.compile(r"(.+?)(n't|'[^']+)")


class Vectors(NamedTuple):
    """Words and their vectors."""

    row: dict[str, int]  # word -> its row
    values: np.ndarray  # float32 [M, D]
    commonest: tuple[str, ...]  # the first words of the source, which sorts them by frequency


def read_vectors(source: str, words: tuple[str, ...], commonest: int = 0) -> Vectors:
    """Return the vectors of all `words` that the source contains; a contraction gets the mean of its pieces.

    Args:
      source: "glove" (6B tokens, 50 dimensions; Pennington et al. 2014), or a text file. Each line has a word and its
        numbers, separated by blanks: GloVe's `.txt`, or `.vec` of word2vec and fastText, whose first line has sizes.
      words: the words of the corpus.
      commonest: how many of the source's most frequent words to read in addition.

    Raises:
      UserError: the file does not exist, or a line does not have as many numbers as the first one.
    """
    with _LOCK:
        return _read(source, words, commonest, vectors_checksum(source))


def vectors_checksum(source: str) -> str:
    """Return the SHA-256 of the vector file, or of the package of known vectors.

    Raises:
      UserError: the file does not exist, or is neither `.txt` nor `.vec`.
    """
    if source == "glove":
        return ASSETS[source].sha256
    path = Path(source)
    if path.suffix not in (".txt", ".vec") or not path.is_file():
        raise UserError(f"config.data.vectors is {source!r}, expected none, glove, or an existing .txt or .vec file")
    return file_checksum(path)


@functools.lru_cache(maxsize=2)
def _read(source: str, words: tuple[str, ...], commonest: int, checksum: str) -> Vectors:
    pieces = {word: match.groups() for word in words if (match := _CONTRACTION.fullmatch(word))}
    wanted = {*words, *(piece for pair in pieces.values() for piece in pair)}
    entries = _read_glove(wanted, commonest) if source == "glove" else _read_file(Path(source), wanted, commonest)
    vectors = dict(entries)
    first = tuple(itertools.islice(vectors, commonest))
    for word, pair in pieces.items():
        if word not in vectors and all(piece in vectors for piece in pair):
            vectors[word] = np.mean([vectors[piece] for piece in pair], axis=0)
    if vectors.keys().isdisjoint(words):
        raise UserError(f"{source}: has no vector for any word of the corpus, expected some")
    row = {word: row for row, word in enumerate(vectors)}
    return Vectors(row, np.stack(list(vectors.values())).astype(np.float32), first)


def _read_glove(wanted: set[str], commonest: int) -> Iterator[tuple[str, np.ndarray]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise not_installed("config.data.vectors=glove", "pyarrow", "vectors") from None
    values, index = fetch("glove")
    rows = np.load(values, mmap_mode="r")
    for row, word in enumerate(parquet.read_table(index)["index"].to_pylist()):
        if row < commonest or word in wanted:
            yield word, rows[row]


def _read_file(path: Path, wanted: set[str], commonest: int) -> Iterator[tuple[str, np.ndarray]]:
    size, seen = None, set()
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip().split(b" ")
            if number == 1 and len(fields) == 2:  # word2vec starts with the numbers of words and of dimensions
                continue
            size = size or len(fields) - 1
            if len(fields) - 1 < size or size < 1:
                raise UserError(f"{path}:{number}: has {len(fields) - 1} numbers, expected a word and {size or 'some'}")
            # Count from the right, because a word may contain blanks.
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
    """Fill the unused entries of a vocabulary with the most frequent words of pretrained vectors.

    A word that occurs in no training text is then known by its vector, as in Kim (2014).

    Args:
      vocabulary: word -> id, from the training texts.
      vectors: vectors with at least `size` commonest words, or with all words of their source.
      size: maximum number of entries.

    Returns:
      word -> id; the words of `vocabulary` keep their ids.
    """
    new = [word for word in vectors.commonest if word not in vocabulary][: size - len(vocabulary)]
    return vocabulary | {word: number for number, word in enumerate(new, len(vocabulary))}


def embedding_rows(vectors: Vectors, vocabulary: dict[str, int], vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of an embedding that have a pretrained vector.

    Args:
      vectors: the pretrained vectors.
      vocabulary: word -> id.
      vocab_size: number of rows of the embedding.

    Returns:
      `(values float32 [vocab_size, D], has_vector bool [vocab_size])`; rows without a vector are zero.
    """
    values = np.zeros((vocab_size, vectors.values.shape[1]), np.float32)
    has_vector = np.zeros(vocab_size, bool)
    for word, token in vocabulary.items():
        if (row := vectors.row.get(word)) is not None:
            values[token], has_vector[token] = vectors.values[row], True
    return values, has_vector
