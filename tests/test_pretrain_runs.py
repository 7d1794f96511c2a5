"""Runs of pre-training: they resume exactly, classifiers start from them, and texts they have seen are not held out."""

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
from research import restore
from research.data.corpora import load, make_corpus
from research.data.reader import Row
from research.data.safetensors import read_tensors
from research.errors import UserError
from research.pretraining.preparation import for_pretraining
from research.pretraining.pretrain import pretrain
from research.runs import resume, run_files
from research.runs.prepare import Run, fresh_state, prepare_run
from research.runs.restore import restore_source
from research.runs.train import RunOptions, train
from research.serving.huggingface import write_encoder
from research.training.programs import programs_for
from tests.comparing import compare_into
from tests.conftest import ROOT
from tests.pretraining import SIZES, flags, small_config

pytestmark = pytest.mark.usefixtures("no_plots")

SHORT = ("training.epochs=3", "training.batch_size=16")
FAST_CLASSIFIER = flags("training.epochs=1", "data.max_length=8")
SEEN = r"was trained on \d+ of the texts that are held out here"
# Saves a checkpoint every few steps.
PROGRAM = """
import runpy, sys
from research.runs import resume
resume.SAVE_SECONDS = 0.1
sys.argv = sys.argv[1:]
runpy.run_module("experiments.pretrain", run_name="__main__")
"""


def config_of(variant, *overrides):
    return small_config(variant, *SHORT, *overrides)


@pytest.fixture(scope="module")
def plain(small_tsv, tmp_path_factory):
    """The texts of the small corpus without their labels."""
    path = tmp_path_factory.mktemp("plain") / "plain.txt"
    path.write_text("".join(line.split("\t")[0] + "\n" for line in small_tsv.read_text().splitlines()))
    return path


@pytest.fixture(scope="module")
def encoder(plain, tmp_path_factory):
    """A pre-training run of a small BERT."""
    return pretrain(config_of("bert:tiny"), plain, tmp_path_factory.mktemp("encoder") / "run")


@pytest.fixture(scope="module")
def language_models(small_corpus, tmp_path_factory):
    """Language models pre-trained on the training texts of each of two folds; returns the name with {fold} in it."""
    folder = tmp_path_factory.mktemp("lm")
    for fold in (0, 1):
        pretrain(config_of("lstm"), small_corpus, folder / f"fold{fold}", folds=2, fold=fold)
    return str(folder / "fold{fold}")


def contents(folder):
    """Return the bytes that must be equal in two runs of the same settings."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("encoder/*")}
    files |= {name: (folder / name).read_bytes() for name in (run_files.METRICS, run_files.TOKENIZER, run_files.CONFIG)}
    leaves = jax.tree.leaves(restore_source(folder).variables)
    return files | {"parameters": b"".join(np.asarray(leaf).tobytes() for leaf in leaves)}


def test_a_run_writes_an_encoder_and_a_record(encoder):
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


@pytest.mark.extra
def test_a_killed_process_resumes_with_the_same_result(plain, tmp_path):
    def start(name):
        command = ["--config=bert:tiny", f"--corpus={plain}", f"--workdir={tmp_path / name}"]
        command += flags(*SIZES["bert:tiny"], *SHORT, "training.epochs=8")
        arguments = [sys.executable, "-P", "-c", PROGRAM, "pretrain", *command]
        return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    undisturbed = start("undisturbed")
    _, error = undisturbed.communicate(timeout=120)
    assert undisturbed.returncode == 0, error
    killed, deadline = start("killed"), time.monotonic() + 120
    steps = []
    while time.monotonic() < deadline and len(steps) < 2:  # until there are two checkpoints
        steps = list((tmp_path / "killed").glob("checkpoints/[0-9]*/files.sha256"))
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not run_files.is_finished(tmp_path / "killed")
    resumed = start("killed")
    _, error = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, error
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


def test_an_interrupted_run_resumes_with_the_same_result(encoder, plain, tmp_path, monkeypatch):
    """It is interrupted twice between two steps of an epoch, as by Ctrl-C and SIGTERM."""
    monkeypatch.setattr(resume, "SAVE_SECONDS", 1e9)
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
    """A corpus of sentences that are not in the small corpus."""
    whole, known = load("rotten_tomatoes"), set(small_corpus.texts)
    rows = [Row(text, str(label), "", "f") for text, label in zip(whole.texts, whole.labels, strict=True)]
    return make_corpus("others", {"all": [row for row in rows if row.text not in known][:120]})


def test_a_classifier_starts_from_an_encoder_or_with_the_same_model_at_random(encoder, others, tmp_path):
    variants = expand([f"bert:{encoder / 'encoder'}"], FAST_CLASSIFIER, ["data.from_scratch=false,true"])
    names = ["bert:encoder[data.from_scratch=false]", "bert:encoder[data.from_scratch=true]"]
    assert [variant.name for variant in variants] == names
    train(variants[1].config, others, tmp_path / "run")
    started = {}
    for variant in variants:
        prepared = prepare_run(Run(variant.config, tmp_path / "x"), others, None)
        state = fresh_state(programs_for(prepared.spec.config, 2), prepared)
        started[variant.config.data.from_scratch] = jax.device_get(state.params)
    pretrained = restore_source(encoder).variables["params"]
    for name in ("encoder", "pooler"):
        jax.tree.map(np.testing.assert_array_equal, started[False][name], pretrained[name])
    tables = [started[from_scratch]["encoder"]["embedding"]["embedding"] for from_scratch in (False, True)]
    assert tables[0].shape == tables[1].shape
    assert not np.array_equal(*tables)


def test_pre_training_continues_from_an_encoder_on_other_texts(encoder, small_tsv, tmp_path):
    """It uses the encoder's tokenizer and all of its tensors, also those of the output layers."""
    source = encoder / "encoder"
    config = load_config(f"bert:{source}", flags(*SHORT), for_pretraining)
    folder = pretrain(config, str(small_tsv), tmp_path / "more")
    vocabularies = [json.loads((path / "tokenizer.json").read_text())["model"]["vocab"] for path in (folder, source)]
    assert vocabularies[0] == vocabularies[1]
    assert run_files.read_metrics(folder)[0]["loss"] < run_files.read_metrics(encoder)[0]["loss"]
    names = [read_tensors(path / "model.safetensors").keys() for path in (source, folder / "encoder")]
    assert names[0] == names[1]
    assert "cls.predictions.transform.LayerNorm.weight" in names[0]


def test_a_classifier_starts_from_a_language_model_by_word_and_name(language_models, small_corpus, tmp_path):
    config = load_config("lstm", flags(*SIZES["lstm"][:2], f"init_from={language_models}"))
    for fold in (0, 1):
        prepared = prepare_run(Run(config, tmp_path / "run", fold), small_corpus, 2)
        params = jax.device_get(fresh_state(programs_for(prepared.spec.config, 2), prepared).params)
        source = restore_source(language_models.replace("{fold}", str(fold)))
        theirs = source.variables["params"]
        for name in ("bias", "kernel", "recurrent_kernel"):
            np.testing.assert_array_equal(params["forwards_0"][name], theirs["forwards_0"][name])
        words = prepared.texts.vocabulary.keys() & source.vocabulary.keys()
        assert len(words) > 250
        for word in words:
            row, other = prepared.texts.vocabulary[word], source.vocabulary[word]
            np.testing.assert_array_equal(
                params["embedding"]["embedding"][row], theirs["embedding"]["embedding"][other]
            )


def test_each_fold_starts_from_its_own_language_model(language_models, small_corpus, tmp_path):
    settings = flags(*SIZES["lstm"][:2], "training.epochs=1", "data.train_size=60")
    variants = expand(["lstm"], settings, [f"init_from=none,{language_models}"])
    folder = compare_into(tmp_path / "table", variants, small_corpus, folds=2)
    records = [run_files.read_json(path) for path in sorted(folder.glob("lstm--init_from=*/*/record.json"))]
    assert len(records) == 4
    assert sum("forwards_0/kernel" in record.get("init_from", {}).get("taken", []) for record in records) == 2


def test_a_language_model_that_has_seen_held_out_texts_is_refused(language_models, small_corpus, tmp_path):
    source = language_models.replace("{fold}", "0")
    config = load_config("lstm", flags(*SIZES["lstm"][:2], f"init_from={source}"))
    with pytest.raises(UserError, match=SEEN):
        train(config, small_corpus, tmp_path / "run", folds=2, fold=1)
    source = pretrain(config_of("lstm", "training.epochs=1"), small_corpus, tmp_path / "without_folds")
    config.init_from = str(source)
    with pytest.raises(UserError, match=SEEN):
        train(config, small_corpus, tmp_path / "run", folds=2, fold=1)


def test_an_encoder_that_has_seen_held_out_texts_is_refused(small_corpus, tmp_path):
    folder = pretrain(config_of("bert:tiny", "training.epochs=1"), small_corpus, tmp_path / "mlm", folds=2, fold=0)
    config = load_config(f"bert:{folder / 'encoder'}", FAST_CLASSIFIER)
    train(config, small_corpus, tmp_path / "run", folds=2, fold=0)
    with pytest.raises(UserError, match=rf"data\.weights: .* {SEEN}"):
        train(config, small_corpus, tmp_path / "other", folds=2, fold=1)


@pytest.mark.parametrize("variant", ["bert:tiny", "lstm"])
def test_lines_of_a_plain_file_count_as_seen_texts(plain, small_corpus, tmp_path, variant):
    folder = pretrain(config_of(variant, "training.epochs=1"), plain, tmp_path / "run")
    if variant == "lstm":
        config = load_config("lstm", [*flags(*SIZES["lstm"][:2]), *FAST_CLASSIFIER, f"--config.init_from={folder}"])
    else:
        assert (folder / "encoder" / run_files.SEEN).read_bytes() == (folder / run_files.SEEN).read_bytes()
        shutil.move(folder / "encoder", tmp_path / "encoder")
        shutil.rmtree(folder)
        config = load_config(f"bert:{tmp_path / 'encoder'}", FAST_CLASSIFIER)
    with pytest.raises(UserError, match=SEEN):
        train(config, small_corpus, tmp_path / "other")


def test_an_exported_encoder_keeps_the_texts_of_fine_tuning_and_pre_training(small_corpus, tmp_path):
    fine_tuning = tmp_path / "fine_tuning.tsv"
    fine_tuning.write_text("".join(f"{n} odd words {n % 7}\t{n % 2}\n" for n in range(40)))
    pretrained = pretrain(config_of("bert:tiny", "training.epochs=1"), small_corpus, tmp_path / "mlm", folds=2, fold=0)
    run = train(load_config(f"bert:{pretrained / 'encoder'}", FAST_CLASSIFIER), fine_tuning, tmp_path / "run")
    shutil.rmtree(pretrained)
    exported = write_encoder(run, tmp_path / "exported")
    config = load_config(f"bert:{exported}", FAST_CLASSIFIER)
    for corpus, fold in ((fine_tuning, 1), (small_corpus, 1)):
        with pytest.raises(UserError, match=rf"data\.weights: .* {SEEN}"):
            train(config, corpus, tmp_path / "other", folds=2, fold=fold)


def test_a_pre_trained_run_is_not_restored_as_a_classifier(encoder):
    with pytest.raises(UserError, match="was pre-trained without labels and predicts none"):
        restore(encoder)
