"""Pre-training as a whole: killed and resumed to the byte, what it leaves is started from, mistakes are sentences."""

import json
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments.grid import expand
from experiments.variants import load_config
from research import restore, train
from research.data.corpora import load, make_corpus
from research.data.reader import Row
from research.data.safetensors import read_tensors
from research.errors import UserError
from research.pretraining.preparation import for_pretraining
from research.pretraining.pretrain import pretrain
from research.runs import resume as history
from research.runs import run_files
from research.runs.prepare import Run, fresh_state, prepare_run
from research.runs.restore import restore_source
from research.runs.train import RunOptions
from research.serving.huggingface import write_encoder
from research.training.programs import programs_for
from tests.comparing import compare_into
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("no_plots")

SIZES = {
    "bert:tiny": (
        *("model.hidden_size=16", "model.feed_forward=32", "model.layers=1"),
        *("data.max_length=24", "data.vocab_size=300"),
    ),
    "lstm": ("model.embedding_size=8", "model.hidden_size=16", "data.max_length=24", "data.vocab_size=300"),
}
SMALL = ("training.epochs=3", "training.batch_size=16")
# A checkpoint after every few steps.
PROGRAM = """
import runpy, sys
from research.runs import resume as history
history.SAVE_SECONDS = 0.1
sys.argv = sys.argv[1:]
runpy.run_module("experiments.pretrain", run_name="__main__")
"""


def flags_of(variant, *overrides):
    return [f"--config.{override}" for override in (*SIZES[variant], *SMALL, *overrides)]


def config_of(variant, *overrides):
    return load_config(variant, flags_of(variant, *overrides), for_pretraining)


@pytest.fixture(scope="module")
def plain(small_tsv, tmp_path_factory):
    """The texts of the small corpus without their labels."""
    path = tmp_path_factory.mktemp("plain") / "plain.txt"
    path.write_text("".join(line.split("\t")[0] + "\n" for line in small_tsv.read_text().splitlines()))
    return path


@pytest.fixture(scope="module")
def encoder(plain, tmp_path_factory):
    """A run of bert."""
    return pretrain(config_of("bert:tiny"), plain, tmp_path_factory.mktemp("encoder") / "run")


@pytest.fixture(scope="module")
def language_models(small_corpus, tmp_path_factory):
    """Runs of lstm on the training texts of two folds of two, by a folder's name for each."""
    folder = tmp_path_factory.mktemp("lm")
    for fold in (0, 1):
        pretrain(config_of("lstm"), small_corpus, folder / f"fold{fold}", folds=2, fold=fold)
    return str(folder / "fold{fold}")


def contents(folder):
    """The bytes that must not differ between two makings of a run."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("encoder/*")}
    found |= {name: (folder / name).read_bytes() for name in (run_files.METRICS, run_files.TOKENIZER, run_files.CONFIG)}
    leaves = jax.tree.leaves(restore_source(folder).variables)
    return found | {"parameters": b"".join(np.asarray(leaf).tobytes() for leaf in leaves)}


def test_a_run_leaves_what_others_start_from(encoder):
    assert sorted(path.name for path in encoder.iterdir()) == [
        *("checkpoints", "config.json", "encoder", "metrics.jsonl", "record.json", "seen_texts.npy", "tokenizer.json")
    ]
    record, records = run_files.read_json(encoder / run_files.RECORD), run_files.read_metrics(encoder)
    assert record["status"] == "done"
    assert record["best_epoch"] == 3
    assert record["ordered_rows"] > 0
    assert [r["split"] for r in records] == ["train", "validation"] * 3
    assert records[-2]["loss"] < records[0]["loss"]
    assert {"accuracy", "order_loss", "order_accuracy"} < records[0].keys()


def test_a_killed_process_goes_on_as_if_it_had_not_been(plain, tmp_path):
    def start(name):
        command = ["--config=bert:tiny", f"--corpus={plain}", f"--workdir={tmp_path / name}"]
        command += flags_of("bert:tiny", "training.epochs=8")
        arguments = [sys.executable, "-P", "-c", PROGRAM, "pretrain", *command]
        return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    whole = start("whole")
    _, error = whole.communicate(timeout=120)
    assert whole.returncode == 0, error
    killed, deadline = start("killed"), time.monotonic() + 120
    steps = []
    while time.monotonic() < deadline and len(steps) < 2:  # in the midst of training, where there is a checkpoint
        steps = list((tmp_path / "killed").glob("checkpoints/[0-9]*/files.sha256"))
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not run_files.is_finished(tmp_path / "killed")
    resumed = start("killed")
    _, error = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, error
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_interrupted_anywhere_it_goes_on_as_if_it_never_was(encoder, plain, tmp_path, monkeypatch):
    """Between two steps of an epoch, which is where Ctrl-C and SIGTERM end it; several times over."""
    monkeypatch.setattr(history, "SAVE_SECONDS", 1e9)
    ticks = []

    def stop(run, done, loss):
        ticks.append(done)
        if len(ticks) in (4, 60):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pretrain(config_of("bert:tiny"), plain, tmp_path / "run", options=RunOptions(on_progress=stop))
    assert ticks[3] < 1 < ticks[-1] < 3
    pretrain(config_of("bert:tiny"), plain, tmp_path / "run", options=RunOptions(on_progress=stop))
    assert contents(tmp_path / "run") == contents(encoder)


@pytest.fixture(scope="module")
def others(small_corpus):
    """Sentences that are not in the small corpus."""
    whole, known = load("rotten_tomatoes"), set(small_corpus.texts)
    rows = [Row(text, str(label), "", "f") for text, label in zip(whole.texts, whole.labels, strict=True)]
    return make_corpus("others", {"all": [row for row in rows if row.text not in known][:120]})


def test_an_encoder_is_opened_by_its_folder_and_beside_it_starts_one_at_random(encoder, others, tmp_path):
    fast = ["--config.training.epochs=1", "--config.data.max_length=8"]
    variants = expand([f"bert:{encoder / 'encoder'}"], fast, ["data.from_scratch=false,true"])
    names = ["bert:encoder[data.from_scratch=false]", "bert:encoder[data.from_scratch=true]"]
    assert [variant.name for variant in variants] == names
    train(variants[1].config, others, tmp_path / "run")
    started = {}
    for variant in variants:
        begun = prepare_run(Run(variant.config, tmp_path / "x"), others, None)
        state = fresh_state(programs_for(begun.spec.config, 2), begun)
        started[variant.config.data.from_scratch] = jax.device_get(state.params)
    there = restore_source(encoder).variables["params"]
    for name in ("encoder", "pooler"):
        same = jax.tree.map(lambda a, b: np.array_equal(a, b), started[False][name], there[name])
        assert all(jax.tree.leaves(same))
    table = [started[which]["encoder"]["embedding"]["embedding"] for which in (False, True)]
    assert table[0].shape == table[1].shape
    assert not np.array_equal(*table)


def test_an_encoder_is_gone_on_with_on_other_texts(encoder, small_tsv, tmp_path):
    """With its own tokenizer, and from all of its tensors: those of the output layers too."""
    source = encoder / "encoder"
    config = load_config(f"bert:{source}", [f"--config.{override}" for override in SMALL], for_pretraining)
    folder = pretrain(config, str(small_tsv), tmp_path / "more")
    assert (
        json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        == (json.loads((source / "tokenizer.json").read_text())["model"]["vocab"])
    )
    assert run_files.read_metrics(folder)[0]["loss"] < run_files.read_metrics(encoder)[0]["loss"]
    names = [read_tensors(path / "model.safetensors").keys() for path in (source, folder / "encoder")]
    assert names[0] == names[1]
    assert "cls.predictions.transform.LayerNorm.weight" in names[0]


def test_a_language_model_is_started_from_by_word_and_name(language_models, small_corpus, tmp_path):
    config = load_config("lstm", [*flags_of("lstm")[:2], f"--config.init_from={language_models}"])
    for fold in (0, 1):
        begun = prepare_run(Run(config, tmp_path / "run", fold), small_corpus, 2)
        params = jax.device_get(fresh_state(programs_for(begun.spec.config, 2), begun).params)
        there = restore_source(language_models.replace("{fold}", str(fold)))
        theirs = there.variables["params"]
        for name in ("bias", "kernel", "recurrent_kernel"):
            np.testing.assert_array_equal(params["forwards_0"][name], theirs["forwards_0"][name])
        words = begun.texts.vocabulary.keys() & there.vocabulary.keys()
        assert len(words) > 250
        for word in words:
            row, other = begun.texts.vocabulary[word], there.vocabulary[word]
            np.testing.assert_array_equal(
                params["embedding"]["embedding"][row], theirs["embedding"]["embedding"][other]
            )


def test_each_fold_starts_from_its_own_one(language_models, small_corpus, tmp_path):
    fast = [*flags_of("lstm")[:2], "--config.training.epochs=1", "--config.data.train_size=60"]
    variants = expand(["lstm"], fast, [f"init_from=none,{language_models}"])
    folder = compare_into(tmp_path / "table", variants, small_corpus, folds=2)
    records = [run_files.read_json(path) for path in sorted(folder.glob("lstm--init_from=*/*/record.json"))]
    assert len(records) == 4
    assert sum("forwards_0/kernel" in record.get("init_from", {}).get("taken", []) for record in records) == 2


def test_texts_that_were_pre_trained_on_are_not_held_out(language_models, small_corpus, tmp_path):
    source = language_models.replace("{fold}", "0")
    config = load_config("lstm", [*flags_of("lstm")[:2], f"--config.init_from={source}"])
    with pytest.raises(UserError, match=r"was trained on \d+ of the texts that are held out here"):
        train(config, small_corpus, tmp_path / "run", folds=2, fold=1)
    whole = pretrain(config_of("lstm", "training.epochs=1"), small_corpus, tmp_path / "whole")
    config.init_from = str(whole)
    with pytest.raises(UserError, match=r"was trained on \d+ of the texts that are held out here"):
        train(config, small_corpus, tmp_path / "run", folds=2, fold=1)


def test_an_encoder_says_what_it_was_pre_trained_on(small_corpus, tmp_path):
    folder = pretrain(config_of("bert:tiny", "training.epochs=1"), small_corpus, tmp_path / "mlm", folds=2, fold=0)
    config = load_config(f"bert:{folder / 'encoder'}", ["--config.training.epochs=1", "--config.data.max_length=8"])
    train(config, small_corpus, tmp_path / "run", folds=2, fold=0)
    with pytest.raises(UserError, match=r"data\.weights: .* was trained on \d+ of the texts that are held out here"):
        train(config, small_corpus, tmp_path / "other", folds=2, fold=1)


@pytest.mark.parametrize("variant", ["bert:tiny", "lstm"])
def test_lines_of_a_plain_file_that_were_pre_trained_on_are_not_held_out(plain, small_corpus, tmp_path, variant):
    folder = pretrain(config_of(variant, "training.epochs=1"), plain, tmp_path / "run")
    fast = ["--config.training.epochs=1", "--config.data.max_length=8"]
    if variant == "lstm":
        config = load_config("lstm", [*flags_of("lstm")[:2], *fast, f"--config.init_from={folder}"])
    else:
        assert (folder / "encoder" / run_files.SEEN).read_bytes() == (folder / run_files.SEEN).read_bytes()
        shutil.move(folder / "encoder", tmp_path / "encoder")
        shutil.rmtree(folder)
        config = load_config(f"bert:{tmp_path / 'encoder'}", fast)
    with pytest.raises(UserError, match=r"was trained on \d+ of the texts that are held out here"):
        train(config, small_corpus, tmp_path / "other")


def test_what_an_encoder_was_fine_tuned_on_goes_with_its_export(encoder, small_tsv, small_corpus, tmp_path):
    """And what it had been pre-trained on, on other texts, before."""
    fast = ["--config.training.epochs=1", "--config.data.max_length=8"]
    half = tmp_path / "half.tsv"
    half.write_text("".join(f"{n} odd words {n % 7}\t{n % 2}\n" for n in range(40)))
    pretrained = pretrain(config_of("bert:tiny", "training.epochs=1"), small_corpus, tmp_path / "mlm", folds=2, fold=0)
    run = train(load_config(f"bert:{pretrained / 'encoder'}", fast), half, tmp_path / "run")
    shutil.rmtree(pretrained)
    exported = write_encoder(run, tmp_path / "exported")
    config = load_config(f"bert:{exported}", fast)
    for corpus, fold in ((half, 1), (small_corpus, 1)):
        with pytest.raises(UserError, match=r"data\.weights: .* was trained on \d+ of the texts that are held out"):
            train(config, corpus, tmp_path / "other", folds=2, fold=fold)


def test_what_was_pre_trained_predicts_nothing(encoder):
    with pytest.raises(UserError, match="was pre-trained without labels and predicts none"):
        restore(encoder)


MISTAKES = {
    "cnn": ("cnn", (), {}, r"cnn\.CNN cannot be pre-trained, expected a variant of bert, lstm, gru or rnn"),
    "bilstm": ("bilstm", (), {}, "sees the words that a language model is to guess"),
    "parts": ("lstm", ("training.accumulation=3",), {}, "batch_size is 16, expected a multiple of 3"),
    "words": ("bert:tiny", ("data.tokens=words",), {}, "tokens is words, expected pieces"),
    "pieces": ("lstm", ("data.tokens=pieces",), {}, "tokens is pieces, expected words or characters"),
    "short": ("bert:tiny", ("data.max_length=4",), {}, "max_length is 4, expected at least 5"),
    "pieces_few": ("bert:tiny", ("data.vocab_size=10",), {}, "vocab_size is 10, expected at least 20"),
    "init": ("lstm", ("init_from=x",), {}, "init_from is not read in pre-training"),
    "size": ("lstm", ("data.train_size=9",), {}, "train_size is not read in pre-training without --folds"),
    "fold": ("lstm", (), {"fold": 2}, "--fold is 2, expected --folds with it"),
    "folds": ("lstm", (), {"folds": 2, "fold": 2}, "--fold is 2, expected 0 to 1"),
    "repeat": ("lstm", (), {"repeat": -1}, "--repeat is -1, expected at least 0"),
    "heads": ("bert:tiny", ("model.heads=3",), {}, "heads is 3, expected a divisor of 16"),
    "memory": ("lstm", ("model.hidden_size=3000000",), {}, "which take"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_sentences(name, small_corpus, tmp_path):
    variant, overrides, which, words = MISTAKES[name]
    given = flags_of(variant, *overrides) if variant in SIZES else []
    with pytest.raises(UserError, match=words):
        pretrain(load_config(variant, given, for_pretraining), small_corpus, tmp_path / "run", **which)
    assert not (tmp_path / "run").exists()


def test_a_plain_file_has_no_folds_and_needs_texts(tmp_path):
    (tmp_path / "x.txt").write_text("one text\n")
    with pytest.raises(UserError, match="has no labels to make folds by"):
        pretrain(config_of("lstm"), tmp_path / "x.txt", tmp_path / "run", folds=2)
    with pytest.raises(UserError, match="fewer than two texts, expected one to train on and one to look at"):
        pretrain(config_of("lstm"), tmp_path / "x.txt", tmp_path / "run")
    (tmp_path / "x.txt").write_text("one text\n" * 90 + "a\ttab\n")
    with pytest.raises(UserError, match=r"x\.txt:91: a tab where the first line has none"):
        pretrain(config_of("lstm"), tmp_path / "x.txt", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config=bert:tiny"], "--corpus is missing"),
        (["--corpus=x.txt", "--workdir=run"], "x.txt: no such file or folder"),
        (["--corpus=imdb", "--workdir=run", "--config.training.patience=2"], "there is no setting 'training.patience'"),
        (["--corpus=imdb", "--workdir=run", "--unlabelled"], "--unlabelled is no flag of this program, expected"),
    ],
)
def test_wrong_flags_end_in_a_sentence_and_2(flags, words, tmp_path_factory, ask):
    code, said, there = ask("pretrain", tmp_path_factory.getbasetemp(), flags)
    assert code == 2, said
    assert words in said
    assert said.count("\n") == 1
    assert "run" not in there
