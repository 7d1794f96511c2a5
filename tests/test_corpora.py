"""Labels, ids, groups and checksums of corpora do not depend on the order of rows."""

import numpy as np
import pytest

from research.data.corpora import load, make_corpus
from research.data.reader import Row
from research.errors import UserError


def rows(*pairs, group=""):
    return [Row(text, label, group, f"f.tsv:{i}") for i, (text, label) in enumerate(pairs, 1)]


FOUR = rows(("a", "0"), ("b", "1"), ("c", "0"), ("d", "1"))


def test_known_corpora_are_as_documented():
    corpus = load("rotten_tomatoes")
    assert len(corpus) == 8530
    assert corpus.class_names == ("0", "1")
    assert np.bincount(corpus.labels).tolist() == [4265, 4265]


def test_the_order_of_rows_changes_nothing():
    one, other = make_corpus("x", {"all": FOUR}), make_corpus("x", {"all": FOUR[::-1]})
    assert one.checksum == other.checksum
    assert one.texts == other.texts
    assert one.ids.tolist() == other.ids.tolist()
    assert one.labels.tolist() == other.labels.tolist()


def test_another_text_label_or_split_changes_the_checksum():
    checksums = {
        make_corpus("x", splits).checksum
        for splits in (
            {"all": FOUR},
            {"train": FOUR},
            {"train": FOUR, "test": rows(("e", "0"))},
            {"all": rows(("a", "0"), ("b", "1"), ("c", "1"), ("d", "0"))},
            {"all": rows(("a", "0"), ("b", "1"), ("c", "0"), ("D", "1"))},
        )
    }
    assert len(checksums) == 5


def test_classes_are_ordered_as_people_count():
    for given, expected in ((("10", "9", "-1"), ("-1", "9", "10")), (("neu", "10", "9"), ("10", "9", "neu"))):
        splits = {"train": rows(*zip("abc", given, strict=True)), "test": rows(("d", given[0]))}
        assert make_corpus("x", splits).class_names == expected


def test_duplicates_keep_their_own_ids_and_share_a_group():
    corpus = make_corpus("x", {"all": rows(("a", "0"), ("a", "1"), ("b", "1"), ("b", "0"))})
    assert len(set(corpus.ids)) == 4
    same = [i for i, text in enumerate(corpus.texts) if text == "a"]
    assert corpus.groups[same[0]] == corpus.groups[same[1]]
    assert len(set(corpus.groups)) == 2


def test_groups_join_through_duplicates():
    # a-b share a group, b's text stands again in another group with c: all one component.
    entries = [
        Row("a", "0", "g", "f:1"),
        Row("b", "1", "g", "f:2"),
        Row("b", "1", "h", "f:3"),
        Row("c", "0", "h", "f:4"),
        Row("d", "1", "", "f:5"),
    ]
    corpus = make_corpus("x", {"all": entries})
    assert len(set(corpus.groups)) == 2
    assert make_corpus("x", {"all": entries[::-1]}).checksum == corpus.checksum


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"all": rows(("a", "0"), ("b", "0"))}, "f.tsv: every label is '0', expected at least two classes"),
        ({"all": [*FOUR, Row("e", "label", "", "f.tsv:9")]}, "f.tsv:9: label 'label' has only one text"),
        ({"train": [*FOUR, Row("e", "3", "", "f.tsv:9")]}, "f.tsv:9: label '3' has only one text"),
        ({"train": FOUR, "test": rows(("e", "2"))}, "f.tsv:1: label '2' was not trained on, expected one of 0, 1"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(splits, words):
    with pytest.raises(UserError, match=words):
        make_corpus("x", splits)


def test_a_label_that_occurs_once_may_be_trained_on_where_the_splits_are_fixed():
    corpus = make_corpus("x", {"train": [*FOUR, Row("e", "2", "", "")], "test": rows(("f", "1"))})
    assert corpus.class_names == ("0", "1", "2")


def test_to_evaluate_a_run_the_classes_are_its_own():
    corpus = make_corpus("x", {"all": rows(("a", "b"))}, classes=("a", "b", "c"))
    assert corpus.labels.tolist() == [1]
    with pytest.raises(UserError, match="label 'z' was not trained on"):
        make_corpus("x", {"all": rows(("a", "z"))}, classes=("a", "b"))


def test_an_unknown_corpus_names_the_known_ones(tmp_path):
    with pytest.raises(UserError, match="rotten_tomatoes, imdb, zh_reviews"):
        load(tmp_path / "nothing")
