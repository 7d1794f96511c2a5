"""Tokens on disk, and rows of them in the order of an epoch: what does not fit into memory is read as it is needed.

All texts stand end to end in one file. A row is two segments that follow each other there, or one. Segments are
filled with whole sentences, and go on from one text into the next, as RoBERTa's do (Liu et al. 2019, section 4.2),
where `across` says so: every token stands in exactly one row, and only a sentence longer than a segment is cut.

The only file that imports Grain.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.atomic_files import make_folder, whole_file
from research.data.tokenizer import Encoded
from research.data.unlabelled_texts import sentences
from research.data.word_pieces import Special
from research.errors import not_installed

_TEXTS = 1_000  # that are encoded at a time


class Stream(NamedTuple):
    """What lies on disk."""

    tokens: np.ndarray  # uint16 or int32 [total]
    # int64 [N, 4]: segment a is tokens[row[0]:row[1]], b tokens[row[1]:row[2]]; row[3]: one text goes on
    rows: np.ndarray


class Rows(NamedTuple):
    """B rows of L tokens; those that complete the last batch have length 0."""

    token_ids: np.ndarray  # int32 [B, L]
    segment_ids: np.ndarray  # int32 [B, L], 0 up to the [SEP] that ends segment a, then 1
    lengths: np.ndarray  # int32 [B]
    order: np.ndarray  # int32 [B]: 0 b follows a, 1 b is of another row, -1 nobody knows


def write_stream(
    folder: Path,
    texts: Iterable[str],
    encode: Callable[[Sequence[str]], Encoded],
    vocab_size: int,
    *,
    most: int,
    end: int | None,
) -> Stream:
    """Encodes texts into a folder, unless that was done.

    Args:
      folder: made where it does not exist.
      texts: read once.
      encode: texts -> token ids, without tokens around them.
      vocab_size: ids are below it.
      most: tokens of a segment.
      end: id that is put behind each text, which then consists of sentences, and rows of pairs of segments; None takes
        a text as one sentence and a segment as a row, and segments end with their text.
    """
    dtype = np.uint16 if vocab_size <= 1 << 16 else np.int32
    paths = folder / "tokens.bin", folder / "rows.bin"
    if not paths[1].exists():
        make_folder(folder)
        with whole_file(paths[1]) as rows, whole_file(paths[0]) as tokens:  # the rows are there last: then all is
            lengths = _write_tokens(tokens, texts, encode, dtype, end)
            segments = cut(lengths, most, across=end is not None)
            for row in pair(segments) if end is not None else ((a, b, b, 0) for a, b, _ in segments):
                rows.write(np.array(row, np.int64).tobytes())
    if not paths[1].stat().st_size:
        return Stream(np.empty(0, dtype), np.empty((0, 4), np.int64))
    return Stream(np.memmap(paths[0], dtype, "r"), np.memmap(paths[1], np.int64, "r").reshape(-1, 4))


def _write_tokens(
    file: Any, texts: Iterable[str], encode: Callable[[Sequence[str]], Encoded], dtype: type, end: int | None
) -> Iterator[tuple[int, bool]]:
    """Writes the tokens and yields `(length, whether it ends its text)` of each sentence."""
    texts = iter(texts)
    while some := list(itertools.islice(texts, _TEXTS)):
        parts = [[text] if end is None else sentences(text) for text in some]
        encoded, n = encode([sentence for of_text in parts for sentence in of_text]), 0
        for of_text in parts:
            for last in [False] * (len(of_text) - 1) + [True]:
                ids = encoded.tokens[encoded.offsets[n] : encoded.offsets[n + 1]]
                ids, n = np.append(ids, end) if last and end is not None else ids, n + 1
                file.write(ids.astype(dtype).tobytes())
                yield len(ids), last


def cut(lengths: Iterable[tuple[int, bool]], most: int, *, across: bool) -> Iterator[tuple[int, int, bool]]:
    """Yields segments of at most `most` tokens, as (begin, end, whether a text goes on behind it).

    Args:
      lengths: of sentences, and whether each is the last one of its text.
      most: at least 1.
      across: whether a segment may go on with the next text.
    """
    begin = end = 0
    goes_on = False
    for length, last in lengths:
        while length:
            part = min(length, most)
            if end > begin and (end - begin + part > most or not (across or goes_on)):
                yield begin, end, goes_on
                begin = end
            end, length, goes_on = end + part, length - part, True
        goes_on = goes_on and not last
    if end > begin:
        yield begin, end, False


def pair(segments: Iterable[tuple[int, int, bool]]) -> Iterator[tuple[int, int, int, int]]:
    """Every two segments as a row of `Stream`; an odd one stands alone."""
    segments = iter(segments)
    for begin, middle, goes_on in segments:
        _, end, _ = next(segments, (0, middle, False))
        yield begin, middle, end, int(goes_on and end > middle)


def fill_pairs(
    rows: Sequence[tuple[np.ndarray, np.ndarray, bool]],
    random: np.random.Generator,
    *,
    shape: tuple[int, int],
    start: int,
    end: int,
) -> Rows:
    """Rows [CLS] a [SEP] b [SEP]; of half of those whose b follows a, two by two, the b's are exchanged.

    So every token is read once an epoch, and as many rows are in order as are not (Devlin et al. 2019, section 3.1).

    Args:
      rows: at most B, each a and b (int [n]) and whether b follows a.
      random: decides for each two neighbours.
      shape: B, L.
      start: id of [CLS].
      end: id of [SEP]; those at the ends of segments are not written twice.
    """
    first, second = ([_trim(row[i], end) for row in rows] for i in (0, 1))
    found = _empty(shape)
    for i in range(0, len(rows) - 1, 2):
        if rows[i][2] and rows[i + 1][2]:
            exchanged = random.random() < 0.5
            found.order[i : i + 2] = exchanged
            if exchanged:
                second[i], second[i + 1] = second[i + 1], second[i]
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        ids = np.concatenate([[start], a, [end], b, [end] * (len(b) > 0)])
        found.token_ids[i, : len(ids)], found.lengths[i] = ids, len(ids)
        found.segment_ids[i, len(a) + 2 : len(ids)] = 1
    return found


def fill_single(rows: Sequence[tuple[np.ndarray, np.ndarray, bool]], *, shape: tuple[int, int]) -> Rows:
    """Rows of one segment each and nothing else."""
    found = _empty(shape)
    for i, (ids, _, _) in enumerate(rows):
        found.token_ids[i, : len(ids)], found.lengths[i] = ids, len(ids)
    return found


def _empty(shape: tuple[int, int]) -> Rows:
    token_ids, segment_ids = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    return Rows(token_ids, segment_ids, np.zeros(shape[0], np.int32), np.full(shape[0], -1, np.int32))


def _trim(ids: np.ndarray, end: int) -> np.ndarray:
    ids = ids[1:] if len(ids) and ids[0] == end else ids
    return ids[:-1] if len(ids) and ids[-1] == end else ids


class _Source:
    """A stream as Grain wants it."""

    def __init__(self, stream: Stream):
        self._stream = stream

    def __len__(self) -> int:
        return len(self._stream.rows)

    def __getitem__(self, n: int) -> tuple[np.ndarray, np.ndarray, bool]:
        begin, middle, end, goes_on = self._stream.rows[n].tolist()
        return self._stream.tokens[begin:middle], self._stream.tokens[middle:end], bool(goes_on)


def batches(
    stream: Stream,
    fill: Callable[..., Rows],
    batch_size: int,
    seed: int,
    *,
    epochs: int,
    shuffled: bool,
    taken: int = 0,
) -> Iterator[Rows]:
    """The batches of all epochs, each in an order of its own; a partial one ends each epoch.

    Args:
      stream: of at least one row.
      fill: `fill_pairs` or `fill_single`, of the rows of a batch and a generator that is seeded for it.
      batch_size: rows of a batch.
      seed: of the order and of what `fill` draws.
      epochs: how many.
      shuffled: False reads from front to back.
      taken: batches that are passed over.

    Raises:
      UserError: Grain is not installed.
    """
    try:
        import grain
    except ImportError:
        raise not_installed("pretrain", "grain", "pretrain") from None
    dataset = grain.MapDataset.source(_Source(stream)).seed(seed)
    dataset = dataset.shuffle() if shuffled else dataset
    dataset = dataset.batch(batch_size, batch_fn=list).random_map(fill).repeat(epochs)[taken:]
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)))


def rows_of(objective: str, shape: tuple[int, int], special: Special | None) -> Callable[..., Rows]:
    """What fills the rows of an objective, as `batches` wants it; `special` where it is "masked"."""
    if objective == "masked":
        return functools.partial(fill_pairs, shape=shape, start=special.start, end=special.end)
    return lambda rows, random: fill_single(rows, shape=shape)
