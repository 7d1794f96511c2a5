"""The audit finds problems in a corpus, and cleaning removes them."""

import itertools
import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from research.data.audit import audit, clean, describe_problems
from research.data.corpora import load, make_corpus
from research.data.reader import Row
from research.errors import UserError


def corpus_of(**splits):
    return make_corpus("c", {split: [Row(t, label, "", "f") for t, label in rows] for split, rows in splits.items()})


MESSY = {
    "train": [
        ("A fine film", "1"),
        ("A fine film", "1"),
        ("film, a fine", "1"),
        ("dull", "0"),
        ("DULL ", "1"),
        ("x", "0"),
        ("y", "1"),
    ],
    "test": [("a fine film!", "1"), ("seen once", "0"), ("?", "0"), ("!", "1")],
}


def test_repeats_leaks_and_contradictions_are_counted():
    found = audit(corpus_of(**MESSY))
    assert found == (1, 2, 3, 2)
    said = describe_problems(found, corpus_of(**MESSY))
    assert said.startswith(
        "c: 1 text(s) repeat another (never across a split that is made here); 2 text(s) with all or nearly"
    )
    assert "3 training or validation text(s) are also test texts; 2 text(s) have several labels" in said


def test_repeats_under_another_label_are_no_near_copies():
    texts = [("one and the same", "0"), ("one and the same", "1"), ("another", "0"), ("Another!", "0"), ("more", "1")]
    assert audit(corpus_of(train=texts)) == (1, 1, 0, 2)


def test_cleaning_keeps_the_test_text_and_leaves_nothing_to_find():
    cleaned = clean(corpus_of(**MESSY))
    kept = {split: sorted(np.array(cleaned.texts)[cleaned.splits == split]) for split in ("train", "test")}
    assert kept == {"train": ["x", "y"], "test": ["!", "?", "a fine film!", "seen once"]}
    assert cleaned.cleaned
    assert audit(cleaned) == (0, 0, 0, 0)
    assert describe_problems(audit(cleaned), cleaned) == ""


def test_cleaning_that_leaves_nothing_to_train_on_is_a_sentence():
    texts = [("one", "0"), ("two", "1"), ("three", "0"), ("four", "1")]
    both = [(text, label) for text, _ in texts for label in "01"]
    for corpus in (corpus_of(train=texts, test=texts), corpus_of(train=both)):
        with pytest.raises(UserError, match="no text is left to train on"):
            clean(corpus)


def test_a_clean_corpus_stays_itself(small_tsv):
    corpus = load(small_tsv)
    assert describe_problems(audit(corpus), corpus) == ""
    assert clean(corpus).texts == corpus.texts


EDITED = re.findall(r"\w+", "it is a long sentence of quite some words which somebody wrote down")  # 13


def test_edited_copies_are_nearly_alike():
    """One word of 13 more is 13 in 14 of both; another word in place of one is 12 in 14."""
    copy, changed = " ".join(["so", *EDITED]), " ".join(["so", *EDITED[1:]])
    rows = [(" ".join(EDITED), "1"), (copy, "1"), (changed + " they say", "1")]
    corpus = corpus_of(train=[*rows, ("x", "0")], test=[("y", "0"), (copy + "!", "1"), (" ".join(EDITED[:9]), "1")])
    assert audit(corpus) == (0, 2, 2, 0)
    cleaned = clean(corpus)
    assert sorted(cleaned.texts) == sorted([copy + "!", rows[2][0], " ".join(EDITED[:9]), "x", "y"])
    assert audit(cleaned) == (0, 0, 0, 0)


def test_a_word_more_under_another_label_is_another_text():
    corpus = corpus_of(all=[(" ".join(EDITED), "1"), (" ".join(["not", *EDITED]), "0"), ("x", "1"), ("y", "0")])
    assert audit(corpus) == (0, 0, 0, 0)


def test_chinese_texts_are_compared_by_characters():
    text = "这家酒店的房间很干净服务也不错"
    corpus = corpus_of(all=[(text, "1"), (text + "啊", "1"), ("不好", "0"), ("难吃", "0")])
    assert audit(corpus).near == 1


@given(st.lists(st.sets(st.integers(0, 25), min_size=10, max_size=24), min_size=2, max_size=12))
def test_no_pair_is_missed(sets):
    texts = [" ".join(f"w{i}" for i in sorted(words)) for words in sets]
    corpus = corpus_of(all=[*((text, "1") for text in texts), ("x", "0"), ("y", "0"), ("z", "1"), ("z z", "1")])
    cluster = list(range(len(sets)))
    for a, b in itertools.combinations(range(len(sets)), 2):
        if len(sets[a] & sets[b]) >= 0.9 * len(sets[a] | sets[b]):
            cluster = [cluster[a] if c == cluster[b] else c for c in cluster]
    found = audit(corpus)
    assert found.exact + found.near == len(sets) - len(set(cluster))


def test_empty_texts_and_labels_that_may_be_misspelt_are_named():
    texts = [(f"text {i}", "good" if i % 2 else "bad") for i in range(200)]
    corpus = corpus_of(train=[*texts, ("fine", "goood"), ("finer", "goood"), (" ", "bad")])
    said = describe_problems(audit(corpus), corpus)
    rare = "the label 'goood' has 2 text(s) to learn it from, perhaps a misspelt 'good'"
    assert said == f"c: 1 text(s) are empty (--drop_missing leaves them out); {rare}"
    corpus = corpus_of(all=[*texts, *((f"other {i}", "Good") for i in range(19))])
    assert describe_problems(audit(corpus), corpus) == "c: the labels 'Good', 'good' differ only in case"


@pytest.mark.parametrize(
    ("labels", "joined"),
    [
        (["good", "bad", "good#late", "bad#late"], ["bad#late", "good#late"]),
        (["a,b", "b,c", "a,c"], ["a,b", "a,c", "b,c"]),
        (["['a', 'b']", "['b']", "a"], ["['a', 'b']"]),
        (["a|b", "a", "b", "c"], ["a|b"]),
        (["Sci/Tech", "Arts, music", "Health, food"], []),
        (["C#", "F#", "a;b"], []),
    ],
)
def test_labels_that_look_like_several_in_one_are_named(labels, joined):
    corpus = corpus_of(train=[(f"text {i}", label) for i, label in enumerate(labels * 6)])
    said = describe_problems(audit(corpus), corpus)
    assert ("like several labels in one" in said) == bool(joined)
    shown = ", ".join(map(repr, joined))
    number = "label looks" if len(joined) == 1 else "labels look"
    assert not joined or said == (
        f"c: {len(joined)} {number} like several labels in one ({shown}): each is treated as a class of its own"
    )


def test_long_labels_are_shortened():
    corpus = corpus_of(train=[("one", "x" * 99), ("two", "x" * 99), ("three", "X" * 99), ("four", "X" * 99)])
    said = describe_problems(audit(corpus), corpus)
    assert f"the labels '{'X' * 40}...', '{'x' * 40}...' differ only in case" in said


@pytest.mark.parametrize(
    ("labels", "is_refused"),
    [
        ([f"{i / 7:.3f}" for i in range(12)], True),
        ([f"{i % 30 / 10}" for i in range(120)], True),
        ([f"{i}" for i in range(12)], True),
        ([f"{i % 9 / 2}" for i in range(90)], False),  # stars: 0.5, 1.0, ...
        ([f"{i % 40}" for i in range(120)], False),  # numbered classes
    ],
)
def test_labels_that_are_scores_are_refused_with_what_to_do(labels, is_refused):
    texts = [(f"text {i}", label) for i, label in enumerate(labels)]
    if not is_refused:
        assert corpus_of(train=texts, test=texts)
        return
    with pytest.raises(UserError, match=r"the labels are scores \(.*different numbers.*Put the scores into a few bins"):
        corpus_of(train=texts, test=texts)
