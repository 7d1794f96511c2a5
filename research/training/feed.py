"""Texts on the device: put there once, and taken row by row inside a program."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.data.batches import Batch, width_of
from research.data.tokenizer import PADDING_ID, Encoded


class Room(NamedTuple):
    """What the texts of all runs on a corpus fit into, so that one program serves them all."""

    tokens: int
    texts: int


class Texts(NamedTuple):
    """N encoded texts end to end; what lies behind them is not read."""

    tokens: jax.Array  # int32 [room.tokens]
    offsets: jax.Array  # int32 [room.texts + 1]
    labels: jax.Array  # int32 [room.texts]


def put(encoded: Encoded, room: Room) -> Texts:
    """Texts as NumPy arrays of the room's size, ready for the device."""
    return Texts(
        np.pad(encoded.tokens, (0, room.tokens - len(encoded.tokens))),
        np.pad(encoded.offsets.astype(np.int32), (0, room.texts - len(encoded.labels)), mode="edge"),
        np.pad(encoded.labels, (0, room.texts - len(encoded.labels))),
    )


def take(texts: Texts, rows: jax.Array, width: int) -> Batch:
    """The batch of some texts, what `batches.gather` makes of them.

    Args:
      texts: N texts, none of the rows longer than `width`.
      rows: int32 [B], -1 for filler.
      width: W.

    Returns:
      `token_ids` int32 [B, W] and the rest of the batch.
    """
    real, rows = rows >= 0, jnp.maximum(rows, 0)
    starts = texts.offsets[rows]
    lengths = jnp.where(real, texts.offsets[rows + 1] - starts, 0)
    column = jnp.arange(width, dtype=jnp.int32)[None, :]
    ids = texts.tokens.at[starts[:, None] + column].get(mode="clip")
    labels = jnp.where(real, texts.labels[rows], 0)
    return Batch(jnp.where(column < lengths[:, None], ids, PADDING_ID), lengths, labels, real.astype(jnp.float32))


def blocks(
    members: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]], batch_size: int, widths: tuple[int, ...], capacity: int
) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yields `(rows int32 [R, capacity, B], count, width)`: an epoch's batches in their order, in runs of equal width.

    Args:
      members: of each run its texts' lengths int [N] and the batches of its epoch; none for a run that rests.
      batch_size: B.
      widths: ascending.
      capacity: most batches of a block; behind the first `count`, and where a run has no more, all rows are filler.
    """
    steps = max((len(order) for _, order in members), default=0)
    all_rows, needed = np.full((len(members), steps, batch_size), -1, np.int32), [0] * steps
    for member, (lengths, order) in enumerate(members):
        for step, index in enumerate(order):
            all_rows[member, step, : len(index)] = index
            needed[step] = max(needed[step], width_of(int(lengths[index].max(initial=0)), widths))
    start = 0
    while start < steps:
        end = start + 1
        while end < min(steps, start + capacity) and needed[end] == needed[start]:
            end += 1
        block = np.full((len(members), capacity, batch_size), -1, np.int32)
        block[:, : end - start] = all_rows[:, start:end]
        yield block, end - start, needed[start]
        start = end
