"""The token stream of pre-training: segments, rows, and batches that read every token once per epoch."""

import collections
import itertools

import jax
import numpy as np
import pytest

from research.data.token_stream import cut_segments, make_row_filler, pair_segments, read_batches, write_stream
from research.data.tokenized_corpus import learn_vocabulary
from research.data.tokenizer import build_tokenizer, make_raw_encoder
from research.data.word_pieces import learn_word_pieces
from research.settings import Data
from tests.pretraining import NUM_IDS, SPECIAL, TEXTS, small_config


@pytest.mark.parametrize("across", [False, True])
def test_segments_hold_every_token_once(across):
    random = np.random.default_rng(0)
    lengths = [(int(random.integers(0, 25)), bool(random.random() < 0.4)) for _ in range(500)] + [(3, True)]
    segments = list(cut_segments(lengths, 10, across=across))
    assert segments[0][0] == 0
    assert segments[-1][1] == sum(length for length, _ in lengths)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(segments))
    assert all(0 < end - begin <= 10 for begin, end, _ in segments)
    ends = set(np.cumsum([length for length, _ in lengths])[[last for _, last in lengths]].tolist())
    assert all((end in ends) == (not goes_on) for _, end, goes_on in segments)
    if not across:
        assert not any(begin < end_of_text < end for begin, end, _ in segments for end_of_text in ends)
    # A sentence is cut only if it is longer than a segment.
    edges = {end for _, end, _ in segments}
    at = 0
    for length, _ in lengths:
        assert length > 10 or not edges & set(range(at + 1, at + length))
        at += length
    rows = list(pair_segments(segments))
    assert rows[0][0] == 0
    assert rows[-1][2] == at
    assert all(a[2] == b[0] for a, b in itertools.pairwise(rows))


@pytest.fixture
def stream(small_corpus, tmp_path):
    """Return the stream of the small corpus, and the function that encoded it."""
    data = small_config("bert:tiny").data
    tokenizer = learn_word_pieces(lambda: iter(small_corpus.texts), data)
    encode = make_raw_encoder(tokenizer, data)
    return write_stream(tmp_path / "s", small_corpus.texts, encode, NUM_IDS, most=10, end=3), encode


def test_every_epoch_reads_every_token_once_in_its_own_order(stream, small_corpus):
    stream, encode = stream
    expected = collections.Counter(encode(small_corpus.texts).tokens.tolist())
    fill = make_row_filler("masked", (16, 24), SPECIAL)
    steps = -(-len(stream.rows) // 16)
    batches = list(read_batches(stream, fill, 16, 7, epochs=2, shuffled=True))
    assert len(batches) == 2 * steps
    for epoch in (batches[:steps], batches[steps:]):
        counts = collections.Counter()
        for rows in epoch:
            for ids, length in zip(rows.token_ids, rows.lengths, strict=True):
                counts.update(ids[:length].tolist())
        assert {i: n for i, n in counts.items() if i not in (2, 3)} == expected  # without [CLS] and [SEP]
    assert not np.array_equal(batches[0].token_ids, batches[steps].token_ids)
    again = list(read_batches(stream, fill, 16, 7, epochs=2, shuffled=True))
    for first, second in zip(batches, again, strict=True):
        jax.tree.map(np.testing.assert_array_equal, first, second)
    resumed = list(read_batches(stream, fill, 16, 7, epochs=2, shuffled=True, taken=steps + 1))
    assert len(resumed) == steps - 1
    for first, second in zip(resumed, batches[steps + 1 :], strict=True):
        jax.tree.map(np.testing.assert_array_equal, first, second)
    assert not list(read_batches(stream, fill, 16, 7, epochs=2, shuffled=True, taken=2 * steps))


def test_half_of_the_second_segments_are_exchanged(stream):
    stream, _ = stream
    follows = collections.defaultdict(list)  # segment b -> the segments a before it
    for begin, middle, end, goes_on in stream.rows.tolist():
        a, b = stream.tokens[begin:middle].tolist(), stream.tokens[middle:end].tolist()
        follows[tuple(i for i in b if i != 3)].append(tuple(i for i in a if i != 3) if goes_on else ())
    orders = []
    for rows in read_batches(stream, make_row_filler("masked", (16, 24), SPECIAL), 16, 0, epochs=20, shuffled=True):
        for ids, segments, length, order in zip(*rows, strict=True):
            if not length:
                continue
            a = tuple(i for i in ids[:length][segments[:length] == 0].tolist() if i not in (2, 3))
            b = tuple(i for i in ids[:length][segments[:length] == 1].tolist() if i != 3)
            orders.append(order)
            if order >= 0 and len(follows[b]) == 1:
                assert (follows[b] == [a]) == (order == 0)
    known = [order for order in orders if order >= 0]
    assert len(known) > 500
    assert abs(np.mean(known) - 0.5) < 0.1


def test_texts_of_one_sentence_have_no_order(tmp_path, small_corpus):
    encode = make_raw_encoder(
        learn_word_pieces(lambda: iter(small_corpus.texts), Data(vocab_size=NUM_IDS)), Data(tokens="pieces")
    )
    stream = write_stream(tmp_path, ["a good film", "a bad film"] * 20, encode, NUM_IDS, most=10, end=3)
    assert not stream.rows[:, 3].any()


def test_rows_of_a_language_model_do_not_cross_texts(tmp_path):
    data = Data(vocab_size=100)
    tokenizer = build_tokenizer(learn_vocabulary(iter(TEXTS), data), data)
    encode = make_raw_encoder(tokenizer, data)
    stream = write_stream(tmp_path, TEXTS, encode, 100, most=4, end=None)
    encoded = encode(TEXTS)
    ends = set(encoded.offsets.tolist())
    assert stream.tokens.tolist() == encoded.tokens.tolist()
    assert not any(begin < end < last for begin, last, *_ in stream.rows.tolist() for end in ends)
    assert (stream.rows[:, 1] == stream.rows[:, 2]).all()
