"""Groups of runs that one program trains: each run takes the steps that it takes alone, whatever the others do."""

import signal
import threading
import time

import jax
import numpy as np
import pytest

from experiments.variants import load_config
from research import restore
from research.atomic_files import make_folder
from research.data.batches import blocks
from research.errors import UserError
from research.json_files import write_json
from research.parallel import train_runs as module
from research.parallel.interruptible import run_interruptibly
from research.parallel.train_runs import RunHooks, group_runs, train_runs
from research.runs import resume, run_files
from research.runs import train as train_module
from research.runs.clearing import clear
from research.runs.prepare import Run
from research.runs.texts import RunSpec, prepare_texts
from research.runs.train import train_group
from research.training.initial_state import Start, init_state
from research.training.loop import of_run, stack
from research.training.programs import programs_for
from research.training.step import pad_texts
from tests.small import contents

SIZES = {
    "lstm": ("--config.model.embedding_size=8", "--config.model.hidden_size=8"),
    "gru": ("--config.model.embedding_size=8", "--config.model.hidden_size=8"),
    "cnn:rand": ("--config.model.embedding_size=8", "--config.model.features=8"),
    "luong:local_p": ("--config.model.embedding_size=8", "--config.model.hidden_size=8"),
    "transformer:pre": ("--config.model.embedding_size=8",),
    "linear": (),
}
NAMES = [pytest.param(name, marks=() if name in ("lstm", "cnn:rand") else pytest.mark.extra) for name in SIZES]


class Killed(Exception):
    """Stands for a signal that ends training."""


def config_of(name, *flags):
    return load_config(name, [*SIZES[name], "--config.training.epochs=3", *flags])


def lstm(*flags):
    return config_of("lstm", *flags)


def runs_in(folder, *configs):
    """One run for each config, in folders 0, 1, 2 ... and on the folds of the same numbers."""
    return [Run(config, folder / str(i), fold=i) for i, config in enumerate(configs)]


def assert_close(tree, expected, **tolerance):
    for value, other in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(value, other, **tolerance)


@pytest.mark.accelerator
@pytest.mark.parametrize("name", NAMES)
def test_steps_of_a_group_are_the_steps_of_each_run(name, small_corpus):
    """The runs have other states, texts and rates; the last one has no batches, so its state stays as it is.

    SGD is used because Adam turns gradients that are zero except for rounding into whole steps.
    """
    config = config_of(name, *([] if name == "linear" else ["--config.optimizer.name=sgd"]))
    compiled = programs_for(config, 2)
    prepared = [prepare_texts(RunSpec(config, small_corpus, 5, fold, 0)) for fold in range(3)]
    widths, capacity = prepared[0].shapes.widths[-1:], prepared[0].shapes.capacity
    states = []
    for seed, (run, rate) in enumerate(zip(prepared, (0.1, 1.0, 0.2), strict=True)):
        config.optimizer.learning_rate = rate
        state = init_state(compiled, config, run.train, widths, Start(init_seed=seed, dropout_seed=seed))
        states.append(jax.tree.map(np.array, state))
    batches = [[np.arange(8), np.arange(8, 16)], [np.arange(30, 38), np.arange(3)], []]
    orders = [(run.train.lengths, batch) for run, batch in zip(prepared, batches, strict=True)]
    texts = [pad_texts(run.train, capacity) for run in prepared]
    ((index, width),) = blocks(orders, 8, widths, 2)
    group, group_metrics = compiled.train_steps(stack(states), stack(texts), index, width, widths=widths)
    for r in (0, 1):
        arguments = stack([states[r]]), stack([texts[r]]), index[r : r + 1], width
        alone, metrics = compiled.train_steps(*arguments, widths=widths)
        expected = of_run((alone.params, alone.step, metrics), 0)
        assert_close(of_run((group.params, group.step, group_metrics), r), expected, rtol=1e-5, atol=1e-5)
        assert int(group.step[r]) == 2
    assert_close(of_run(group, 2), states[2], rtol=0, atol=0)


@pytest.mark.accelerator
def test_runs_of_a_group_end_near_what_they_are_alone(small_corpus, tmp_path):
    configs = [lstm(f"--config.optimizer.learning_rate={rate}") for rate in (0.001, 0.003, 0.02)]
    ended, reported = [], set()
    hooks = RunHooks(
        on_progress=lambda run, epochs, loss: reported.add(run.folder.name),
        on_run_end=lambda run, outcome: ended.append(run.folder.name),
    )
    outcomes = train_runs(runs_in(tmp_path / "group", *configs), small_corpus, most_together=3, hooks=hooks)
    assert outcomes == [None] * 3
    assert train_runs(runs_in(tmp_path / "alone", *configs), small_corpus, most_together=1) == [None] * 3
    assert sorted(ended) == sorted(reported) == ["0", "1", "2"]
    for name in "012":
        group, alone = tmp_path / "group" / name, tmp_path / "alone" / name
        assert run_files.read_json(group / run_files.RECORD)["trained_together"] == 3
        assert run_files.read_json(alone / run_files.RECORD)["trained_together"] <= len(jax.local_devices())
        for record, expected in zip(run_files.read_metrics(group), run_files.read_metrics(alone), strict=True):
            assert record.keys() == expected.keys()
            np.testing.assert_allclose(record["loss"], expected["loss"], rtol=1e-3)
        predictions, expected = run_files.read_predictions(group), run_files.read_predictions(alone)
        assert predictions.id.tolist() == expected.id.tolist()
        np.testing.assert_allclose(predictions.probabilities, expected.probabilities, atol=1e-3)
        restored = [restore(folder).predict_proba(small_corpus.texts[:9]) for folder in (group, alone)]
        np.testing.assert_allclose(*restored, atol=1e-3)


@pytest.mark.accelerator
def test_early_stopping_of_one_run_stops_no_other(small_corpus, tmp_path):
    flags = (
        "--config.training.epochs=8",
        "--config.training.patience=0",
        "--config.training.min_steps=0",
        "--config.training.select=log_loss",
        "--config.optimizer.learning_rate=0.03",
    )
    configs = [lstm(*flags, "--config.training.patience=1"), lstm(*flags)]
    assert train_group(runs_in(tmp_path, *configs), small_corpus) == [None, None]
    epochs = [max(r["epoch"] for r in run_files.read_metrics(tmp_path / name)) for name in "01"]
    assert epochs[0] == run_files.read_json(tmp_path / "0" / run_files.RECORD)["best_epoch"] + 1 < 8
    assert epochs[1] == 8


@pytest.mark.accelerator
def test_a_run_that_diverges_harms_no_other(small_corpus, tmp_path):
    sgd = "--config.optimizer.name=sgd"
    sane, other, wild = (lstm(sgd, f"--config.optimizer.learning_rate={rate}") for rate in (0.1, 0.2, 1e38))
    outcomes = train_group(runs_in(tmp_path / "a", sane, wild), small_corpus)
    train_group(runs_in(tmp_path / "b", sane, other), small_corpus)
    assert outcomes[0] is None
    assert "not finite by step" in str(outcomes[1])
    assert contents(tmp_path / "a" / "0") == contents(tmp_path / "b" / "0")
    assert run_files.has_diverged(tmp_path / "a" / "1")


@pytest.mark.accelerator
def test_an_interrupted_group_ends_like_an_uninterrupted_one(small_corpus, tmp_path, monkeypatch):
    """One run loses its last checkpoint, so the other is ahead of it and waits."""
    configs = [lstm(), lstm("--config.seed=1")]
    train_group(runs_in(tmp_path / "whole", *configs), small_corpus)
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)

    def kill(run, epochs, loss):
        if epochs >= 2.5:
            raise Killed

    with pytest.raises(Killed):
        train_group(runs_in(tmp_path / "parts", *configs), small_corpus, on_progress=kill)
    last = max((tmp_path / "parts" / "1" / run_files.CHECKPOINTS).iterdir(), key=lambda path: int(path.name))
    clear(tmp_path / "parts" / "1")
    assert not last.exists()
    train_group(runs_in(tmp_path / "parts", *configs), small_corpus)
    for name in "01":
        assert contents(tmp_path / "parts" / name) == contents(tmp_path / "whole" / name)


def test_a_group_that_is_killed_while_records_are_written_loses_nothing(small_corpus, tmp_path, monkeypatch):
    """The runs without a record are a smaller group, which may round otherwise: it keeps what was written."""

    def write(path, value):
        if path == tmp_path / "parts" / "1" / run_files.RECORD:
            raise Killed
        write_json(path, value)

    configs = [lstm(f"--config.seed={seed}") for seed in range(3)]
    train_group(runs_in(tmp_path / "whole", *configs), small_corpus)
    with monkeypatch.context() as patched:
        patched.setattr("research.runs.record.write_json", write)
        with pytest.raises(Killed):
            train_group(runs_in(tmp_path / "parts", *configs), small_corpus)
    assert [run_files.is_finished(tmp_path / "parts" / name) for name in "012"] == [True, False, False]
    evaluate_runs = train_module.evaluate_runs  # of the test texts

    def evaluate_differently(*arguments):
        metrics, probabilities = evaluate_runs(*arguments)
        return metrics, [1 - of_run for of_run in probabilities]

    monkeypatch.setattr(train_module, "evaluate_runs", evaluate_differently)
    train_group(runs_in(tmp_path / "parts", *configs), small_corpus)
    for name in "012":
        assert run_files.is_finished(tmp_path / "parts" / name)
        assert contents(tmp_path / "parts" / name) == contents(tmp_path / "whole" / name)


@pytest.fixture
def one_device(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])


@pytest.mark.usefixtures("one_device")
def test_a_resumed_call_trains_the_groups_that_were_planned(small_corpus, tmp_path, monkeypatch):
    """Runs that have ended count when runs are grouped."""
    groups = []

    def pretend(runs, *arguments, **keywords):
        groups.append([run.folder.name for run in runs])
        for run in runs:
            make_folder(run.folder)
            write_json(run.folder / run_files.RECORD, {"status": "done"})
        return [None] * len(runs)

    monkeypatch.setattr(module, "train_group", pretend)
    runs = runs_in(tmp_path, *[lstm()] * 5)
    train_runs(runs, small_corpus, most_together=3)
    write_json(runs[0].folder / run_files.RECORD, {"status": "diverged", "error": "not finite"})
    outcomes = train_runs(runs, small_corpus, most_together=3)
    assert groups == [["0", "1", "2"], ["3", "4"], ["1", "2"], ["3", "4"]]
    assert list(map(str, outcomes)) == ["not finite", "None", "None", "None", "None"]


@pytest.mark.usefixtures("one_device")
def test_a_group_that_memory_cannot_hold_is_halved(small_corpus, tmp_path, monkeypatch):
    sizes = []

    def fail_if_large(runs, *arguments, **keywords):
        sizes.append(len(runs))
        if len(runs) > 2 or "3" in [run.folder.name for run in runs]:
            raise RuntimeError(f"RESOURCE_EXHAUSTED: no memory for {len(runs)}")
        return [None] * len(runs)

    monkeypatch.setattr(module, "train_group", fail_if_large)
    outcomes = train_runs(runs_in(tmp_path, *[lstm()] * 4), small_corpus, most_together=4)
    assert sizes == [4, 2, 2, 1, 1]
    assert list(map(str, outcomes)) == ["None", "None", "None", "RESOURCE_EXHAUSTED: no memory for 1"]
    notes = "".join(outcomes[3].__notes__)
    assert "no memory for 4" in notes  # the first failure
    assert "fail_if_large" in notes


@pytest.mark.usefixtures("one_device")
def test_a_group_that_fails_for_another_reason_is_not_tried_again(small_corpus, tmp_path, monkeypatch):
    sizes = []

    def fail(runs, *arguments, **keywords):
        sizes.append(len(runs))
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(module, "train_group", fail)
    outcomes = train_runs(runs_in(tmp_path, *[lstm()] * 4), small_corpus, most_together=4)
    assert sizes == [4]
    assert list(map(str, outcomes)) == ["a mistake of ours"] * 4


def test_a_users_mistake_ends_all_runs(small_corpus, tmp_path):
    with pytest.raises(UserError, match="repeat is"):
        train_runs([Run(lstm(), tmp_path / "a", repeat=-1)], small_corpus)


def test_a_group_shares_all_that_is_compiled():
    configs = [lstm(), lstm("--config.seed=3"), lstm("--config.model.hidden_size=4"), lstm("--config.training.l2=1")]
    configs += [lstm("--config.optimizer.learning_rate=1"), lstm("--config.training.l2=2"), lstm()]
    assert group_runs(configs, 256) == [[0, 1, 4, 6], [2], [3, 5]]
    assert group_runs(configs, 2) == [[0, 1], [4, 6], [2], [3, 5]]
    assert group_runs(configs, 1) == [[0], [1], [4], [6], [2], [3], [5]]


def test_a_signal_that_another_thread_receives_stops_the_job():
    """The main thread sleeps while the job runs, and notices the signal when it wakes up."""
    ended = []

    def interrupt(number, frame):
        raise KeyboardInterrupt

    def job(check):
        time.sleep(0.5)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        for _ in range(400):
            time.sleep(0.05)
            check()
        ended.append("by itself")

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_interruptibly(job)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ended == []
