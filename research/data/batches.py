"""Group texts of similar length into batches, and pad each batch to one of a few widths.

The training lengths, the seed and the epoch decide which texts form a batch. The width of a batch changes the work and
not the result. No example is dropped: filler rows of weight 0 complete the last batch.
"""

import bisect
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from research.data.tokenizer import PADDING_ID, Encoded

# The cost of one more width, in padded tokens an epoch: compiling for it takes as long as computing this many tokens in
# each of ten epochs. Padding is cheap in models that skip it (`skips_padding`) and costly in pretrained encoders.
WIDTH_COST, WIDTH_COST_SKIPPING, WIDTH_COST_PRETRAINED = 15_000, 375_000, 2_000
_POOL = 50  # batches whose texts are sorted together: enough to save padding, few enough to keep the order random


class Batch(NamedTuple):
    """One padded batch; filler rows have length 0 and weight 0."""

    token_ids: np.ndarray  # int32 [B, W]
    lengths: np.ndarray  # int32 [B]
    labels: np.ndarray  # int32 [B]
    weights: np.ndarray  # float32 [B]
    vectors: np.ndarray | None = None  # float32 [B, D], sentence vectors; with them, token_ids is empty: [B, 0]


def choose_widths(lengths: np.ndarray, most: int = 4, multiple: int = 8, cost: int = WIDTH_COST) -> tuple[int, ...]:
    """Return the padded widths that make the least work, compilation included.

    Args:
      lengths: int [N].
      most: maximum number of widths; each is compiled once.
      multiple: widths are rounded up to a multiple of it, except the last, which is the longest length.
      cost: cost of one more width, in padded tokens an epoch.

    Returns:
      widths in ascending order; the last is at least the longest length.
    """
    rounded = np.maximum(1, -(-lengths // multiple)) if len(lengths) else np.ones(1, int)
    sizes, counts = np.unique(rounded, return_counts=True)
    cumulative = np.concatenate([[0], np.cumsum(counts)])
    # best[k][j]: fewest padded tokens of the first j sizes with k widths; choice[k][j]: first size of the last width.
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
    """Return the number of batches in an epoch; the last may be partial, and a batch size of 0 means one batch."""
    return -(-num_texts // batch_size) if batch_size else 1


def epochs_nearest_to(steps: float, num_texts: int, batch_size: int) -> int:
    """Return the number of epochs, at least one, whose number of steps is nearest to this one."""
    return max(1, round(steps / steps_per_epoch(num_texts, batch_size)))


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the batches of one training epoch as arrays of indices.

    Args:
      lengths: int [N], lengths of the training texts.
      batch_size: examples in a batch; 0 puts all into one.
      seed: the seed of the run's "order" stream.
      epoch: counted from 0.

    Returns:
      index arrays that together contain every example once.
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
    """Return the smallest of ascending widths that fits a length, or a multiple of the last width."""
    return next((width for width in widths if width >= longest), -(-longest // widths[-1]) * widths[-1])


def gather(encoded: Encoded, index: np.ndarray, rows: int, widths: tuple[int, ...]) -> Batch:
    """Return selected texts as one batch, padded to the smallest width that fits and to a fixed number of rows.

    Args:
      encoded: N texts.
      index: int [n], the texts to take; n <= rows.
      rows: B, the number of rows with filler.
      widths: ascending; a text longer than the last width takes a multiple of it.
    """
    lengths = np.zeros(rows, np.int32)
    lengths[: len(index)] = encoded.offsets[index + 1] - encoded.offsets[index]
    labels, weights = np.zeros(rows, np.int32), np.zeros(rows, np.float32)
    labels[: len(index)] = encoded.labels[index]
    weights[: len(index)] = 1.0
    if encoded.vectors is not None:
        vectors = np.zeros((rows, encoded.vectors.shape[1]), np.float32)
        vectors[: len(index)] = encoded.vectors[index]
        return Batch(np.empty((rows, 0), np.int32), lengths, labels, weights, vectors)
    width = width_of(int(lengths.max(initial=0)), widths)
    token_ids = np.full((rows, width), PADDING_ID, np.int32)
    row, column = np.nonzero(np.arange(width)[None, :] < lengths[:, None])
    token_ids[row, column] = encoded.tokens[encoded.offsets[index][row] + column]
    return Batch(token_ids, lengths, labels, weights)


def evaluation_order(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Return the batches of all texts as arrays of indices, shortest texts first to save padding."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def blocks(
    runs: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]], batch_size: int, widths: tuple[int, ...], capacity: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield an epoch's batches in their order, several at a time.

    Args:
      runs: for each run the lengths of its texts, int [N], and the batches of its epoch; none for a run that is not
        trained.
      batch_size: B.
      widths: ascending; the last fits all texts.
      capacity: most batches of a block, K.

    Yields:
      `(index int32 [R, K, B], width int32 [K])`, the texts of each batch and the number of its width; -1 where there
      is no text, and no batch.
    """
    steps = max((len(order) for _, order in runs), default=0)
    padded = -(-steps // capacity) * capacity
    every_index, every_width = np.full((len(runs), padded, batch_size), -1, np.int32), np.full(padded, -1, np.int32)
    for run, (lengths, order) in enumerate(runs):
        for step, texts in enumerate(order):
            every_index[run, step, : len(texts)] = texts
            needed = bisect.bisect_left(widths, int(lengths[texts].max(initial=0)))
            every_width[step] = max(every_width[step], needed)
    for start in range(0, steps, capacity):
        block = slice(start, start + capacity)
        yield every_index[:, block], every_width[block]
