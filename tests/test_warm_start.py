"""Runs that start from another run: which parameters they use, what they report, and what they refuse."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest

from experiments.variants import load_config
from research import restore
from research.data.audit import clean
from research.data.corpora import make_corpus
from research.data.reader import Row
from research.data.splits import split_corpus
from research.errors import UserError
from research.json_files import write_json
from research.runs import run_files
from research.runs.prepare import Run, fresh_state, prepare_run
from research.runs.train import train
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
    """A corpus whose texts are not in the small corpus."""
    return make_corpus("easy", {"train": [Row(f"text {i} is {'ab'[i % 2]}", str(i % 2), "", "f") for i in range(40)]})


def start(config, corpus, folder, **which):
    """Return a prepared run and its state before the first step."""
    prepared = prepare_run(Run(config, folder, **which), corpus, None)
    return prepared, fresh_state(programs_for(prepared.spec.config, len(corpus.class_names)), prepared)


def report_start(prepared, state):
    return start_from_run(state.variables, prepared.source.run, prepared.texts.vocabulary).report


def test_a_run_of_the_same_model_starts_with_all_parameters(source, small_corpus, tmp_path):
    prepared, state = start(small(f"--config.init_from={source}"), small_corpus, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state.params, restore(source).variables["params"])
    report = report_start(prepared, state)
    assert sorted(report.taken) == [
        *("embedding/embedding", "forwards_0/bias", "forwards_0/kernel", "forwards_0/recurrent_kernel"),
        *("head/bias", "head/kernel"),
    ]
    assert report.fresh == report.misshaped == report.skipped == []
    assert report.words == len(prepared.texts.vocabulary)


def test_word_vectors_are_matched_by_word(source, small_corpus, tmp_path):
    """With another vocabulary of another size, shared words keep their vectors and others have fresh ones."""
    fresh = start(small("--config.data.vocab_size=300"), small_corpus, tmp_path)[1]
    config = small("--config.data.vocab_size=300", f"--config.init_from={source}")
    prepared, state = start(config, small_corpus, tmp_path)
    restored = restore(source)
    ours, theirs, untouched = (
        np.asarray(params["embedding"]["embedding"])
        for params in (state.params, restored.variables["params"], fresh.params)
    )
    assert len(ours) == 300
    shared = prepared.texts.vocabulary.keys() & restored.vocabulary.keys()
    assert len(shared) > 200
    for word, row in prepared.texts.vocabulary.items():
        expected = theirs[restored.vocabulary[word]] if word in shared else untouched[row]
        np.testing.assert_array_equal(ours[row], expected)


def test_parameters_without_a_match_are_reported(source, small_corpus, tmp_path):
    config = small("--config.model.layers=2", "--config.model.embedding_size=4", f"--config.init_from={source}")
    folder = train(config, small_corpus, tmp_path / "run")
    report = run_files.read_json(folder / run_files.RECORD)["init_from"]
    assert report["fresh"] == ["forwards_1/bias", "forwards_1/kernel", "forwards_1/recurrent_kernel"]
    assert report["misshaped"] == [
        "embedding/embedding [10000, 8] there, [10000, 4] here",
        "forwards_0/kernel [8, 64] there, [4, 64] here",
    ]
    assert report["taken"] == ["forwards_0/bias", "forwards_0/recurrent_kernel", "head/bias", "head/kernel"]
    back = small(f"--config.init_from={folder}", "--config.model.embedding_size=4")
    prepared, state = start(back, small_corpus, tmp_path / "back")
    assert report_start(prepared, state).skipped == [
        "forwards_1/bias",
        "forwards_1/kernel",
        "forwards_1/recurrent_kernel",
    ]


HELD_OUT = r"was trained on \d+ of the texts that are held out here, such as ['\"].+['\"] \(compared by their words"


def test_a_source_that_was_trained_on_held_out_texts_is_refused(source, small_corpus, tmp_path):
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
def test_seen_texts_are_recognised_in_another_file(source, small_corpus, tmp_path, write, suffix, part):
    """The file has another name and format, other case and punctuation, and more or fewer texts."""
    lines = [(text, int(label)) for text, label in zip(small_corpus.texts, small_corpus.labels, strict=True)]
    path = tmp_path / f"others.{suffix}"
    write(lines[:120] if part == "half" else lines[1:], path)
    with pytest.raises(UserError, match=HELD_OUT):
        train(small(f"--config.init_from={source}"), path, tmp_path / "run")


def test_a_copy_that_the_run_trains_on_itself_is_no_leak_of_its_source(easy, tmp_path):
    """The corpus has a text in its training split and, with other punctuation, in its test split."""
    rows = [Row(text, str(label), "", "f") for text, label in zip(easy.texts, easy.labels, strict=True)]
    test = [Row("a pretentious mess !", "0", "", "f"), Row("a fine film", "1", "", "f")]
    corpus = make_corpus("own", {"train": [*rows, Row("A pretentious mess.", "0", "", "f")], "test": test})
    first = train(small(), corpus, tmp_path / "first")
    again = train(small(f"--config.init_from={first}"), corpus, tmp_path / "again")
    assert run_files.read_record(again)["near_copies"] == 0
    without = make_corpus("other", {"train": rows, "test": test})  # without the copy it is a leak
    with pytest.raises(UserError, match=HELD_OUT):
        train(small(f"--config.init_from={first}"), without, tmp_path / "other")


def test_near_copies_are_counted_and_warned_of(source, small_corpus, easy, tmp_path, caplog):
    """They do not prove that a text was seen, so the source is not refused."""
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


def test_texts_of_earlier_sources_count_as_seen(source, small_corpus, easy, tmp_path):
    """Other runs may lie between, and the folders of earlier sources may be gone."""
    copied = tmp_path / "first"
    shutil.copytree(source, copied)
    between = train(small(f"--config.init_from={copied}"), easy, tmp_path / "between")
    shutil.rmtree(copied)
    last = train(small(f"--config.init_from={between}"), easy, tmp_path / "last")
    shutil.rmtree(between)
    with pytest.raises(UserError, match=rf"last {HELD_OUT}"):
        train(small(f"--config.init_from={last}"), small_corpus, tmp_path / "run", fold=1)
    train(small(f"--config.init_from={last}"), small_corpus, tmp_path / "run", fold=0)


def copy_as_earlier_version(source, folder):
    """Copy a run without its fingerprints, as versions before fingerprints left it."""
    shutil.copytree(source, folder)
    (folder / run_files.SEEN).unlink()
    return folder


def test_the_seen_texts_of_an_earlier_version_come_from_its_corpus(source, small_corpus, tmp_path):
    old = copy_as_earlier_version(source, tmp_path / "old")
    with pytest.raises(UserError, match=HELD_OUT):
        train(small(f"--config.init_from={old}"), small_corpus, tmp_path / "run", fold=1)
    with pytest.raises(UserError, match=HELD_OUT):
        train(small(f"--config.init_from={old}"), clean(small_corpus), tmp_path / "run", fold=1)
    train(small(f"--config.init_from={old}"), small_corpus, tmp_path / "run", fold=0)


def test_a_warning_says_once_that_the_seen_texts_are_unknown(source, small_corpus, easy, tmp_path, caplog):
    old = copy_as_earlier_version(source, tmp_path / "old")
    description = run_files.read_json(old / run_files.CONFIG)
    description["corpus"] |= {"source": str(tmp_path / "gone.tsv"), "checksum": "0"}
    description["settings"]["init_from"] = str(old)  # a folder that names itself must not cause an endless loop
    write_json(old / run_files.CONFIG, description)
    for repeat in (0, 1):
        train(small(f"--config.init_from={old}"), small_corpus, tmp_path / f"run{repeat}", repeat=repeat)
    warning = f"{old}: an earlier version trained this run and did not record its texts, so it is unknown"
    assert sum(record.getMessage().startswith(warning) for record in caplog.records) == 1


def test_a_run_with_another_source_is_another_run(source, small_corpus, tmp_path):
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


def test_the_source_must_exist_and_the_model_must_support_it(source, small_corpus, tmp_path):
    with pytest.raises(UserError, match=r"nothing.config\.json: no such file"):
        train(small("--config.init_from=nothing"), small_corpus, tmp_path / "run")
    with pytest.raises(UserError, match="starts from its training texts"):
        train(load_config("linear", [f"--config.init_from={source}"]), small_corpus, tmp_path / "run")
