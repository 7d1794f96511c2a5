"""Fingerprints find equal and nearly equal texts in any file, and no others."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from research.data import fingerprints
from research.data.corpora import load
from research.data.fingerprints import find_matches, fingerprint_run, fingerprint_texts, no_fingerprints

SENTENCE = "the plot is thin but the actors carry every scene with warmth and wit until the quiet end"


def found(text, others):
    equal, near = find_matches(fingerprint_texts([text], trained=False), fingerprint_texts(others, trained=True))
    return bool(equal[0]), bool(near[0])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (SENTENCE, (True, False)),
        (f"  {SENTENCE.upper()}!! ", (True, False)),
        (SENTENCE.replace(" ", "\n"), (True, False)),
        (SENTENCE.replace("thin", "slim"), (False, True)),
        (SENTENCE + " indeed", (False, True)),
        (" ".join(reversed(SENTENCE.split())), (False, True)),
        ("a dull film about nothing that goes on for two hours of my life and then stops", (False, False)),
        ("", (False, False)),
    ],
)
def test_equal_and_near_copies(other, expected):
    assert found(SENTENCE, [other]) == found(other, [SENTENCE]) == expected


def test_short_texts_are_equal_or_different():
    assert found("a fine film", ["A fine film."]) == (True, False)
    assert found("a fine film", ["a fine movie"]) == (False, False)
    assert found("😀", ["😀"]) == (True, False)
    assert found("😀", ["😡", ""]) == (False, False)


def test_chinese_texts_are_read_by_character():
    text = "这家酒店的房间很干净服务员也非常热情下次还会再来"
    assert found(text, [f"{text}。"]) == (True, False)
    assert found(text, [text.replace("这家", "那家")]) == (False, True)


@given(st.lists(st.text(max_size=30), max_size=8), st.integers(1, 3))
def test_texts_are_fingerprinted_one_by_one(texts, chunk):
    """Neither the size of chunks nor the order of texts changes a fingerprint."""
    expected = fingerprint_texts(texts, trained=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprints, "CHUNK", chunk)
        assert np.array_equal(fingerprint_texts(texts, trained=True), expected)
        assert np.array_equal(fingerprint_texts(texts[::-1], trained=True), expected[::-1])
        assert find_matches(expected, expected)[0].all()


def test_nothing_has_been_seen():
    equal, near = find_matches(fingerprint_texts(["a"], trained=False), no_fingerprints())
    assert equal.tolist() == near.tolist() == [False]
    assert len(fingerprint_texts([], trained=True)) == 0


def test_real_texts_are_told_apart_and_edited_ones_found():
    """No different sentence counts as a copy; nearly all sentences with one word left out do."""
    texts = [text for text in load("rotten_tomatoes").texts if len(text.split()) > 20]
    first, second = fingerprint_texts(texts[::2], trained=True), fingerprint_texts(texts[1::2], trained=False)
    equal, near = find_matches(second, first)
    assert equal.sum() == 0
    assert near.sum() <= 3
    words = [text.split() for text in texts[::2]]
    edited = fingerprint_texts([" ".join(w[:5] + w[6:]) for w in words], trained=False)
    equal, near = find_matches(edited, first)
    assert (equal | near).mean() > 0.9


def test_a_run_sees_what_it_trains_on_and_chooses_by(small_corpus):
    found = fingerprint_run(small_corpus, np.array([3, 5]), np.array([7]))
    assert found["trained"].tolist() == [True, True, False]
    expected = fingerprint_texts([small_corpus.texts[i] for i in (3, 5, 7)], trained=False)
    assert np.array_equal(found["words"], expected["words"])
