"""Augment training texts by deleting and swapping random tokens (Wei & Zou 2019, without synonyms)."""

import numpy as np

from research.data.tokenizer import Encoded


def augment(texts: Encoded, seed: int, epoch: int, *, deletion: float, swap: float) -> Encoded:
    """Return augmented texts for one epoch; the same seed and epoch give the same texts.

    Args:
      texts: N texts.
      seed: the seed of the run's "order" stream.
      epoch: counted from 0.
      deletion: probability of deleting a token; a text with tokens keeps at least one.
      swap: number of swaps in a text, as a share of its length.

    Returns:
      N texts with unchanged labels.
    """
    random = np.random.default_rng((seed, epoch, 1))
    tokens, offsets = texts.tokens.copy(), texts.offsets
    text_of = np.repeat(np.arange(len(texts.labels)), texts.lengths)
    if swap:
        for n in np.flatnonzero(np.rint(swap * texts.lengths)):
            part = tokens[offsets[n] : offsets[n + 1]]
            for i, j in random.integers(len(part), size=(round(swap * len(part)), 2)):
                part[i], part[j] = part[j], part[i]
    if deletion:
        is_kept = random.random(len(tokens)) >= deletion
        survivors = offsets[:-1] + np.floor(random.random(len(texts.labels)) * texts.lengths).astype(np.int64)
        is_kept[survivors[texts.lengths > 0]] = True
        tokens, text_of = tokens[is_kept], text_of[is_kept]
    lengths = np.bincount(text_of, minlength=len(texts.labels))
    return Encoded(tokens, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), texts.labels)
