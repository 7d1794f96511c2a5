"""Splits are stratified, keep groups together, and depend only on the texts and the seed."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given

from research.data.corpora import make_corpus
from research.data.reader import Row
from research.data.splits import resolve_folds, split_corpus, stream_seed
from research.errors import UserError


def corpus_of(texts, labels, groups=None, split="all", **others):
    groups = groups or [""] * len(texts)
    rows = [Row(t, str(c), g, "f:1") for t, c, g in zip(texts, labels, groups, strict=True)]
    return make_corpus("x", {split: rows, **others})


@st.composite
def corpora(draw):
    count = draw(st.integers(12, 80))
    texts = [f"text {draw(st.integers(0, 60))}" for _ in range(count)]  # with duplicates
    labels = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    groups = draw(st.lists(st.sampled_from(["", "", "", "g", "h"]), min_size=count, max_size=count))
    try:
        return corpus_of(texts, labels, groups)
    except UserError:
        assume(False)


@given(corpora(), st.integers(2, 5), st.integers(0, 3))
def test_every_text_is_tested_once_a_repeat_and_no_group_straddles(corpus, folds, repeat):
    assume(len(set(corpus.groups)) >= 3 * folds)
    tested = []
    for fold in range(folds):
        try:
            split = split_corpus(corpus, 0, folds=folds, fold=fold, repeat=repeat)
        except UserError as error:  # one huge group a class
            assume("no text can be spared" not in str(error))
            raise
        parts = [set(part) for part in split]
        assert sorted(index for part in parts for index in part) == list(range(len(corpus)))
        assert len(split.validation) > 0
        groups = [set(corpus.groups[part]) for part in split]
        assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
        tested += split.test.tolist()
    assert sorted(tested) == list(range(len(corpus)))


def test_classes_are_spread_evenly():
    corpus = corpus_of([f"t{i}" for i in range(200)], [int(i < 40) for i in range(200)])
    for fold in range(5):
        split = split_corpus(corpus, 0, folds=5, fold=fold, repeat=0)
        assert np.bincount(corpus.labels[split.test]).tolist() == [32, 8]
        assert np.bincount(corpus.labels[split.validation]).tolist() == [13, 3]


def test_splits_follow_the_texts_and_the_seed_alone():
    texts, labels = [f"t{i}" for i in range(60)], [i % 3 for i in range(60)]

    def tested(corpus, seed, repeat=0):
        split = split_corpus(corpus, seed, folds=5, fold=1, repeat=repeat)
        return {corpus.texts[i] for i in split.test}, {corpus.texts[i] for i in split.validation}

    there, back = corpus_of(texts, labels), corpus_of(texts[::-1], labels[::-1])
    assert tested(there, 7) == tested(back, 7)
    assert tested(there, 7)[0] != tested(there, 8)[0]
    assert tested(there, 7)[0] != tested(there, 7, repeat=1)[0]


def test_given_splits_are_kept():
    others = {"test": [Row("x", "0", "", "")], "validation": [Row("y", "1", "", "")]}
    corpus = corpus_of(["a", "b", "c", "d"], [0, 1, 0, 1], split="train", **others)
    split = split_corpus(corpus, 0, folds=0, fold=0, repeat=0)
    assert [{corpus.texts[i] for i in part} for part in split] == [{"a", "b", "c", "d"}, {"y"}, {"x"}]
    with pytest.raises(UserError, match="a test split of its own"):
        split_corpus(corpus, 0, folds=5, fold=0, repeat=0)


def test_with_a_given_test_split_validation_varies_by_repeat():
    test = [Row("x", "0", "", "")]
    corpus = corpus_of([f"t{i}" for i in range(60)], [i % 2 for i in range(60)], split="train", test=test)
    splits = [split_corpus(corpus, 0, folds=0, fold=0, repeat=repeat) for repeat in range(2)]
    assert len(splits[0].validation) == 6
    assert set(splits[0].validation) != set(splits[1].validation)
    assert splits[0].test.tolist() == splits[1].test.tolist()


def test_the_only_text_of_a_class_is_trained_on():
    corpus = corpus_of([f"t{i}" for i in range(21)], [0] * 20 + [1], split="train", test=[Row("x", "0", "", "")])
    for repeat in range(5):
        split = split_corpus(corpus, 0, folds=0, fold=0, repeat=repeat)
        assert 1 in corpus.labels[split.train]


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (13, 0), (0, 1), (5, 5), (5, -1)])
def test_folds_that_do_not_fit_are_refused(folds, fold):
    corpus = corpus_of([f"t{i}" for i in range(12)], [i % 2 for i in range(12)])
    with pytest.raises(UserError, match=r"folds? is"):
        split_corpus(corpus, 0, folds=folds, fold=fold, repeat=0)


def test_without_folds_no_text_is_tested_unless_the_corpus_has_a_test_split():
    corpus = corpus_of([f"t{i}" for i in range(40)], [i % 2 for i in range(40)])
    split = split_corpus(corpus, 0, folds=0, fold=0, repeat=0, validation_fraction=0.25)
    assert [len(part) for part in split] == [30, 10, 0]
    assert resolve_folds(corpus, 0, needs_test=False) == 0
    with pytest.raises(UserError, match="tests no text"):
        resolve_folds(corpus, 0)


def test_streams_are_named():
    seeds = [stream_seed(*key) for key in ((0, "init", 0, 0), (0, "order", 0, 0), (0, "init", 1, 0), (1, "init", 0, 0))]
    assert len(set(seeds)) == 4
    assert seeds[0] == 2833932891  # pinned: another value would change every published run


def test_training_sizes_are_nested_and_stratified():
    corpus = corpus_of([f"text {i}" for i in range(200)], [int(i % 4 == 0) for i in range(200)])
    whole = split_corpus(corpus, 0, folds=4, fold=0, repeat=0)
    splits = [split_corpus(corpus, 0, folds=4, fold=0, repeat=0, train_size=size) for size in (20, 60)]
    assert [len(split.train) for split in splits] == [20, 60]
    assert set(splits[0].train) < set(splits[1].train) < set(whole.train)
    assert [int(corpus.labels[split.train].sum()) for split in splits] == [5, 15]
    for split in splits:
        assert split.test.tolist() == whole.test.tolist()
        # Nobody who trains on so few texts has more to choose on.
        assert len(split.validation) == min(len(split.train), len(whole.validation)) in (15, 20)
        assert set(split.validation) <= set(whole.validation)
    for size in range(1, 30):  # whatever the classes' shares round to
        assert len(split_corpus(corpus, 0, folds=4, fold=0, repeat=0, train_size=size).train) == size
    other = split_corpus(corpus, 0, folds=4, fold=0, repeat=1, train_size=20)
    assert set(other.train) != set(splits[0].train)
    with pytest.raises(UserError, match="train_size is 500, expected at most the 135 training texts"):
        split_corpus(corpus, 0, folds=4, fold=0, repeat=0, train_size=500)


def test_what_a_fold_tests_does_not_choose_its_epoch():
    """Of a folder with a validation file and no test file: copies of validation texts may stand in it."""
    texts, labels = [f"t{i}" for i in range(40)], [i % 2 for i in range(40)]
    validation = [Row(text, str(label), "", "f:1") for text, label in zip(texts[:10], labels[:10], strict=True)]
    validation += [Row("another", "0", "", "f:1")]
    corpus = corpus_of(texts, labels, split="train", validation=validation)
    kept = 0
    for fold in range(4):
        split = split_corpus(corpus, 0, folds=4, fold=fold, repeat=0)
        assert not set(corpus.groups[split.validation]) & set(corpus.groups[split.test])
        kept += len(split.validation)
    assert kept == 4 * 11 - 10
    only = corpus_of(texts, labels, split="train", validation=validation[:1])
    with pytest.raises(UserError, match="all validation texts are tested in fold"):
        for fold in range(4):
            split_corpus(only, 0, folds=4, fold=fold, repeat=0)
