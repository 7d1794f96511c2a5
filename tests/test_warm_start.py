"""A run that starts from another one: what it takes, what it says, and what it refuses."""

import jax
import numpy as np
import pytest

from experiments.variants import load_config
from research import restore, runs, train
from research.data.audit import clean
from research.data.corpora import make_corpus
from research.data.files import Row
from research.errors import UserError
from research.training.begin import Run, begin, fresh_state
from research.training.programs import programs_for
from research.training.warm_start import _MOST_ANCESTORS, _lineage, start_from_run

SIZES = ("--config.model.embedding_size=8", "--config.model.hidden_size=16", "--config.training.epochs=1")


def small(*overrides, variant="lstm"):
    return load_config(variant, [*SIZES, *overrides])


@pytest.fixture(scope="module")
def source(small_corpus, tmp_path_factory):
    return train(small("--config.training.select=last"), small_corpus, tmp_path_factory.mktemp("source") / "run")


@pytest.fixture
def easy():
    """Another corpus."""
    return make_corpus("easy", {"train": [Row(f"text {i} is {'ab'[i % 2]}", str(i % 2), "", "f") for i in range(40)]})


def start(config, corpus, folder, **which):
    (begun,) = begin([Run(config, folder, **which)], corpus, None)
    state = fresh_state(programs_for(begun.spec.config, len(corpus.class_names)), begun)
    return begun, state


def test_the_same_run_starts_where_the_other_one_ended(source, small_corpus, tmp_path):
    begun, state = start(small(f"--config.init_from={source}"), small_corpus, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state.params, restore(source).variables["params"])
    taken = start_from_run(state.variables, begun.source, begun.prepared.vocabulary)[1]
    assert sorted(taken.taken) == [
        *("embedding/embedding", "forwards_0/bias", "forwards_0/kernel", "forwards_0/recurrent_kernel"),
        *("head/bias", "head/kernel"),
    ]
    assert taken.fresh == taken.misshaped == taken.skipped == []
    assert taken.words == len(begun.prepared.vocabulary)


def test_rows_of_words_are_found_by_the_words(source, small_corpus, tmp_path):
    """With another vocabulary, of another size: its words have the vectors that they had, others fresh ones."""
    fresh = start(small("--config.data.vocab_size=300"), small_corpus, tmp_path)[1]
    config = small("--config.data.vocab_size=300", f"--config.init_from={source}")
    begun, state = start(config, small_corpus, tmp_path)
    there = restore(source)
    ours, theirs, untouched = (
        np.asarray(params["embedding"]["embedding"])
        for params in (state.params, there.variables["params"], fresh.params)
    )
    assert len(ours) == 300
    both = begun.prepared.vocabulary.keys() & there.vocabulary.keys()
    assert len(both) > 200
    for word, row in begun.prepared.vocabulary.items():
        np.testing.assert_array_equal(ours[row], theirs[there.vocabulary[word]] if word in both else untouched[row])


def test_what_has_no_place_or_another_shape_is_named(source, small_corpus, tmp_path):
    config = small("--config.model.layers=2", "--config.model.embedding_size=4", f"--config.init_from={source}")
    folder = train(config, small_corpus, tmp_path / "run")
    what = runs.read_json(folder / runs.RECORD)["init_from"]
    assert what["fresh"] == ["forwards_1/bias", "forwards_1/kernel", "forwards_1/recurrent_kernel"]
    assert what["misshaped"] == [
        "embedding/embedding [10000, 8] there, [10000, 4] here",
        "forwards_0/kernel [8, 64] there, [4, 64] here",
    ]
    assert what["taken"] == ["forwards_0/bias", "forwards_0/recurrent_kernel", "head/bias", "head/kernel"]
    back = small(f"--config.init_from={folder}", "--config.model.embedding_size=4")
    begun, state = start(back, small_corpus, tmp_path / "back")
    skipped = start_from_run(state.variables, begun.source, begun.prepared.vocabulary)[1].skipped
    assert skipped == ["forwards_1/bias", "forwards_1/kernel", "forwards_1/recurrent_kernel"]


def test_texts_that_the_other_run_trained_on_are_not_held_out(source, small_corpus, tmp_path):
    config = small(f"--config.init_from={source}")
    with pytest.raises(UserError, match=r"was trained on \d+ of the texts that are held out here"):
        train(config, small_corpus, tmp_path / "run", fold=1)
    with pytest.raises(UserError, match=r"was trained on reviews with other content, .* expected the same file"):
        train(config, clean(small_corpus), tmp_path / "run", fold=1)
    assert not (tmp_path / "run").exists()


def test_nor_those_that_a_run_before_it_trained_on(source, small_corpus, easy, tmp_path):
    between = train(small(f"--config.init_from={source}"), easy, tmp_path / "between")
    config = small(f"--config.init_from={between}")
    with pytest.raises(UserError, match=r"between was trained on \d+ of the texts that are held out here"):
        train(config, small_corpus, tmp_path / "run", fold=1)
    # A folder that names itself is no endless story.
    described = runs.read_json(between / runs.CONFIG)
    described["settings"]["init_from"] = str(between)
    runs.write_json(between / runs.CONFIG, described)
    assert len(list(_lineage(described))) == _MOST_ANCESTORS + 1


def test_another_source_is_another_run(source, small_corpus, tmp_path):
    config = small(f"--config.init_from={source}")
    train(config, small_corpus, tmp_path / "run")
    with pytest.raises(UserError, match="init_from"):
        train(small(), small_corpus, tmp_path / "run")
    checkpoint = next((source / runs.CHECKPOINTS).glob("*/files.sha256"))
    sealed = checkpoint.read_text()
    try:
        checkpoint.write_text(sealed[1:])
        with pytest.raises(UserError, match="init_from_checksum: "):
            train(config, small_corpus, tmp_path / "run")
    finally:
        checkpoint.write_text(sealed)


def test_there_must_be_a_run_and_a_model_that_starts_from_one(source, small_corpus, tmp_path):
    with pytest.raises(UserError, match=r"nothing.config\.json: no such file"):
        train(small("--config.init_from=nothing"), small_corpus, tmp_path / "run")
    with pytest.raises(UserError, match="starts from its training texts"):
        train(load_config("linear", [f"--config.init_from={source}"]), small_corpus, tmp_path / "run")
