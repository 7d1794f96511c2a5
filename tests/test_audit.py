import numpy as np

from research.data.audit import audit, clean, sentence
from research.data.corpora import load, make_corpus
from research.data.files import Row


def corpus_of(**splits):
    return make_corpus("c", {split: [Row(t, label, "", "f") for t, label in rows] for split, rows in splits.items()})


MESSY = {
    "train": [
        ("A fine film", "1"),
        ("A fine film", "1"),
        ("film, a fine", "1"),
        ("dull", "0"),
        ("dull!", "1"),
        ("x", "0"),
        ("y", "1"),
    ],
    "test": [("a fine film!", "1"), ("seen once", "0"), ("?", "0"), ("!", "1")],
}


def test_repeats_leaks_and_contradictions_are_counted():
    found = audit(corpus_of(**MESSY))
    assert found == (1, 3, 3, 2)
    said = sentence(found, corpus_of(**MESSY))
    assert said.startswith("c: 1 texts repeat another and 3 have the very words")
    assert "3 training or validation texts are also test texts; 2 texts stand under several labels" in said


def test_cleaning_keeps_the_test_text_and_leaves_nothing_to_find():
    cleaned = clean(corpus_of(**MESSY))
    kept = {split: sorted(np.array(cleaned.texts)[cleaned.splits == split]) for split in ("train", "test")}
    assert kept == {"train": ["x", "y"], "test": ["!", "?", "a fine film!", "seen once"]}
    assert cleaned.cleaned
    assert audit(cleaned) == (0, 0, 0, 0)
    assert sentence(audit(cleaned), cleaned) == ""


def test_a_clean_corpus_stays_itself(small_tsv):
    corpus = load(small_tsv)
    assert sentence(audit(corpus), corpus) == ""
    assert clean(corpus).texts == corpus.texts
