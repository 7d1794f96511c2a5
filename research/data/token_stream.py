"""Write the tokens of texts to disk, and read them back as shuffled batches of rows; they need not fit into memory.

All texts are written one after another into one file. A row is one segment of that file, or two consecutive segments.
Segments contain whole sentences; only a sentence longer than a segment is cut. With `across`, a segment may continue
into the next text, as in RoBERTa (Liu et al. 2019, section 4.2). Every token is in exactly one row.

This is the only file that imports Grain.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.atomic_files import make_folder, whole_file
from research.data.tokenizer import Encoded
from research.data.unlabelled_texts import split_sentences
from research.data.word_pieces import Special
from research.errors import not_installed

_CHUNK_TEXTS = 1_000  # texts encoded at a time


class Stream(NamedTuple):
    """Tokens and rows on disk, mapped into memory."""

    tokens: np.ndarray  # uint16 or int32 [total]
    # int64 [N, 4]: (begin, middle, end, continues). Segment a is tokens[begin:middle], b is tokens[middle:end];
    # `continues` is 1 if the text of a continues in b.
    rows: np.ndarray


class Rows(NamedTuple):
    """A batch of B rows of L tokens; filler rows have length 0."""

    token_ids: np.ndarray  # int32 [B, L]
    segment_ids: np.ndarray  # int32 [B, L], 0 up to the [SEP] that ends segment a, then 1
    lengths: np.ndarray  # int32 [B]
    order: np.ndarray  # int32 [B]: 0 if b follows a, 1 if b is from another row, -1 if unknown


def write_stream(
    folder: Path,
    texts: Iterable[str],
    encode: Callable[[Sequence[str]], Encoded],
    vocab_size: int,
    *,
    most: int,
    end: int | None,
) -> Stream:
    """Encode texts and write them into a folder, unless the folder has them already.

    Args:
      folder: created if it does not exist.
      texts: the texts, read once.
      encode: texts -> token ids, without special tokens around them.
      vocab_size: all ids are below it.
      most: maximum number of tokens in a segment.
      end: id written after each text; texts are split into sentences, and a row has two segments. None: a text is one
        sentence, a row is one segment, and segments end with their text.
    """
    dtype = np.uint16 if vocab_size <= 1 << 16 else np.int32
    paths = folder / "tokens.bin", folder / "rows.bin"
    if not paths[1].exists():
        make_folder(folder)
        # The file of rows is renamed last, so it marks a complete stream.
        with whole_file(paths[1]) as rows, whole_file(paths[0]) as tokens:
            lengths = _write_tokens(tokens, texts, encode, dtype, end)
            segments = cut_segments(lengths, most, across=end is not None)
            single_rows = ((begin, stop, stop, 0) for begin, stop, _ in segments)
            for row in single_rows if end is None else pair_segments(segments):
                rows.write(np.array(row, np.int64).tobytes())
    if not paths[1].stat().st_size:
        return Stream(np.empty(0, dtype), np.empty((0, 4), np.int64))
    return Stream(np.memmap(paths[0], dtype, "r"), np.memmap(paths[1], np.int64, "r").reshape(-1, 4))


def _write_tokens(
    file: Any, texts: Iterable[str], encode: Callable[[Sequence[str]], Encoded], dtype: type, end: int | None
) -> Iterator[tuple[int, bool]]:
    """Write the tokens, and yield `(length, whether it ends its text)` for each sentence."""
    texts = iter(texts)
    while chunk := list(itertools.islice(texts, _CHUNK_TEXTS)):
        sentences_of = [[text] if end is None else split_sentences(text) for text in chunk]
        encoded = encode(list(itertools.chain.from_iterable(sentences_of)))
        last_sentences = set(np.cumsum([len(sentences) for sentences in sentences_of]) - 1)
        for n in range(len(encoded.labels)):
            ids = encoded.tokens[encoded.offsets[n] : encoded.offsets[n + 1]]
            if n in last_sentences and end is not None:
                ids = np.append(ids, end)
            file.write(ids.astype(dtype).tobytes())
            yield len(ids), n in last_sentences


def cut_segments(lengths: Iterable[tuple[int, bool]], most: int, *, across: bool) -> Iterator[tuple[int, int, bool]]:
    """Yield segments of at most `most` tokens, as (begin, end, whether its last text continues after it).

    Args:
      lengths: the length of each sentence, and whether it is the last of its text.
      most: maximum number of tokens, at least 1.
      across: whether a segment may continue with the next text.
    """
    begin = end = 0
    continues = False
    for length, last in lengths:
        while length:
            part = min(length, most)
            if end > begin and (end - begin + part > most or not (across or continues)):
                yield begin, end, continues
                begin = end
            end, length, continues = end + part, length - part, True
        continues = continues and not last
    if end > begin:
        yield begin, end, False


def pair_segments(segments: Iterable[tuple[int, int, bool]]) -> Iterator[tuple[int, int, int, int]]:
    """Yield two segments at a time as a row of `Stream`; the last row may have only one."""
    segments = iter(segments)
    for begin, middle, continues in segments:
        _, end, _ = next(segments, (0, middle, False))
        yield begin, middle, end, int(continues and end > middle)


def fill_pairs(
    rows: Sequence[tuple[np.ndarray, np.ndarray, bool]],
    random: np.random.Generator,
    *,
    shape: tuple[int, int],
    start: int,
    end: int,
) -> Rows:
    """Return rows [CLS] a [SEP] b [SEP]; half of them, chosen at random, have the b of a neighbouring row.

    Two neighbours exchange their b's if b follows a in both. Every token is still read once an epoch, and as many rows
    are in order as out of order (Devlin et al. 2019, section 3.1).

    Args:
      rows: at most B rows (a int [n], b int [n], whether b follows a).
      random: decides for each pair of neighbours.
      shape: (B, L).
      start: id of [CLS].
      end: id of [SEP]; if a segment starts or ends with one, it is not written twice.
    """
    first, second = ([_trim(row[i], end) for row in rows] for i in (0, 1))
    filled = _empty_rows(shape)
    for i in range(0, len(rows) - 1, 2):
        if rows[i][2] and rows[i + 1][2]:
            exchanged = random.random() < 0.5
            filled.order[i : i + 2] = exchanged
            if exchanged:
                second[i], second[i + 1] = second[i + 1], second[i]
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        ids = np.concatenate([[start], a, [end], b, [end] * (len(b) > 0)])
        filled.token_ids[i, : len(ids)], filled.lengths[i] = ids, len(ids)
        filled.segment_ids[i, len(a) + 2 : len(ids)] = 1
    return filled


def fill_single(rows: Sequence[tuple[np.ndarray, np.ndarray, bool]], *, shape: tuple[int, int]) -> Rows:
    """Return rows of one segment each, without special tokens."""
    filled = _empty_rows(shape)
    for i, (ids, _, _) in enumerate(rows):
        filled.token_ids[i, : len(ids)], filled.lengths[i] = ids, len(ids)
    return filled


def _empty_rows(shape: tuple[int, int]) -> Rows:
    token_ids, segment_ids = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    return Rows(token_ids, segment_ids, np.zeros(shape[0], np.int32), np.full(shape[0], -1, np.int32))


def _trim(ids: np.ndarray, end: int) -> np.ndarray:
    ids = ids[1:] if len(ids) and ids[0] == end else ids
    return ids[:-1] if len(ids) and ids[-1] == end else ids


class _Source:
    """A stream as a random-access data source for Grain."""

    def __init__(self, stream: Stream):
        self._stream = stream

    def __len__(self) -> int:
        return len(self._stream.rows)

    def __getitem__(self, n: int) -> tuple[np.ndarray, np.ndarray, bool]:
        begin, middle, end, continues = self._stream.rows[n].tolist()
        return self._stream.tokens[begin:middle], self._stream.tokens[middle:end], bool(continues)


def read_batches(
    stream: Stream,
    fill: Callable[..., Rows],
    batch_size: int,
    seed: int,
    *,
    epochs: int,
    shuffled: bool,
    taken: int = 0,
) -> Iterator[Rows]:
    """Yield the batches of all epochs; each epoch has its own order, and its last batch may be partial.

    Args:
      stream: a stream with at least one row.
      fill: (rows of a batch, seeded random generator) -> batch; see `make_row_filler`.
      batch_size: rows in a batch.
      seed: seed of the order and of the generators for `fill`.
      epochs: number of epochs.
      shuffled: whether to shuffle; False reads in the order of the file.
      taken: number of batches to skip.

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


def make_row_filler(objective: str, shape: tuple[int, int], special: Special | None) -> Callable[..., Rows]:
    """Return the function that fills rows for an objective; "masked" needs the `special` ids."""
    if objective == "masked":
        return functools.partial(fill_pairs, shape=shape, start=special.start, end=special.end)
    return lambda rows, random: fill_single(rows, shape=shape)
