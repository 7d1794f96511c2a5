"""A run that starts from another one: what it takes, what it says, and what it refuses."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest

from experiments.variants import load_config
from research import restore, train
from research.data.audit import clean
from research.data.corpora import make_corpus
from research.data.reader import Row
from research.data.splits import split_corpus
from research.errors import UserError
from research.json_files import write_json
from research.runs import run_files
from research.runs.prepare import Run, fresh_state, prepare_run
from research.runs.warm_start import start_from_run
from research.training.programs import programs_for

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
    begun = prepare_run(Run(config, folder, **which), corpus, None)
    state = fresh_state(programs_for(begun.spec.config, len(corpus.class_names)), begun)
    return begun, state


def test_the_same_run_starts_where_the_other_one_ended(source, small_corpus, tmp_path):
    begun, state = start(small(f"--config.init_from={source}"), small_corpus, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state.params, restore(source).variables["params"])
    taken = start_from_run(state.variables, begun.source.run, begun.texts.vocabulary)[1]
    assert sorted(taken.taken) == [
        *("embedding/embedding", "forwards_0/bias", "forwards_0/kernel", "forwards_0/recurrent_kernel"),
        *("head/bias", "head/kernel"),
    ]
    assert taken.fresh == taken.misshaped == taken.skipped == []
    assert taken.words == len(begun.texts.vocabulary)


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
    both = begun.texts.vocabulary.keys() & there.vocabulary.keys()
    assert len(both) > 200
    for word, row in begun.texts.vocabulary.items():
        np.testing.assert_array_equal(ours[row], theirs[there.vocabulary[word]] if word in both else untouched[row])


def test_what_has_no_place_or_another_shape_is_named(source, small_corpus, tmp_path):
    config = small("--config.model.layers=2", "--config.model.embedding_size=4", f"--config.init_from={source}")
    folder = train(config, small_corpus, tmp_path / "run")
    what = run_files.read_json(folder / run_files.RECORD)["init_from"]
    assert what["fresh"] == ["forwards_1/bias", "forwards_1/kernel", "forwards_1/recurrent_kernel"]
    assert what["misshaped"] == [
        "embedding/embedding [10000, 8] there, [10000, 4] here",
        "forwards_0/kernel [8, 64] there, [4, 64] here",
    ]
    assert what["taken"] == ["forwards_0/bias", "forwards_0/recurrent_kernel", "head/bias", "head/kernel"]
    back = small(f"--config.init_from={folder}", "--config.model.embedding_size=4")
    begun, state = start(back, small_corpus, tmp_path / "back")
    skipped = start_from_run(state.variables, begun.source.run, begun.texts.vocabulary)[1].skipped
    assert skipped == ["forwards_1/bias", "forwards_1/kernel", "forwards_1/recurrent_kernel"]


HELD_OUT = r"was trained on \d+ of the texts that are held out here, such as ['\"].+['\"], whatever file they came from"


def test_texts_that_the_other_run_trained_on_are_not_held_out(source, small_corpus, tmp_path):
    config = small(f"--config.init_from={source}")
    for corpus in (small_corpus, clean(small_corpus)):
        with pytest.raises(UserError, match=HELD_OUT):
            train(config, corpus, tmp_path / "run", fold=1)
    assert not (tmp_path / "run").exists()


def as_tsv(lines, path):
    path.write_text("".join(f"{text}\t{label}\n" for text, label in lines))


def as_csv(lines, path):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((f"  {text.upper()}!", label) for text, label in lines)])


def as_jsonl(lines, path):
    path.write_text("".join(json.dumps({"text": f"{text} ", "label": label}) + "\n" for text, label in lines))


@pytest.mark.parametrize(("write", "suffix"), [(as_tsv, "tsv"), (as_csv, "csv"), (as_jsonl, "jsonl")])
@pytest.mark.parametrize("part", ["half", "one line less"])
def test_whatever_file_they_come_from(source, small_corpus, tmp_path, write, suffix, part):
    """Of another name and kind, in other words of case and punctuation, and with other texts around them."""
    lines = [(text, int(label)) for text, label in zip(small_corpus.texts, small_corpus.labels, strict=True)]
    path = tmp_path / f"others.{suffix}"
    write(lines[:120] if part == "half" else lines[1:], path)
    with pytest.raises(UserError, match=HELD_OUT):
        train(small(f"--config.init_from={source}"), path, tmp_path / "run")


def test_a_copy_that_a_run_trains_on_itself_is_no_leak_of_its_source(easy, tmp_path):
    """The corpus has the text in training and, with other punctuation, in its test: that is its own affair."""
    rows = [Row(text, str(label), "", "f") for text, label in zip(easy.texts, easy.labels, strict=True)]
    test = [Row("a pretentious mess !", "0", "", "f"), Row("a fine film", "1", "", "f")]
    corpus = make_corpus("own", {"train": [*rows, Row("A pretentious mess.", "0", "", "f")], "test": test})
    first = train(small(), corpus, tmp_path / "first")
    again = train(small(f"--config.init_from={first}"), corpus, tmp_path / "again")
    assert run_files.read_record(again)["near_copies"] == 0
    without = make_corpus("other", {"train": rows, "test": test})  # of a run that does not train on it, it is one
    with pytest.raises(UserError, match=HELD_OUT):
        train(small(f"--config.init_from={first}"), without, tmp_path / "other")


def test_near_copies_are_counted_and_said(source, small_corpus, easy, tmp_path, caplog):
    """They are no proof that a text was seen, so they are not refused."""
    trained_on = split_corpus(small_corpus, 0, folds=5, fold=0, repeat=0).train
    long = [small_corpus.texts[i] for i in trained_on if len(set(small_corpus.texts[i].split())) > 24][:6]
    rows = [Row(text + " indeed", str(n % 2), "", "f") for n, text in enumerate(long)]
    train_rows = [
        Row(text, easy.class_names[label], "", "f") for text, label in zip(easy.texts, easy.labels, strict=True)
    ]
    corpus = make_corpus("edited", {"train": train_rows, "test": rows})
    folder = train(small(f"--config.init_from={source}"), corpus, tmp_path / "run")
    assert run_files.read_record(folder)["near_copies"] == len(long) == 6
    assert "was trained on near copies of 6 of the texts that are held out here" in caplog.text


def test_nor_those_that_a_run_before_it_trained_on(source, small_corpus, easy, tmp_path):
    """However many runs lie between, and though their folders are gone."""
    copied = tmp_path / "first"
    shutil.copytree(source, copied)
    between = train(small(f"--config.init_from={copied}"), easy, tmp_path / "between")
    shutil.rmtree(copied)
    last = train(small(f"--config.init_from={between}"), easy, tmp_path / "last")
    shutil.rmtree(between)
    with pytest.raises(UserError, match=rf"last {HELD_OUT}"):
        train(small(f"--config.init_from={last}"), small_corpus, tmp_path / "run", fold=1)
    train(small(f"--config.init_from={last}"), small_corpus, tmp_path / "run", fold=0)


def earlier_version(source, folder):
    """A run as it was left before runs kept what they had seen."""
    shutil.copytree(source, folder)
    (folder / run_files.SEEN).unlink()
    return folder


def test_of_an_earlier_version_it_is_found_out_where_its_corpus_is_there(source, small_corpus, tmp_path):
    old = earlier_version(source, tmp_path / "old")
    with pytest.raises(UserError, match=HELD_OUT):
        train(small(f"--config.init_from={old}"), small_corpus, tmp_path / "run", fold=1)
    with pytest.raises(UserError, match=HELD_OUT):
        train(small(f"--config.init_from={old}"), clean(small_corpus), tmp_path / "run", fold=1)
    train(small(f"--config.init_from={old}"), small_corpus, tmp_path / "run", fold=0)


def test_else_it_is_said_once_that_nobody_can_tell(source, small_corpus, easy, tmp_path, caplog):
    old = earlier_version(source, tmp_path / "old")
    described = run_files.read_json(old / run_files.CONFIG)
    described["corpus"] |= {"source": str(tmp_path / "gone.tsv"), "checksum": "0"}
    described["settings"]["init_from"] = str(old)  # a folder that names itself is no endless story
    write_json(old / run_files.CONFIG, described)
    for repeat in (0, 1):
        train(small(f"--config.init_from={old}"), small_corpus, tmp_path / f"run{repeat}", repeat=repeat)
    said = f"{old}: an earlier version trained it and did not keep which texts it saw, so nobody can tell"
    assert sum(record.getMessage().startswith(said) for record in caplog.records) == 1


def test_another_source_is_another_run(source, small_corpus, tmp_path):
    config = small(f"--config.init_from={source}")
    train(config, small_corpus, tmp_path / "run")
    with pytest.raises(UserError, match="init_from"):
        train(small(), small_corpus, tmp_path / "run")
    checkpoint = next((source / run_files.CHECKPOINTS).glob("*/files.sha256"))
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
