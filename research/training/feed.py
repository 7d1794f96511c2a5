"""Texts on the device: put there once, and taken one by one inside a program."""

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


def take(texts: Texts, index: jax.Array, width: int) -> Batch:
    """The batch of some texts, what `batches.gather` makes of them.

    Args:
      texts: N texts, none of those taken longer than `width`.
      index: int32 [B], -1 for filler.
      width: W.

    Returns:
      `token_ids` int32 [B, W] and the rest of the batch.
    """
    real, index = index >= 0, jnp.maximum(index, 0)
    starts = texts.offsets[index]
    lengths = jnp.where(real, texts.offsets[index + 1] - starts, 0)
    column = jnp.arange(width, dtype=jnp.int32)[None, :]
    ids = texts.tokens.at[starts[:, None] + column].get(mode="clip")
    labels = jnp.where(real, texts.labels[index], 0)
    return Batch(jnp.where(column < lengths[:, None], ids, PADDING_ID), lengths, labels, real.astype(jnp.float32))


def blocks(
    members: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]], batch_size: int, widths: tuple[int, ...], capacity: int
) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yields `(index int32 [R, capacity, B], count, width)`: an epoch's batches in their order, in runs of equal width.

    Args:
      members: of each run its texts' lengths int [N] and the batches of its epoch; none for a run that rests.
      batch_size: B.
      widths: ascending.
      capacity: most batches of a block; behind the first `count`, and where a run has no more, all is filler.
    """
    steps = max((len(order) for _, order in members), default=0)
    every_index, needed = np.full((len(members), steps, batch_size), -1, np.int32), [0] * steps
    for member, (lengths, order) in enumerate(members):
        for step, which in enumerate(order):
            every_index[member, step, : len(which)] = which
            needed[step] = max(needed[step], width_of(int(lengths[which].max(initial=0)), widths))
    start = 0
    while start < steps:
        end = start + 1
        while end < min(steps, start + capacity) and needed[end] == needed[start]:
            end += 1
        block = np.full((len(members), capacity, batch_size), -1, np.int32)
        block[:, : end - start] = every_index[:, start:end]
        yield block, end - start, needed[start]
        start = end
