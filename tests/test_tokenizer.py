"""Texts get the same ids in training, after restoring, and on the fast path."""

import dataclasses
import json
import re
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from tokenizers import Tokenizer

from research.data import tokenizer as tokenizer_module
from research.data.tokenized_corpus import fit_vocabulary
from research.data.tokenizer import build_tokenizer, encode, encode_texts, intern_texts, read_tokenizer, split_text
from research.settings import Data


def tokens(text, **settings):
    interned = intern_texts([text], Data(**settings))
    return [interned.words[i] for i in interned.tokens]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't PANIC!", ["don't", "panic", "!"]),
        ("it\u2019s", ["it's"]),
        ("good<br /><br />bad <i>very</i>", ["good", "bad", "very"]),
        ("<A HREF='x' target=_blank>so</A><!-- no <b> --> <td nowrap>it</td>", ["so", "it"]),
        ("<D because it <leaks>", ["<", "d", "because", "it", "<", "leaks", ">"]),
        ("vector<int> <i think>", ["vector", "<", "int", ">", "<", "i", "think", ">"]),
        ("a < b and c > d", ["a", "<", "b", "and", "c", ">", "d"]),
        ("caf&eacute; &amp; bar &#39;n&#x27; grill", ["caf\u00e9", "&", "bar", "'", "n", "'", "grill"]),
        ("\uff11\uff12 \ufb01ne", ["12", "fine"]),  # NFKC
        ("\u7535\u5f71\u5f88\u597d ok", ["\u7535", "\u5f71", "\u5f88", "\u597d", "ok"]),  # CJK apart
        ("na\u00efve-ish", ["na\u00efve", "-", "ish"]),
        ("a\x00b\u200bc\td\u00a0e", ["a", "bc", "d", "e"]),
        ("[PAD] [UNK]", ["[", "pad", "]", "[", "unk", "]"]),
        ("", []),
        (" \n\t ", []),
        ("\U0001f600!", ["\U0001f600", "!"]),
    ],
)
def test_words(text, expected):
    assert tokens(text) == expected


def test_characters_case_and_stop_words_are_settings():
    assert tokens("Ab c\u7535", tokens="characters") == ["a", "b", "c", "\u7535"]
    assert tokens("Ab c", lowercase=False) == ["Ab", "c"]
    assert tokens("This is not a THE good film, isn't it", stop_words="english") == ["good", "film", ","]
    assert tokens("The theme", stop_words="english", lowercase=False) == ["theme"]


TRAIN = ["the film is good", "the film is bad", "a film", "the end"]


def fitted(texts, train, data):
    interned = intern_texts(texts, data)
    return interned, fit_vocabulary(interned, np.array(train), data.vocab_size)


def test_the_vocabulary_counts_the_training_texts_alone():
    _, vocabulary = fitted([*TRAIN, "unseen unseen unseen unseen"], range(4), Data())
    assert list(vocabulary)[:4] == ["[PAD]", "[UNK]", "film", "the"]  # equal counts in alphabetical order
    assert "unseen" not in vocabulary
    assert list(vocabulary.values()) == list(range(len(vocabulary)))


def test_the_vocabulary_has_at_most_its_size():
    data = Data(vocab_size=4)
    interned, vocabulary = fitted(TRAIN, range(4), data)
    assert len(vocabulary) == 4
    encoded = encode(interned, vocabulary, np.zeros(4, np.int32), np.arange(4), data)
    assert encoded.tokens.max() < 4
    assert encoded.tokens.min() == 1  # unknown words are 1, padding never occurs


@pytest.mark.parametrize(("keep", "expected"), [("first", ["the", "film"]), ("last", ["is", "good"])])
def test_a_long_text_is_cut_at_the_end_that_is_set(keep, expected):
    data = Data(max_length=2, keep=keep)
    interned, vocabulary = fitted(TRAIN, range(4), data)
    encoded = encode(interned, vocabulary, np.zeros(4, np.int32), np.array([0]), data)
    names = {index: word for word, index in vocabulary.items()}
    assert [names[i] for i in encoded.tokens] == expected


@given(
    st.lists(st.text(max_size=40), min_size=1, max_size=8),
    st.sampled_from(["words", "characters", "chinese_words"]),
    st.booleans(),
    st.sampled_from(["first", "last"]),
    st.sampled_from(["none", "english", "chinese"]),
)
def test_a_text_encodes_the_same_in_training_and_after_restoring(texts, split, lowercase, keep, stop_words):
    data = Data(vocab_size=20, max_length=6, keep=keep, tokens=split, lowercase=lowercase, stop_words=stop_words)
    pytest.importorskip("rjieba")
    texts = [*texts, "这个房间的服务不好", "&lt;b&gt; The &amp; [PAD] <p>x</p> isn't"]
    interned, vocabulary = fitted(texts, range(len(texts)), data)
    trained = encode(interned, vocabulary, np.zeros(len(texts), np.int32), np.arange(len(texts)), data)
    restored = Tokenizer.from_str(build_tokenizer(vocabulary, data).to_str())
    later = encode_texts(restored, texts, data)
    assert trained.tokens.tolist() == later.tokens.tolist()
    assert trained.offsets.tolist() == later.offsets.tolist()
    # Alone as in company.
    alone = [encode_texts(restored, [text], data).tokens for text in texts]
    assert np.concatenate(alone).tolist() == later.tokens.tolist()
    # And token by token, with what is written there.
    words = [split_text(restored, text, data) for text in texts]
    assert [token_id for of_text in words for _, token_id in of_text] == later.tokens.tolist()


@given(
    st.lists(st.text(st.characters(max_codepoint=0x17F), max_size=40), min_size=1, max_size=8),
    st.sampled_from(["words", "characters", "chinese_words"]),
    st.booleans(),
    st.sampled_from(["first", "last"]),
    st.sampled_from(["none", "english"]),
)
def test_plain_texts_are_looked_up_with_the_same_result(texts, split, lowercase, keep, stop_words):
    data = Data(vocab_size=20, max_length=6, keep=keep, tokens=split, lowercase=lowercase, stop_words=stop_words)
    pytest.importorskip("rjieba")
    texts = [*texts, "It's a 'FINE' one's_2 [PAD] film!", "a < b", "R&B", "tab\there", ""]
    _, vocabulary = fitted(texts, range(len(texts)), data)
    tokenizer = build_tokenizer(vocabulary, data)
    reference, found = encode_texts(tokenizer, texts, data), encode_texts(tokenizer, texts, data, vocabulary)
    assert found.tokens.tolist() == reference.tokens.tolist()
    assert found.offsets.tolist() == reference.offsets.tolist()
    assert (found.tokens.dtype, found.offsets.dtype) == (reference.tokens.dtype, reference.offsets.dtype)


def test_words_are_told_as_they_are_written():
    data = Data(max_length=5)
    tokenizer = build_tokenizer({"[PAD]": 0, "[UNK]": 1, "fine": 2, "it's": 3, "&": 4}, data)
    found = split_text(tokenizer, "IT\u2019S <b>Fine</b> &amp; \uff26INE, but", data)
    assert found == [("IT\u2019S", 3), ("Fine", 2), ("&", 4), ("\uff26INE", 2), (",", 1)]


def test_interning_is_deterministic():
    one, other = (intern_texts(TRAIN, Data()) for _ in range(2))
    assert one.words == other.words == ("the", "film", "is", "good", "bad", "a", "end")
    assert one.tokens.tolist() == other.tokens.tolist()


def test_chinese_words_are_found_by_a_dictionary():
    pytest.importorskip("rjieba")
    text = "房间很干净, the WiFi isn't 稳定"
    assert tokens(text, tokens="chinese_words") == ["房间", "很", "干净", ",", "the", "wifi", "isn't", "稳定"]
    assert tokens("这个 房间的服务不好", tokens="chinese_words", stop_words="chinese") == ["房间", "服务", "不好"]
    assert tokens("我的房", stop_words="chinese") == ["房"]


def test_every_list_of_stop_words_keeps_whole_lines_of_words():
    folder = Path(tokenizer_module.__file__).parent / "stop_words"
    lists = {file.stem: file.read_text("utf-8").split() for file in folder.iterdir()}
    field = next(field for field in dataclasses.fields(Data) if field.name == "stop_words")
    assert {"none", *lists} == set(field.metadata["choices"])
    for words in lists.values():
        assert len(words) > 100
        assert not {"不", "没", "没有"} & set(words)


@pytest.mark.parametrize(
    "text", ["<a" + " " * 50_000, "<a " + "x=y " * 50_000, "<!--" * 50_000, "<!-- " + "x" * 200_000]
)
def test_a_tag_without_an_end_exhausts_nothing(text):
    assert len(intern_texts([text], Data()).tokens) == len(re.findall(r"\w+|[^\w\s]", text))


def test_a_tokenizer_of_before_keeps_its_rules_for_tags():
    """Runs of before 2026-12 dropped all that stands between angle brackets."""
    saved = json.loads(build_tokenizer({"[PAD]": 0, "[UNK]": 1, "a": 2, "int": 3}, Data()).to_str())
    saved["normalizer"]["normalizers"][0]["pattern"] = {"Regex": r"<[/!?]?[A-Za-z][^<>]*>"}
    encoded = encode_texts(read_tokenizer(json.dumps(saved)), ["a<int>"], Data(), {"a": 2, "int": 3})
    assert encoded.tokens.tolist() == [2]
