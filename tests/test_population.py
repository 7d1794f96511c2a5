"""Runs that are trained in one program: each takes the steps that it would take alone, whatever the others do."""

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
from research.parallel import train_runs as population
from research.parallel.interruptible import run_interruptibly
from research.parallel.train_runs import RunHooks, group_runs, train_runs
from research.runs import resume as history
from research.runs import run_files
from research.runs import train as runs_of_training
from research.runs.clearing import clear
from research.runs.prepare import Run
from research.runs.texts import RunSpec, prepare_texts
from research.runs.train import train_group
from research.training.initial_state import Start, init_state
from research.training.loop import of_run, stack
from research.training.programs import programs_for
from research.training.step import pad_texts
from tests.small import contents

SMALL = ("--config.model.embedding_size=8",)
VARIANTS = {
    "lstm": ("--config.model.hidden_size=8",),
    "gru": ("--config.model.hidden_size=8",),
    "cnn:rand": ("--config.model.features=8",),
    "luong:local_p": ("--config.model.hidden_size=8",),
    "transformer:pre": (),
    "linear": (),
}


def config_of(name, *flags):
    small = () if name.partition(":")[0] in ("linear",) else SMALL
    return load_config(name, [*small, *VARIANTS[name], "--config.training.epochs=3", *flags])


def lstm(*flags):
    return config_of("lstm", *flags)


def members(folder, *configs, folds=None):
    return [Run(config, folder / str(i), fold=i if folds is None else folds[i]) for i, config in enumerate(configs)]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_of_many_is_the_step_of_each(name, small_corpus):
    """From equal states, over batches of other texts and at other rates; the last one rests.

    Not with Adam, which makes steps of gradients that are 0 but for rounding.
    """
    config = config_of(name, *([] if name == "linear" else ["--config.optimizer.name=sgd"]))
    rates = [0.1, 1.0, 0.2]
    compiled = programs_for(config, 2)
    prepared = [prepare_texts(RunSpec(config, small_corpus, 5, fold, 0)) for fold in range(3)]
    widths, room = prepared[0].shapes.widths[-1:], prepared[0].shapes.capacity
    states = []
    for seed, (of_fold, rate) in enumerate(zip(prepared, rates, strict=True)):
        config.optimizer.learning_rate = rate
        state = init_state(compiled, config, of_fold.train, widths, Start(init_seed=seed, dropout_seed=seed))
        states.append(jax.tree.map(np.array, state))
    batches = [[np.arange(8), np.arange(8, 16)], [np.arange(30, 38), np.arange(3)], []]
    orders = [(p.train.lengths, batch) for p, batch in zip(prepared, batches, strict=True)]
    texts = [pad_texts(p.train, room) for p in prepared]
    ((rows, count, width),) = blocks(orders, 8, widths, 2)
    together, metrics = compiled.train_steps(stack(states), stack(texts), rows, count, width=width)
    for r in (0, 1):
        alone, of_alone = compiled.train_steps(
            stack([states[r]]), stack([texts[r]]), rows[r : r + 1], count, width=width
        )
        for found, expected in zip(
            jax.tree.leaves(of_run((together.params, together.step, metrics), r)),
            jax.tree.leaves(of_run((alone.params, alone.step, of_alone), 0)),
            strict=True,
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        assert int(together.step[r]) == 2
    for found, expected in zip(jax.tree.leaves(of_run(together, 2)), jax.tree.leaves(states[2]), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_runs_trained_together_end_near_what_they_are_alone(small_corpus, tmp_path):
    configs = [lstm(f"--config.optimizer.learning_rate={rate}") for rate in (0.001, 0.003, 0.02)]
    ended, seen = [], set()
    hooks = RunHooks(lambda run, epochs, loss: seen.add(run.folder.name), lambda run, _: ended.append(run.folder.name))
    together = train_runs(members(tmp_path / "together", *configs), small_corpus, most_together=3, hooks=hooks)
    assert together == train_runs(members(tmp_path / "alone", *configs), small_corpus, most_together=1) == [None] * 3
    assert sorted(ended) == ["0", "1", "2"]
    assert seen == {"0", "1", "2"}
    sizes = [
        run_files.read_json(tmp_path / "together" / which / run_files.RECORD)["trained_together"] for which in "012"
    ]
    assert sizes == [3, 3, 3]
    for which in "012":
        together, alone = (tmp_path / how / which for how in ("together", "alone"))
        assert run_files.read_json(alone / run_files.RECORD)["trained_together"] <= len(jax.local_devices())
        for of_together, of_alone in zip(run_files.read_metrics(together), run_files.read_metrics(alone), strict=True):
            assert of_together.keys() == of_alone.keys()
            np.testing.assert_allclose(of_together["loss"], of_alone["loss"], rtol=1e-3)
        found, expected = run_files.read_predictions(together), run_files.read_predictions(alone)
        assert found.id.tolist() == expected.id.tolist()
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-3)
        np.testing.assert_allclose(
            restore(together).predict_proba(small_corpus.texts[:9]),
            restore(alone).predict_proba(small_corpus.texts[:9]),
            atol=1e-3,
        )


def test_one_that_stops_early_stops_no_other(small_corpus, tmp_path):
    flags = (
        "--config.training.epochs=8",
        "--config.training.patience=0",
        "--config.training.min_steps=0",
        "--config.training.select=log_loss",
        "--config.optimizer.learning_rate=0.03",
    )
    configs = [lstm(*flags, "--config.training.patience=1"), lstm(*flags)]
    assert train_group(members(tmp_path, *configs), small_corpus) == [None, None]
    epochs = [max(r["epoch"] for r in run_files.read_metrics(tmp_path / which)) for which in "01"]
    assert epochs[0] == run_files.read_json(tmp_path / "0" / run_files.RECORD)["best_epoch"] + 1 < 8
    assert epochs[1] == 8


def test_one_that_diverges_harms_no_other(small_corpus, tmp_path):
    sgd = ("--config.optimizer.name=sgd",)
    sane, other, wild = (lstm(*sgd, f"--config.optimizer.learning_rate={rate}") for rate in (0.1, 0.2, 1e38))
    found = train_group(members(tmp_path / "a", sane, wild), small_corpus)
    train_group(members(tmp_path / "b", sane, other), small_corpus)
    assert found[0] is None
    assert "not finite by step" in str(found[1])
    assert contents(tmp_path / "a" / "0") == contents(tmp_path / "b" / "0")
    assert run_files.has_diverged(tmp_path / "a" / "1")


def test_an_interrupted_population_goes_on_as_if_it_had_not_been(small_corpus, tmp_path, monkeypatch):
    """One member further than the other, too: it waits."""
    configs = [lstm(), lstm("--config.seed=1")]
    train_group(members(tmp_path / "whole", *configs), small_corpus)
    monkeypatch.setattr(history, "SAVE_SECONDS", 0.0)

    class Killed(Exception):
        pass

    def kill(which, epochs, loss):
        if epochs >= 2.5:
            raise Killed

    with pytest.raises(Killed):
        train_group(members(tmp_path / "parts", *configs), small_corpus, on_progress=kill)
    last = max((tmp_path / "parts" / "1" / run_files.CHECKPOINTS).iterdir(), key=lambda path: int(path.name))
    clear(tmp_path / "parts" / "1")
    assert not last.exists()
    train_group(members(tmp_path / "parts", *configs), small_corpus)
    for which in "01":
        assert contents(tmp_path / "parts" / which) == contents(tmp_path / "whole" / which)


def test_one_that_is_killed_while_its_runs_are_finished_ends_as_if_it_had_not_been(small_corpus, tmp_path, monkeypatch):
    """What is left is a smaller population, which may round otherwise: it writes over nothing."""

    class Killed(Exception):
        pass

    def write(path, value):
        if path == tmp_path / "parts" / "1" / run_files.RECORD:
            raise Killed
        write_json(path, value)

    configs = [lstm(f"--config.seed={seed}") for seed in range(3)]
    train_group(members(tmp_path / "whole", *configs), small_corpus)
    with monkeypatch.context() as patched:
        patched.setattr("research.runs.record.write_json", write)
        with pytest.raises(Killed):
            train_group(members(tmp_path / "parts", *configs), small_corpus)
    assert [run_files.is_finished(tmp_path / "parts" / which) for which in "012"] == [True, False, False]
    evaluate_runs = runs_of_training.evaluate_runs  # of test texts

    def otherwise(*arguments):
        metrics, probabilities = evaluate_runs(*arguments)
        return metrics, [1 - of_one for of_one in probabilities]

    monkeypatch.setattr(runs_of_training, "evaluate_runs", otherwise)
    train_group(members(tmp_path / "parts", *configs), small_corpus)
    for which in "012":
        assert run_files.is_finished(tmp_path / "parts" / which)
        assert contents(tmp_path / "parts" / which) == contents(tmp_path / "whole" / which)


def test_what_is_left_after_a_kill_is_trained_as_it_would_have_been(small_corpus, tmp_path, monkeypatch):
    """In the groups that were planned, of which some are finished."""
    groups = []

    def ended(asked, *arguments, **keywords):
        groups.append([run.folder.name for run in asked])
        for run in asked:
            make_folder(run.folder)
            write_json(run.folder / run_files.RECORD, {"status": "done"})
        return [None] * len(asked)

    monkeypatch.setattr(population, "train_group", ended)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    asked = members(tmp_path, *[lstm()] * 5)
    train_runs(asked, small_corpus, most_together=3)
    write_json(asked[0].folder / run_files.RECORD, {"status": "diverged", "error": "not finite"})
    outcomes = train_runs(asked, small_corpus, most_together=3)
    assert groups == [["0", "1", "2"], ["3", "4"], ["1", "2"], ["3", "4"]]
    assert list(map(str, outcomes)) == ["not finite", "None", "None", "None", "None"]


def test_a_population_that_memory_does_not_hold_is_tried_in_halves(small_corpus, tmp_path, monkeypatch):
    sizes = []

    def fail_where_many(asked, *arguments, **keywords):
        sizes.append(len(asked))
        if len(asked) > 2 or "3" in [run.folder.name for run in asked]:
            raise RuntimeError(f"RESOURCE_EXHAUSTED: no memory for {len(asked)}")
        return [None] * len(asked)

    monkeypatch.setattr(population, "train_group", fail_where_many)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    ended = train_runs(members(tmp_path, *[lstm()] * 4), small_corpus, most_together=4)
    assert sizes == [4, 2, 2, 1, 1]
    assert list(map(str, ended)) == ["None", "None", "None", "RESOURCE_EXHAUSTED: no memory for 1"]
    notes = "".join(ended[3].__notes__)
    assert "no memory for 4" in notes  # how it all began
    assert "fail_where_many" in notes


def test_what_fails_for_another_reason_is_not_tried_again(small_corpus, tmp_path, monkeypatch):
    sizes = []

    def fail(asked, *arguments, **keywords):
        sizes.append(len(asked))
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(population, "train_group", fail)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    ended = train_runs(members(tmp_path, *[lstm()] * 4), small_corpus, most_together=4)
    assert sizes == [4]
    assert list(map(str, ended)) == ["a mistake of ours"] * 4


def test_a_users_mistake_ends_all(small_corpus, tmp_path):
    with pytest.raises(UserError, match="--repeat"):
        train_runs([Run(lstm(), tmp_path / "a", repeat=-1)], small_corpus)


def test_what_differs_in_code_is_trained_apart():
    configs = [lstm(), lstm("--config.seed=3"), lstm("--config.model.hidden_size=4"), lstm("--config.training.l2=1")]
    configs += [lstm("--config.optimizer.learning_rate=1"), lstm("--config.training.l2=2"), lstm()]
    assert group_runs(configs, 256) == [[0, 1, 4, 6], [2], [3, 5]]
    assert group_runs(configs, 2) == [[0, 1], [4, 6], [2], [3, 5]]
    assert group_runs(configs, 1) == [[0], [1], [4], [6], [2], [3], [5]]


def test_a_signal_that_another_thread_receives_stops_all():
    """The main thread, asleep while others train, knows of it when it wakes up."""
    told = []

    def interrupt(number, frame):
        raise KeyboardInterrupt

    def job(check):
        time.sleep(0.5)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        for _ in range(400):
            time.sleep(0.05)
            check()
        told.append("never told to stop")

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_interruptibly(job)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert told == []
