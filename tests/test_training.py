"""A complete run: it is reproducible and resumable, and its test texts influence nothing."""

import json
import shutil

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from experiments.variants import load_config
from research import restore
from research.data.corpora import make_corpus
from research.data.reader import Row
from research.errors import UserError
from research.parallel.train_runs import train_runs
from research.runs import resume, run_files
from research.runs.clearing import clear
from research.runs.prepare import Run, class_weights, fresh_state, prepare_run, seed_of
from research.runs.train import RunOptions, train
from research.training.programs import programs_for
from tests.small import contents, small_lstm

LEARNS_FAST = (
    "--config.training.select=log_loss",
    "--config.training.epochs=12",
    "--config.training.patience=0",
    "--config.optimizer.learning_rate=0.02",
)


@pytest.fixture(scope="module")
def finished(small_corpus, tmp_path_factory):
    return train(small_lstm(), small_corpus, tmp_path_factory.mktemp("runs") / "lstm")


def test_a_run_leaves_the_files_of_the_contract(finished, small_corpus):
    config = run_files.read_json(finished / run_files.CONFIG)
    model = config["settings"]["model"]
    assert (model["module"], model["embedding_size"], model["hidden_size"]) == ("recurrent.Recurrent", 8, 16)
    assert config["classes"] == ["0", "1"]
    record = run_files.read_json(finished / run_files.RECORD)
    assert record["status"] == "done"
    assert record["texts"] == {"train": 172, "validation": 20, "test": 48}
    predictions = run_files.read_predictions(finished)
    assert predictions.label.dtype == np.int32
    assert predictions.probabilities.shape == (48, 2)
    assert set(predictions.id) < set(small_corpus.ids)
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, rtol=1e-6)
    records = run_files.read_metrics(finished)
    assert [r["epoch"] for r in records if r["split"] == "validation"] == [1, 2, 3]
    test = next(r for r in records if r["split"] == "test")
    assert test["accuracy"] == (predictions.probabilities.argmax(axis=1) == predictions.label).mean()


def test_the_same_run_has_the_same_bytes(finished, small_corpus, tmp_path):
    assert contents(train(small_lstm(), small_corpus, tmp_path / "again")) == contents(finished)


def test_a_run_among_others_is_what_it_is_alone(finished, small_corpus, tmp_path):
    """On CPU, runs are trained one after the other on one device, unless a user sets another number of devices."""
    runs = [Run(small_lstm(), tmp_path / f"{fold}", fold) for fold in (1, 0, 2)]
    for run in runs:
        assert train_runs([run], small_corpus) == [None]
    assert contents(tmp_path / "0") == contents(finished)
    assert contents(tmp_path / "1")[run_files.PREDICTIONS] != contents(finished)[run_files.PREDICTIONS]


@pytest.mark.parametrize("save_seconds", [0.0, 1e9])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(finished, small_corpus, tmp_path, monkeypatch, save_seconds):
    """With a checkpoint after each epoch, and without any checkpoint."""
    monkeypatch.setattr(resume, "SAVE_SECONDS", save_seconds)

    class Killed(Exception):
        pass

    def kill_in_the_third_epoch(run, done, loss):
        if done >= 3:
            raise Killed

    with pytest.raises(Killed):
        train(small_lstm(), small_corpus, tmp_path / "run", options=RunOptions(on_progress=kill_in_the_third_epoch))
    assert not run_files.is_finished(tmp_path / "run")
    assert contents(train(small_lstm(), small_corpus, tmp_path / "run")) == contents(finished)


def test_an_interrupt_after_the_best_epoch_so_far_loses_nothing(small_corpus, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(resume, "SAVE_SECONDS", 1e9)
    config, folder, progress = small_lstm("--config.training.select=last"), tmp_path / "run", []

    def stop(run, done, loss):
        if len(run_files.read_metrics(folder)) == 4:  # two epochs, of train and validation
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, small_corpus, folder, options=RunOptions(on_progress=stop))
    options = RunOptions(on_progress=lambda run, done, loss: progress.append(done))
    train(config, small_corpus, folder, options=options)
    assert "starts from the beginning" not in caplog.text
    assert min(progress) > 2
    assert contents(folder) == contents(train(config, small_corpus, tmp_path / "whole"))


@pytest.mark.parametrize("damaged", ["last", "best"])
def test_a_damaged_checkpoint_costs_only_time(small_corpus, tmp_path, monkeypatch, caplog, damaged):
    """Training resumes from the checkpoint before it, or starts again if that of the best epoch is lost."""
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    config = small_lstm(*LEARNS_FAST)
    whole = train(config, small_corpus, tmp_path / "whole")
    best = run_files.read_json(whole / run_files.RECORD)["best_epoch"]

    def stop(run, done, loss):
        if done > best + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, small_corpus, tmp_path / "run", options=RunOptions(on_progress=stop))
    steps = sorted(
        int(path.name) for path in (tmp_path / "run" / run_files.CHECKPOINTS).iterdir() if path.name.isdigit()
    )
    assert len(steps) == 2
    step = steps[-1] if damaged == "last" else steps[0]
    folder = tmp_path / "run" / run_files.CHECKPOINTS / str(step)
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    assert contents(train(config, small_corpus, tmp_path / "run")) == contents(whole)
    assert str(folder) in caplog.text
    assert ("starts from the beginning" in caplog.text) == (damaged == "best")


def test_a_finished_run_is_not_trained_again(finished, small_corpus):
    before = (finished / run_files.RECORD).stat().st_mtime_ns

    def never(run, done, loss):
        raise AssertionError("trained again")

    assert train(small_lstm(), small_corpus, finished, options=RunOptions(on_progress=never)) == finished
    assert (finished / run_files.RECORD).stat().st_mtime_ns == before


def test_other_settings_in_the_same_folder_are_refused_and_listed(finished, small_corpus):
    with pytest.raises(UserError, match=r"settings\.optimizer\.learning_rate: 0\.001 -> 0\.01"):
        train(small_lstm("--config.optimizer.learning_rate=0.01"), small_corpus, finished)


def test_other_files_in_a_folder_are_left_alone(small_corpus, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        train(small_lstm(), small_corpus, tmp_path)
    with pytest.raises(UserError, match="holds other files"):
        clear(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_clearing_removes_the_run_and_nothing_else(small_corpus, tmp_path):
    folder = train(small_lstm(), small_corpus, tmp_path / "run")
    (folder / "notes.txt").write_text("mine")
    clear(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_the_best_epoch_by_validation_is_restored(small_corpus, tmp_path):
    """The checkpoints of the best and of the last epoch are kept."""
    folder = train(small_lstm(*LEARNS_FAST), small_corpus, tmp_path / "run")
    losses = [r["loss"] for r in run_files.read_metrics(folder) if r["split"] == "validation"]
    best = int(np.argmin(losses)) + 1
    assert 1 < best < 12, "the model should overfit, so that the best and the last epoch differ"
    assert run_files.read_json(folder / run_files.RECORD)["best_epoch"] == best
    steps = sorted(int(path.name) for path in (folder / run_files.CHECKPOINTS).iterdir() if path.name.isdigit())
    assert steps == [6 * best, 6 * 12]


def test_test_texts_influence_nothing(small_corpus, tmp_path):
    """With other test texts, vocabulary, epochs and validation metrics are the same to the byte."""
    texts = list(zip(small_corpus.texts, small_corpus.labels.astype(str), strict=True))
    train_rows = [Row(text, label, "", "") for text, label in texts[:160]]
    folders = []
    other_texts = [(f"other words {i}", label) for i, (_, label) in enumerate(texts[:40])]
    for name, test in (("a", texts[160:]), ("b", other_texts)):
        corpus = make_corpus("c", {"train": train_rows, "test": [Row(text, label, "", "") for text, label in test]})
        folders.append(train(small_lstm(), corpus, tmp_path / name))
    a, b = ([r for r in run_files.read_metrics(folder) if r["split"] != "test"] for folder in folders)
    assert a == b
    assert (folders[0] / run_files.TOKENIZER).read_bytes() == (folders[1] / run_files.TOKENIZER).read_bytes()


def test_seeds_folds_and_repeats_are_different_runs(finished, small_corpus, tmp_path):
    seeded = train(small_lstm("--config.seed=1"), small_corpus, tmp_path / "seed")
    repeated = train(small_lstm(), small_corpus, tmp_path / "repeat", repeat=1)
    metrics = [run_files.read_metrics(folder) for folder in (finished, seeded, repeated)]
    assert metrics[0] != metrics[1] != metrics[2] != metrics[0]


def test_a_restored_run_predicts_what_training_recorded(finished, small_corpus):
    run = restore(finished)
    predictions = run_files.read_predictions(finished)
    index_of = {text_id: i for i, text_id in enumerate(small_corpus.ids)}
    texts = [small_corpus.texts[index_of[text_id]] for text_id in predictions.id]
    np.testing.assert_allclose(run.predict_proba(texts), predictions.probabilities, atol=1e-6)
    shuffled = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_allclose(
        run.predict_proba([texts[i] for i in shuffled]), predictions.probabilities[shuffled], atol=1e-6
    )
    assert run.predict_proba([]).shape == (0, 2)
    assert np.isfinite(run.predict_proba(["", "word " * 10_000, "\ud800"])).all()


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_a_damaged_file_of_a_run_is_named(finished, tmp_path, name):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    (folder / name).write_text("{")
    with pytest.raises(UserError, match=name):
        restore(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=name):
        restore(folder)


@pytest.mark.parametrize("damage", [lambda b: b[:-40], lambda b: b"", lambda b: b[:99] + bytes([b[99] ^ 1]) + b[100:]])
def test_damaged_predictions_are_refused(finished, tmp_path, damage):
    (tmp_path / run_files.PREDICTIONS).write_bytes(damage((finished / run_files.PREDICTIONS).read_bytes()))
    with pytest.raises(UserError, match=r"predictions\.npz: cannot be read"):
        run_files.read_predictions(tmp_path)


def test_restoring_imports_models_only_from_this_package(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    config = json.loads((folder / "config.json").read_text())
    for module in ("os.path", "..evil.Model", "recurrent.jax"):
        config["settings"]["model"]["module"] = module
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(UserError):
            restore(folder)


def test_three_classes_use_softmax(small_corpus, tmp_path):
    rows = [Row(text, "abc"[i % 3], "", "") for i, text in enumerate(small_corpus.texts[:90])]
    folder = train(small_lstm(), make_corpus("c", {"all": rows}), tmp_path / "run", folds=3)
    predictions = run_files.read_predictions(folder)
    assert predictions.probabilities.shape == (30, 3)
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert restore(folder).class_names == ("a", "b", "c")


def test_balanced_class_weights_are_those_of_scikit_learn(small_corpus, tmp_path):
    rows = [Row(text, str(int(i % 5 == 0)), "", "") for i, text in enumerate(small_corpus.texts)]
    config = small_lstm("--config.training.class_weights=balanced")
    prepared = prepare_run(Run(config, tmp_path / "run"), make_corpus("c", {"all": rows}), 5)
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=prepared.texts.train.labels)
    np.testing.assert_allclose(class_weights(prepared), expected, rtol=1e-6)


@pytest.mark.parametrize("source", ["split", "init", "order", "dropout"])
def test_one_stream_alone_can_differ_between_repeats(small_corpus, tmp_path, source):
    """Repeats 0 and 1 draw the same random numbers, except for the one source."""
    config = small_lstm(f"--config.varies={source}")
    draws = []
    for repeat in (0, 1):
        prepared = prepare_run(Run(config, tmp_path / "run", repeat=repeat), small_corpus, 5)
        state = fresh_state(programs_for(config, 2), prepared)
        draws.append(
            {
                "split": prepared.texts.split.test.tolist(),
                "init": np.asarray(state.params["head"]["kernel"]).tolist(),
                "order": seed_of(prepared.spec, "order"),
                "dropout": int(state.dropout_seed),
            }
        )
    assert [name for name in draws[0] if draws[0][name] != draws[1][name]] == [source]


def test_a_model_that_is_too_large_for_memory_is_refused_before_anything_is_written(small_corpus, tmp_path):
    config = load_config("lstm", ["--config.model.hidden_size=3000000"])
    with pytest.raises(UserError, match=r"the model has [\d,]+ parameters, which take [\d,]+ GB in training"):
        train(config, small_corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_size_larger_than_the_corpus_makes_one_batch_of_all_texts(small_corpus, tmp_path):
    batches = (0, 100_000_000)
    folders = [train(small_lstm(f"--config.training.batch_size={b}"), small_corpus, tmp_path / f"{b}") for b in batches]
    first, second = (run_files.read_predictions(folder).probabilities for folder in folders)
    np.testing.assert_allclose(first, second, atol=1e-6)  # not equal, because sums are in another order


def test_a_run_that_stopped_early_is_not_trained_further(small_corpus, tmp_path, monkeypatch):
    flags = (
        "--config.training.epochs=40",
        "--config.training.select=log_loss",
        "--config.optimizer.learning_rate=0.02",
    )
    config = small_lstm(*flags, "--config.training.patience=2", "--config.training.min_steps=0")
    folder = train(config, small_corpus, tmp_path / "run")
    epochs = [r["epoch"] for r in run_files.read_metrics(folder) if r["split"] == "validation"]
    best = run_files.read_json(folder / run_files.RECORD)["best_epoch"]
    assert epochs[-1] == best + 2 < 40
    predictions, metrics = ((folder / name).read_bytes() for name in (run_files.PREDICTIONS, run_files.METRICS))
    # A run that was killed between the last checkpoint and the record is not trained further.
    (folder / run_files.RECORD).unlink()
    progress = RunOptions(on_progress=lambda run, done, loss: pytest.fail("trained further"))
    train(config, small_corpus, folder, options=progress)
    assert (folder / run_files.PREDICTIONS).read_bytes() == predictions
    assert (folder / run_files.METRICS).read_bytes() == metrics
    # A run that was interrupted earlier stops at the same epoch.
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)

    def interrupt(run, done, loss):
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, small_corpus, tmp_path / "other", options=RunOptions(on_progress=interrupt))
    other = train(config, small_corpus, tmp_path / "other")
    assert (other / run_files.PREDICTIONS).read_bytes() == predictions
    assert (other / run_files.METRICS).read_bytes() == (folder / run_files.METRICS).read_bytes()
