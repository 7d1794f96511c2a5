"""A run is restored from its folder alone: on any number of devices, at any path, read-only, by any later version.

`data/run` was made once and must not be replaced: a version that cannot restore it cannot restore its users' runs.
    ./launch.sh train --config=lstm --corpus=reviews.tsv --workdir=tests/data/run --config.data.vocab_size=300 \
      --config.model.embedding_size=4 --config.model.hidden_size=8 --config.training.epochs=10 \
      --config.optimizer.learning_rate=0.03
The corpus is made by `python -m tests.subset reviews.tsv`; `predict` wrote `data/predicted.jsonl`.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.variants import load_config
from research import restore
from research.data.corpora import make_corpus
from research.data.fingerprints import find_matches, fingerprint_corpus
from research.data.reader import Row
from research.errors import UserError
from research.json_files import write_json
from research.runs import run_files
from research.runs.checkpoints import Checkpoints
from research.runs.code_hash import KIND, hash_model_code
from research.runs.source import find_seen_texts
from research.runs.train import train
from tests.small import small_lstm

DATA = Path(__file__).parent / "data"
PREDICT = """
import os, sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from research import restore
run = restore(sys.argv[2])
assert len(jax.devices()) == int(sys.argv[1])
print(run.predict_proba(sys.stdin.read().splitlines()).tolist())
"""


@pytest.fixture(scope="module")
def predicted():
    """Return texts and their probabilities, float32 [N, 2]."""
    lines = [json.loads(line) for line in (DATA / "predicted.jsonl").read_text("utf-8").splitlines()]
    return [line["text"] for line in lines], np.array([list(line["probabilities"].values()) for line in lines])


def read_all(folder):
    """Return the bytes of all files in a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_of_an_earlier_version_is_restored(predicted):
    before = read_all(DATA / "run")
    texts, probabilities = predicted
    run = restore(DATA / "run")
    np.testing.assert_allclose(run.predict_proba(texts), probabilities, atol=1e-6)
    assert run.config.training.min_steps == 0  # the setting did not exist, so no run waited
    assert read_all(DATA / "run") == before


def test_a_warning_says_that_the_code_of_the_model_has_changed(tmp_path, caplog):
    shutil.copytree(DATA / "run", tmp_path / "run")
    for code, is_warned in (
        ("0123", False),
        (hash_model_code("recurrent.Recurrent"), False),
        (KIND + "0123", True),
    ):
        write_json(tmp_path / "run" / run_files.RECORD, {"status": "done", "model_code": code})
        caplog.clear()
        assert restore(tmp_path / "run").has_changed_code == is_warned
        assert ("the code of its model has changed" in caplog.text) == is_warned
        assert bool(caplog.text) == is_warned


@pytest.mark.parametrize("name", ["settings", "hash", "classes", "corpus.name", "folds", "widths"])
def test_a_missing_field_of_the_description_is_named(name, tmp_path):
    shutil.copytree(DATA / "run", tmp_path / "run")
    description = run_files.read_json(tmp_path / "run" / run_files.CONFIG)
    section, _, field = name.rpartition(".")
    del (description[section] if section else description)[field]
    write_json(tmp_path / "run" / run_files.CONFIG, description)
    with pytest.raises(UserError, match=rf"config\.json: no '{name}', expected the config\.json of a run"):
        restore(tmp_path / "run")


def test_a_description_with_values_of_a_wrong_type_is_refused(tmp_path):
    shutil.copytree(DATA / "run", tmp_path / "run")
    description = run_files.read_json(tmp_path / "run" / run_files.CONFIG)
    for wrong, words in (
        ([], "no object with settings"),
        ({"settings": 3}, "no object with settings"),
        ({"corpus": 3}, "no object"),
    ):
        write_json(tmp_path / "run" / run_files.CONFIG, wrong)
        with pytest.raises(UserError, match=words):
            restore(tmp_path / "run")
    for section, name, value in (("model", "hidden_size", "many"), ("data", "max_length", -3)):
        settings = description["settings"] | {section: description["settings"][section] | {name: value}}
        write_json(tmp_path / "run" / run_files.CONFIG, description | {"settings": settings})
        with pytest.raises(UserError, match=rf"config\.json: config\.{section}\.{name} is {value!r}, expected"):
            restore(tmp_path / "run")


def test_a_finished_run_with_another_best_epoch_or_tokenizer_is_refused(small_corpus, tmp_path):
    """Its predictions would not be those that its record and its model card state."""
    config = small_lstm("--config.training.select=log_loss", "--config.optimizer.learning_rate=0.05")
    config.training.epochs, config.training.patience = 8, 0
    folder = train(config, small_corpus, tmp_path / "run")
    with Checkpoints(folder / run_files.CHECKPOINTS, read_only=True) as checkpoints:
        best, last = checkpoints.best_step(), checkpoints.last_step()
    assert best < last
    shutil.copytree(folder, tmp_path / "lost")
    shutil.rmtree(tmp_path / "lost" / run_files.CHECKPOINTS / str(best))
    with pytest.raises(UserError, match=r"checkpoints: best_epoch 8, expected \d as record\.json says"):
        restore(tmp_path / "lost")
    shutil.copy(DATA / "run" / run_files.TOKENIZER, folder / run_files.TOKENIZER)
    with pytest.raises(UserError, match=r"tokenizer\.json: words 300, expected \d+ as record\.json says"):
        restore(folder)
    (folder / run_files.RECORD).unlink()  # then there is nothing to compare with
    assert np.isfinite(restore(folder).predict_proba(["a fine film"])).all()
    shutil.copytree(DATA / "run", tmp_path / "small")
    tokenizer = (folder / run_files.TOKENIZER).read_text("utf-8").replace('": 299', '": 999')
    (tmp_path / "small" / run_files.TOKENIZER).write_text(tokenizer, "utf-8")
    (tmp_path / "small" / run_files.RECORD).unlink(missing_ok=True)
    with pytest.raises(UserError, match="its ids exceed the model's vocabulary"):
        restore(tmp_path / "small")


def test_saved_arrays_keep_their_dtypes():
    """Integers stay integers, and no random key is among them."""
    with Checkpoints(DATA / "run" / run_files.CHECKPOINTS, read_only=True) as checkpoints:
        saved = checkpoints.restore(checkpoints.last_step())
    assert (saved["step"].dtype, saved["dropout_seed"].dtype) == (np.int32, np.uint32)
    count = saved["opt_state"][0]["count"]
    assert (count.dtype, int(count)) == (np.int32, int(saved["step"]))
    kinds = {leaf.dtype for leaf in jax.tree.leaves(saved)}
    assert kinds == {np.dtype(np.int32), np.dtype(np.uint32), np.dtype(np.float32)}


@pytest.mark.parametrize("devices", [1, 8])
def test_a_run_is_restored_at_another_path_and_on_other_devices(predicted, tmp_path, devices):
    """The folder is moved and read-only, and the process has another number of devices."""
    folder = shutil.copytree(DATA / "run", tmp_path / "another place" / "run")
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    texts, probabilities = predicted
    command = [sys.executable, "-P", "-c", PREDICT, str(devices), str(folder)]
    try:
        done = subprocess.run(command, input="\n".join(texts), capture_output=True, text=True, check=True)
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
    np.testing.assert_allclose(json.loads(done.stdout), probabilities, atol=1e-6)
    assert read_all(folder) == read_all(DATA / "run")


def match_seen(run, corpus):
    """Return which texts of a corpus are equal or near to texts that a run has seen."""
    seen = find_seen_texts(run.folder, run.description, corpus)
    assert seen.is_complete
    return find_matches(fingerprint_corpus(corpus), seen.fingerprints)


def test_a_run_knows_which_texts_it_has_seen(small_tsv, small_corpus, tmp_path):
    folder = train(load_config("linear", ["--config.training.epochs=1"]), small_tsv, tmp_path / "run")
    run = restore(folder)
    rows = [(f"{text}!" if i == 0 else text, "1") for i, text in enumerate(small_corpus.texts)]
    other = make_corpus("o", {"all": [Row(*row, "", "f") for row in [*rows, ("new", "1")]]}, run.class_names)
    equal, near = match_seen(run, other)
    seen = dict(zip(other.texts, equal, strict=True))
    split = run.split(small_corpus)
    assert not seen["new"]
    assert not near.any()
    assert not any(seen.get(small_corpus.texts[n], False) for n in split.test)
    assert all(seen.get(small_corpus.texts[n], seen.get(f"{small_corpus.texts[n]}!")) for n in split.train)
    (folder / run_files.SEEN).unlink()  # as in an earlier version: the texts come from its corpus
    assert np.array_equal(match_seen(restore(folder), other)[0], equal)
