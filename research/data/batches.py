"""Batches of texts of similar length, padded to one of a few widths.

The composition of the batches is a function of the training lengths, the seed and the epoch; the width that a batch is
padded to changes nothing but the work. No example is dropped: filler rows of weight 0 complete the last batch.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from research.data.tokenizer import PADDING_ID, Encoded

# Compiling for another width takes about as long as this many padded tokens in each of ten epochs; where a model passes
# over padding (`skips_padding`), padded tokens cost little more than room, and in a pretrained encoder far more.
WIDTH_COST, WIDTH_COST_SKIPPING, WIDTH_COST_PRETRAINED = 15_000, 375_000, 2_000
_POOL = 50  # batches that are sorted by length together: long enough to save padding, short enough to stay shuffled


class Batch(NamedTuple):
    """One padded batch; filler rows have length 0 and weight 0."""

    token_ids: np.ndarray  # int32 [B, W]
    lengths: np.ndarray  # int32 [B]
    labels: np.ndarray  # int32 [B]
    weights: np.ndarray  # float32 [B]


def choose_widths(lengths: np.ndarray, most: int = 4, multiple: int = 8, cost: int = WIDTH_COST) -> tuple[int, ...]:
    """The padded widths that make the least work of these lengths, compilation included.

    Args:
      lengths: int [N].
      most: how many widths at most; each is one compiled program.
      multiple: widths are rounded up to it, but for the last, which is the longest length.
      cost: of another width, in padded tokens an epoch.

    Returns:
      ascending widths; the last is at least the longest length.
    """
    rounded = np.maximum(1, -(-lengths // multiple)) if len(lengths) else np.ones(1, int)
    sizes, counts = np.unique(rounded, return_counts=True)
    cumulative = np.concatenate([[0], np.cumsum(counts)])
    # best[k][j]: least padded tokens of the first j sizes with k widths; choice: where the last of them starts.
    best, choice = [[0.0] + [np.inf] * len(sizes)], [[0] * (len(sizes) + 1)]
    for _ in range(min(most, len(sizes))):
        best.append([0.0])
        choice.append([0])
        for j in range(1, len(sizes) + 1):
            work = [best[-2][i] + multiple * sizes[j - 1] * (cumulative[j] - cumulative[i]) for i in range(j)]
            choice[-1].append(int(np.argmin(work)))
            best[-1].append(work[choice[-1][j]])
    widths, j = [], len(sizes)
    for k in range(int(np.argmin([row[-1] + cost * k for k, row in enumerate(best)])), 0, -1):
        if j:
            widths.append(max(multiple, min(int(sizes[j - 1]) * multiple, int(lengths.max(initial=0)))))
            j = choice[k][j]
    return tuple(sorted(widths))


def steps_per_epoch(num_texts: int, batch_size: int) -> int:
    """How many batches an epoch has, the last one perhaps partial; 0 puts all texts into one."""
    return -(-num_texts // batch_size) if batch_size else 1


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one training epoch as arrays of example indices.

    Args:
      lengths: int [N] of the training texts.
      batch_size: most examples a batch; 0 puts all into one.
      seed: of the run's "order" stream.
      epoch: counted from 0.

    Returns:
      index arrays that together hold every example once.
    """
    if not batch_size:
        return [np.arange(len(lengths))]
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), _POOL * batch_size):
        pool = order[start : start + _POOL * batch_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def width_of(longest: int, widths: tuple[int, ...]) -> int:
    """The smallest of ascending widths that holds a text of this length, or a multiple of the last."""
    return next((width for width in widths if width >= longest), -(-longest // widths[-1]) * widths[-1])


def gather(encoded: Encoded, index: np.ndarray, rows: int, widths: tuple[int, ...]) -> Batch:
    """Pads the texts `index` to the smallest of `widths` that holds them, and to `rows` rows.

    Args:
      encoded: N texts.
      index: int [n], n <= rows.
      rows: B.
      widths: ascending; a text longer than the last takes a multiple of the last.
    """
    lengths = np.zeros(rows, np.int32)
    lengths[: len(index)] = encoded.offsets[index + 1] - encoded.offsets[index]
    width = width_of(int(lengths.max(initial=0)), widths)
    token_ids = np.full((rows, width), PADDING_ID, np.int32)
    row, column = np.nonzero(np.arange(width)[None, :] < lengths[:, None])
    token_ids[row, column] = encoded.tokens[encoded.offsets[index][row] + column]
    labels, weights = np.zeros(rows, np.int32), np.zeros(rows, np.float32)
    labels[: len(index)] = encoded.labels[index]
    weights[: len(index)] = 1.0
    return Batch(token_ids, lengths, labels, weights)


def evaluation_order(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """The batches of all texts as arrays of indices, shortest first, so that every batch is narrow."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def blocks(
    runs: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]], batch_size: int, widths: tuple[int, ...], capacity: int
) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield an epoch's batches in their order, in blocks of equal width.

    Args:
      runs: for each run the lengths of its texts, int [N], and the batches of its epoch; none for a run that is not
        trained.
      batch_size: B.
      widths: ascending.
      capacity: most batches of a block, K.

    Yields:
      `(index int32 [R, K, B], count, width)`; behind the first `count` batches, and where a run has no more, the index
      is -1.
    """
    steps = max((len(order) for _, order in runs), default=0)
    every_index, needed = np.full((len(runs), steps, batch_size), -1, np.int32), [0] * steps
    for run, (lengths, order) in enumerate(runs):
        for step, texts in enumerate(order):
            every_index[run, step, : len(texts)] = texts
            needed[step] = max(needed[step], width_of(int(lengths[texts].max(initial=0)), widths))
    start = 0
    while start < steps:
        end = start + 1
        while end < min(steps, start + capacity) and needed[end] == needed[start]:
            end += 1
        block = np.full((len(runs), capacity, batch_size), -1, np.int32)
        block[:, : end - start] = every_index[:, start:end]
        yield block, end - start, needed[start]
        start = end
