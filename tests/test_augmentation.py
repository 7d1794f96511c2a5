"""Augmented texts consist of their own tokens, follow the rates, and are the same each time."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from research.data.augmentation import augment
from research.data.tokenizer import Encoded


@given(st.lists(st.integers(0, 12), min_size=1, max_size=20), st.floats(0, 0.9), st.floats(0, 1), st.integers(0, 3))
def test_augmented_texts_are_made_of_their_own_tokens(lengths, deletion, swap, epoch):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    texts = Encoded(np.arange(offsets[-1], dtype=np.int32), offsets, np.arange(len(lengths), dtype=np.int32))
    found = augment(texts, 5, epoch, deletion=deletion, swap=swap)
    assert found.labels.tolist() == texts.labels.tolist()
    for n, length in enumerate(lengths):
        part = found.tokens[found.offsets[n] : found.offsets[n + 1]].tolist()
        assert set(part) <= set(range(offsets[n], offsets[n + 1]))
        assert len(part) == len(set(part)) <= length
        assert bool(part) == bool(length)
        if not deletion:
            assert len(part) == length
        if not swap:
            assert part == sorted(part)
    again = augment(texts, 5, epoch, deletion=deletion, swap=swap)
    assert found.tokens.tolist() == again.tokens.tolist()
    assert texts.tokens.tolist() == list(range(offsets[-1]))  # left as it was


def test_augmentation_deletes_at_its_rate():
    texts = Encoded(np.zeros(10_000, np.int32), np.array([0, 10_000]), np.zeros(1, np.int32))
    assert len(augment(texts, 0, 0, deletion=0.3, swap=0.0).tokens) == pytest.approx(7000, abs=150)
    assert (
        augment(texts, 0, 0, deletion=0.3, swap=0.0).tokens.size
        != augment(texts, 0, 1, deletion=0.3, swap=0.0).tokens.size
    )
