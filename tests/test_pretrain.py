"""The pieces of pre-training: texts, vocabulary, rows, masks, and a step however it is taken."""

import collections
import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest

from experiments.variants import load_config
from research.data.corpora import make_corpus
from research.data.reader import Row
from research.data.token_stream import (
    Rows,
    cut_segments,
    fill_pairs,
    make_row_filler,
    pair_segments,
    read_batches,
    write_stream,
)
from research.data.tokenizer import (
    build_tokenizer,
    intern_texts,
    make_raw_encoder,
    read_tokenizer,
)
from research.data.unlabelled_texts import Part, TextFile, open_texts, pretraining_split, split_sentences
from research.data.vocabulary import fit_vocabulary, learn_vocabulary
from research.data.word_pieces import Special, learn_word_pieces
from research.errors import UserError
from research.pretraining.objectives import examples_of, mask_tokens, token_losses
from research.pretraining.preparation import for_pretraining
from research.pretraining.pretrain_step import PretrainPrograms, init_state
from research.settings import Data
from research.training.loop import of_run, stack
from research.training.sharding import share_rows

SPECIAL = Special(start=2, end=3, mask=4)
PIECES = 300
TEXTS = ["One two. Three four five! Six?", "a b c d e f g", "Line one\nline two<br /><br />three", "x", "好的。不好。"]


def config_of(variant, *overrides):
    return load_config(variant, [f"--config.{override}" for override in overrides], for_pretraining)


SMALL_BERT = (
    "model.hidden_size=16",
    "model.feed_forward=32",
    "data.max_length=24",
    f"data.vocab_size={PIECES}",
    "model.layers=1",
)
STILL = ("model.dropout=0", "model.attention_dropout=0")
SMALL = {
    "bert:tiny": (*SMALL_BERT, *STILL),
    "lstm": ("model.embedding_size=8", "model.hidden_size=16", "data.max_length=24", f"data.vocab_size={PIECES}"),
}


def some_rows(count, width=24):
    """Rows of [CLS] a [SEP] b [SEP], of all lengths."""
    random = np.random.default_rng(0)
    given = []
    for i in range(count):
        a, b = (random.integers(5, PIECES, random.integers(1, (width - 3) // 2 + 1)) for _ in range(2))
        given.append((a, b, i % 5 > 0))
    return fill_pairs(given, random, shape=(count, width), start=2, end=3)


# --- texts and vocabularies


def test_plain_files_are_told_from_labelled_ones_by_their_first_line(tmp_path):
    plain, labelled = tmp_path / "plain.txt", tmp_path / "labelled.txt"
    plain.write_bytes("\ufeff\nfirst line\r\n\n second\u2028line\nlast".encode())
    labelled.write_text("a\t1\nb\t0\nc\t1\nd\t0\n")
    texts = open_texts(str(plain))
    assert isinstance(texts, TextFile)
    assert list(texts) == ["first line", " second\u2028line", "last"]
    assert len(open_texts(str(labelled))) == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a\nb\tc\n", r"x\.txt:2: a tab where the first line has none"),
        (b"a\n\xff\n", r"x\.txt:2: byte 0xff is not UTF-8"),
        (b"a\n" + b"x" * 10_000_001, r"x\.txt:2: a line of more than 10,000,000 bytes"),
    ],
)
def test_a_plain_file_that_cannot_be_read_is_a_sentence(content, words, tmp_path):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(UserError, match=words):
        list(open_texts(str(tmp_path / "x.txt")))


def test_every_text_is_trained_on_or_looked_at(small_corpus, tmp_path):
    (tmp_path / "x.txt").write_text("".join(f"text {n}\n" for n in range(120)))
    file = open_texts(str(tmp_path / "x.txt"))
    held_out = list(Part(file, None, held_out=True))
    assert held_out == ["text 0", "text 50", "text 100"]
    assert sorted([*held_out, *Part(file, None)]) == sorted(file)
    whole = pretraining_split(small_corpus, 0, folds=0, fold=0, repeat=0)
    assert sorted([*whole.train, *whole.validation]) == list(range(len(small_corpus)))
    assert not len(whole.test)


def test_a_validation_file_is_only_looked_at():
    rows = {split: [Row(f"{split} {i}", str(i % 2), "", "f") for i in range(9)] for split in ("train", "validation")}
    corpus = make_corpus("c", rows)
    split = pretraining_split(corpus, 0, folds=0, fold=0, repeat=0)
    assert [set(corpus.splits[part]) for part in split] == [{"train"}, {"validation"}, set()]
    assert len(split.train) == len(split.validation) == 9


def test_sentences():
    found = [split_sentences(text) for text in [*TEXTS, " "]]
    assert list(map(len, found)) == [3, 1, 3, 1, 2, 1]
    assert found[4] == ["好的。", "不好。"]


def test_pieces_are_the_same_whenever_they_are_learnt(small_corpus):
    """The library alone breaks ties by the order of a hash table."""
    data = Data(vocab_size=400)
    found = [learn_word_pieces(lambda: iter(small_corpus.texts), data).to_str() for _ in range(3)]
    assert found[0] == found[1] == found[2]
    tokenizer = read_tokenizer(found[0])
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(400))
    assert [tokenizer.id_to_token(i) for i in range(5)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert "the" in vocabulary
    assert tokenizer.encode("The <b>film</b>").tokens[1] == "the"
    for size in (20, 50):
        assert len(learn_word_pieces(lambda: iter(small_corpus.texts), Data(vocab_size=size)).get_vocab()) <= size


def test_words_are_counted_a_piece_at_a_time(small_corpus, monkeypatch):
    data = Data(vocab_size=200)
    every = np.arange(len(small_corpus))
    expected = fit_vocabulary(intern_texts(small_corpus.texts, data), every, 200)
    monkeypatch.setattr("research.data.vocabulary.CHUNK_TEXTS", 7)
    assert learn_vocabulary(iter(small_corpus.texts), data) == expected


# --- rows


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
    # A sentence is cut only where it is longer than a segment.
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
    data = dataclasses.replace(config_of("bert:tiny", *SMALL["bert:tiny"]).data, vocab_size=PIECES)
    tokenizer = learn_word_pieces(lambda: iter(small_corpus.texts), data)
    encode = make_raw_encoder(tokenizer, data)
    return write_stream(tmp_path / "s", small_corpus.texts, encode, PIECES, most=10, end=3), encode


def test_an_epoch_reads_every_token_once_in_another_order(stream, small_corpus):
    """Special tokens aside: what the texts consist of is what the rows of each epoch do."""
    stream, encode = stream
    expected = collections.Counter(encode(small_corpus.texts).tokens.tolist())
    fill = make_row_filler("masked", (16, 24), SPECIAL)
    steps = -(-len(stream.rows) // 16)
    feed = list(read_batches(stream, fill, 16, 7, epochs=2, shuffled=True))
    assert len(feed) == 2 * steps
    for epoch in (feed[:steps], feed[steps:]):
        found = collections.Counter()
        for rows in epoch:
            for ids, length in zip(rows.token_ids, rows.lengths, strict=True):
                found.update(ids[:length].tolist())
        assert {i: n for i, n in found.items() if i not in (2, 3)} == expected
    assert not np.array_equal(feed[0].token_ids, feed[steps].token_ids)
    again = list(read_batches(stream, fill, 16, 7, epochs=2, shuffled=True))
    for one, other in zip(feed, again, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)
    resumed = list(read_batches(stream, fill, 16, 7, epochs=2, shuffled=True, taken=steps + 1))
    assert len(resumed) == steps - 1
    for one, other in zip(resumed, feed[steps + 1 :], strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)
    assert not list(read_batches(stream, fill, 16, 7, epochs=2, shuffled=True, taken=2 * steps))


def test_half_of_the_segments_that_follow_are_exchanged(stream):
    stream, _ = stream
    follows = collections.defaultdict(list)  # segment b -> segments a that it follows
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
        learn_word_pieces(lambda: iter(small_corpus.texts), Data(vocab_size=PIECES)), Data(tokens="pieces")
    )
    stream = write_stream(tmp_path, ["a good film", "a bad film"] * 20, encode, PIECES, most=10, end=3)
    assert not stream.rows[:, 3].any()


def test_words_of_a_language_model_stay_within_their_text(tmp_path):
    data = Data(vocab_size=100)
    tokenizer = build_tokenizer(learn_vocabulary(iter(TEXTS), data), data)
    encode = make_raw_encoder(tokenizer, data)
    stream = write_stream(tmp_path, TEXTS, encode, 100, most=4, end=None)
    encoded = encode(TEXTS)
    ends = set(encoded.offsets.tolist())
    assert stream.tokens.tolist() == encoded.tokens.tolist()
    assert not any(begin < end < last for begin, last, *_ in stream.rows.tolist() for end in ends)
    assert (stream.rows[:, 1] == stream.rows[:, 2]).all()


# --- masks and steps


def test_masks_hide_15_percent_in_three_ways_and_differ_from_step_to_step():
    rows = some_rows(2000)
    hidden, positions, targets, weights = map(
        np.asarray, mask_tokens(jax.random.key(0), rows.token_ids, rows.lengths, SPECIAL, PIECES)
    )
    plain = ((rows.token_ids > 4) & (np.arange(24) < rows.lengths[:, None])).sum(axis=1)
    np.testing.assert_array_equal(weights.sum(axis=1), np.round(0.15 * plain.astype(np.float32)))
    at = np.take_along_axis(rows.token_ids, positions, axis=1)
    np.testing.assert_array_equal(at, targets)
    guessed = weights > 0
    assert (targets[guessed] > 4).all()
    shown = np.take_along_axis(hidden, positions, axis=1)[guessed]
    shares = [(shown == 4).mean(), (shown == targets[guessed]).mean()]
    np.testing.assert_allclose(shares, [0.8, 0.1 + 0.1 / PIECES], atol=0.02)
    assert (hidden != rows.token_ids).sum() == (shown != targets[guessed]).sum()  # nothing else is changed
    assert abs(weights.sum() / plain.sum() - 0.15) < 0.01
    again = mask_tokens(jax.random.key(0), rows.token_ids, rows.lengths, SPECIAL, PIECES)[0]
    other = mask_tokens(jax.random.key(1), rows.token_ids, rows.lengths, SPECIAL, PIECES)[0]
    np.testing.assert_array_equal(again, hidden)
    assert (np.asarray(other) != hidden).mean() > 0.1


def test_the_next_token_is_guessed_everywhere_but_behind_the_last():
    ids = np.arange(12, dtype=np.int32).reshape(2, 6)
    rows = Rows(ids, np.zeros_like(ids), np.array([6, 3], np.int32), np.full(2, -1, np.int32))
    found = examples_of("next", jax.random.key(0), rows, {}, 12)
    assert found.targets.tolist() == ids[:, 1:].tolist()
    assert found.weights.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]


def test_blocks_of_logits_are_those_of_one_product(monkeypatch):
    from research.models.layers.vocabulary import Guesses

    random = np.random.default_rng(0)
    vectors, table, bias = (random.normal(size=s).astype(np.float32) for s in ((3, 7, 4), (11, 4), (11,)))
    targets, weights = random.integers(0, 11, (3, 7)), random.integers(0, 2, (3, 7)).astype(np.float32)
    whole = token_losses(Guesses(vectors, table, bias, None), targets, weights)
    monkeypatch.setattr("research.pretraining.objectives.BLOCK_TOKENS", 6)
    np.testing.assert_allclose(token_losses(Guesses(vectors, table, bias, None), targets, weights), whole, rtol=1e-5)
    logits = vectors @ table.T + bias
    losses = np.log(np.exp(logits).sum(axis=-1)) - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(whole[0], (losses * weights).sum(), rtol=1e-5)
    np.testing.assert_allclose(whole[1], ((logits.argmax(-1) == targets) * weights).sum())


@functools.cache
def stepped(variant, *overrides, parts=1, devices=1):
    """The state after two steps on 16 rows, by plain descent: Adam makes steps of gradients that are rounding."""
    config = config_of(variant, *SMALL[variant], "optimizer.name=sgd", "optimizer.learning_rate=0.5", *overrides)
    placement = share_rows(devices, 16)
    programs = PretrainPrograms(config, SPECIAL, PIECES, placement)
    states = placement.put(stack([init_state(programs, config, init_seed=0, seed=0, num_steps=4)]))
    rows = jax.tree.map(lambda leaf: leaf.reshape(1, parts, -1, *leaf.shape[1:]), some_rows(16))
    for _ in range(2):
        states, sums = programs.step(states, placement.put_rows(rows, 2))
    return of_run((states, sums), 0)


@pytest.mark.parametrize("variant", SMALL)
def test_a_step_is_the_same_in_parts_and_on_several_devices(variant, two_devices):
    both = stepped(variant), stepped(variant, parts=2, devices=2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *both)


def test_remat_changes_nothing():
    plain, remat = stepped("bert:tiny"), stepped("bert:tiny", "model.remat=true")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plain, remat)


def test_half_precision_is_near():
    whole, half = (stepped("lstm", f"training.compute_dtype={name}")[1] for name in ("float32", "bfloat16"))
    np.testing.assert_allclose(half.loss, whole.loss, rtol=0.02)


@pytest.mark.parametrize("variant", SMALL)
def test_every_parameter_learns(variant):
    config = config_of(variant, *SMALL[variant], "optimizer.learning_rate=0.01")
    programs = PretrainPrograms(config, SPECIAL, PIECES)
    state = init_state(programs, config, init_seed=0, seed=0, num_steps=40)
    before = jax.device_get(state.params)
    states, rows = stack([state]), jax.tree.map(lambda leaf: leaf[None, None], some_rows(16))
    losses = []
    for _ in range(30):
        states, sums = programs.step(states, rows)
        losses.append(float(sums.loss[0] / sums.weight[0]))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, of_run(states.params, 0))
    assert all(jax.tree.leaves(moved)), moved
    assert losses[-1] < losses[0] - 0.1
