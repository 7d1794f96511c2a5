"""Batches contain every example once and are padded to the widths that make the least work."""

import itertools

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from research.data.batches import choose_widths, epoch_order, evaluation_order, gather
from research.data.tokenizer import Encoded

lengths_lists = st.lists(st.integers(0, 60), min_size=1, max_size=80)


def encoded_of(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.arange(2, 2 + offsets[-1], dtype=np.int32)  # all different, so a mistake shows
    return Encoded(tokens, offsets, np.arange(len(lengths), dtype=np.int32))


@given(lengths_lists, st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_holds_every_example_once(lengths, batch_size, epoch):
    batches = epoch_order(np.array(lengths), batch_size, 1, epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch_size
    assert len(batches) == -(-len(lengths) // batch_size)


def test_the_order_is_a_function_of_seed_and_epoch():
    lengths = np.arange(100) % 7

    def flat(seed, epoch):
        return np.concatenate(epoch_order(lengths, 8, seed, epoch)).tolist()

    assert flat(0, 0) == flat(0, 0)
    assert flat(0, 0) != flat(0, 1)
    assert flat(0, 0) != flat(1, 0)


@given(lengths_lists, st.integers(1, 9))
def test_batches_hold_the_texts_and_filler_weighs_nothing(lengths, rows):
    encoded, widths = encoded_of(lengths), choose_widths(np.array(lengths))
    seen = []
    for index in evaluation_order(encoded.lengths, rows):
        batch = gather(encoded, index, rows, widths)
        assert batch.token_ids.shape == (rows, batch.token_ids.shape[1])
        assert batch.token_ids.shape[1] in widths
        assert batch.weights.tolist() == [1.0] * len(index) + [0.0] * (rows - len(index))
        for row, n in enumerate(index):
            text = encoded.tokens[encoded.offsets[n] : encoded.offsets[n + 1]]
            assert batch.lengths[row] == len(text)
            assert batch.token_ids[row].tolist() == text.tolist() + [0] * (batch.token_ids.shape[1] - len(text))
            assert batch.labels[row] == n
        seen += index.tolist()
    assert sorted(seen) == list(range(len(lengths)))


def test_a_text_longer_than_the_widths_still_fits():
    batch = gather(encoded_of([40]), np.array([0]), 1, (8, 16))
    assert batch.token_ids.shape == (1, 48)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=30), st.integers(1, 4), st.sampled_from([0, 100, 10_000]))
def test_widths_make_the_least_work(lengths, most, cost):
    widths = choose_widths(np.array(lengths), most, cost=cost)
    assert len(widths) <= most
    assert list(widths) == sorted(set(widths))
    assert widths[-1] >= max(lengths)

    top = max([8, *lengths])

    def work(chosen):  # the last width is cut to the longest text, but weighed as the multiple of 8 that it was
        return sum(next(-(-w // 8) * 8 for w in chosen if w >= length) for length in lengths) + cost * len(chosen)

    candidates = sorted({min(8 * max(1, -(-length // 8)), top) for length in lengths})
    best = min(
        work(chosen)
        for count in range(1, most + 1)
        for chosen in itertools.combinations(candidates, min(count, len(candidates)))
        if chosen[-1] >= max(lengths)
    )
    assert work(widths) == best
