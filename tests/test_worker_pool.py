"""Worker processes: their runs end as they do alone, and the caller learns how each run ended."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from concurrent.futures import Future
from pathlib import Path

import pytest

from experiments.variants import load_config
from research.atomic_files import make_folder
from research.errors import Diverged, UserError
from research.json_files import write_json
from research.machine import available_cores
from research.parallel import device_setup
from research.parallel import train_runs as module
from research.parallel.train_runs import RunHooks, next_run, train_runs
from research.parallel.worker_pool import Stopped, Workers, cores_for
from research.runs import run_files
from research.runs.prepare import Run
from research.settings import to_dict

FLAGS = ("--config.training.epochs=2", "--config.model.embedding_size=16")


# What happens in a worker, by the number of the fold.
FINE, BROKEN, DIVERGED, UNPICKLABLE, MISTAKEN, KILLED, ENDLESS = range(7)


class CannotBePickled(Exception):
    def __init__(self, first, second):
        super().__init__("cannot be sent")


def pretend(runs, corpus, *, folds, test, on_progress):
    """Stands for `train_group` in a worker."""
    (run,) = runs
    if run.fold == BROKEN:
        raise ValueError("broken")
    if run.fold == DIVERGED:
        return [Diverged("the loss is not finite")]
    if run.fold == UNPICKLABLE:
        raise CannotBePickled(1, 2)
    if run.fold == MISTAKEN:
        raise UserError("a mistake")
    if run.fold == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    while run.fold == ENDLESS:
        time.sleep(0.05)
        try:
            on_progress(run, 0.5, 0.1)
        except Stopped:
            (run.folder / "stopped").touch()
            raise
    return [None]


def set_up():
    module.train_group = pretend


def make_run_folder(folder, fold):
    make_folder(folder / str(fold))
    return folder / str(fold)


def train(folds, corpus, folder, config=None, on_progress=lambda run, epochs, loss: None):
    """Train in two workers; return fold -> outcome."""
    runs = [Run(config or load_config("lstm"), make_run_folder(folder, fold), fold) for fold in folds]
    outcomes = train_runs(runs, corpus, workers=Workers(2, set_up), hooks=RunHooks(on_progress))
    return dict(zip(folds, outcomes, strict=True))


@pytest.mark.extra
def test_a_run_ends_with_the_bits_that_it_has_alone(small_tsv, small_corpus, tmp_path, monkeypatch):
    """With several cores, XLA could divide the matrix products of this variant among them."""
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    config = load_config("cnn:rand", FLAGS)
    runs = [Run(config, tmp_path / f"fold{fold}", fold) for fold in (0, 1)]
    assert train_runs(runs, small_corpus, workers=Workers(2, device_setup.set_up_process)) == [None, None]
    command = [sys.executable, "-P", "-m", "experiments.train", "--config=cnn:rand", *FLAGS, f"--corpus={small_tsv}"]
    subprocess.run([*command, "--fold=1", f"--workdir={tmp_path / 'alone'}"], check=True, capture_output=True)
    for name in (run_files.PREDICTIONS, run_files.METRICS, run_files.TOKENIZER):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "fold1" / name).read_bytes()
    for folder in ("alone", "fold1"):
        assert run_files.read_json(tmp_path / folder / run_files.RECORD)["devices"] == ["cpu:cpu"]


def test_a_run_that_fails_ends_no_other(small_corpus, tmp_path):
    outcomes = train([FINE, BROKEN, DIVERGED, UNPICKLABLE], small_corpus, tmp_path)
    assert outcomes[FINE] is None
    assert isinstance(outcomes[BROKEN], ValueError)
    assert 'raise ValueError("broken")' in "".join(traceback.format_exception(outcomes[BROKEN]))
    assert isinstance(outcomes[DIVERGED], Diverged)
    assert str(outcomes[UNPICKLABLE]) == "CannotBePickled: cannot be sent"


def test_a_users_mistake_stops_all_workers(small_corpus, tmp_path):
    with pytest.raises(UserError, match="a mistake"):
        train([ENDLESS, MISTAKEN], small_corpus, tmp_path)
    assert (tmp_path / str(ENDLESS) / "stopped").exists()


def test_a_lost_worker_is_reported_and_stops_the_others(small_corpus, tmp_path):
    with pytest.raises(UserError, match=rf"a process that trained .*{KILLED} was lost"):
        train([ENDLESS, KILLED], small_corpus, tmp_path)
    assert (tmp_path / str(ENDLESS) / "stopped").exists()


def test_an_exception_of_the_caller_stops_all_workers(small_corpus, tmp_path):
    def stop(run, epochs, loss):
        assert (run.fold, epochs, loss) == (ENDLESS, 0.5, 0.1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train([ENDLESS, FINE], small_corpus, tmp_path, on_progress=stop)
    assert (tmp_path / str(ENDLESS) / "stopped").exists()


def test_runs_that_have_ended_or_use_all_cores_need_no_worker(small_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "train_group", lambda runs, *_, **__: [None] * len(runs))
    monkeypatch.setattr(module, "WorkerPool", None)
    write_json(make_run_folder(tmp_path, 0) / run_files.RECORD, {"status": "done"})
    write_json(make_run_folder(tmp_path, 2) / run_files.RECORD, {"status": "diverged", "error": "not finite"})
    outcomes = train([0, 1, 2], small_corpus, tmp_path, load_config("bert:minilm"))
    assert {fold: str(outcome) for fold, outcome in outcomes.items()} == {0: "None", 1: "None", 2: "not finite"}


def test_a_folder_that_holds_another_run_is_noticed_before_any_run_is_trained(small_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WorkerPool", None)
    folder = make_run_folder(tmp_path, 1)
    write_json(folder / run_files.RECORD, {"status": "done"})
    write_json(folder / run_files.CONFIG, {"hash": "", "settings": to_dict(load_config("gru"))})
    with pytest.raises(UserError, match="holds another run"):
        train([0, 1], small_corpus, tmp_path)


class TwoWorkersInStep:
    """Stands for a pool whose two workers always end their calls at the same time."""

    def __init__(self):
        self.idle, self.calls, self.keys_of = [0, 1], [], ([], [])

    @property
    def has_idle(self):
        return bool(self.idle)

    @property
    def next_worker(self):
        return self.idle[-1]

    def submit(self, function, run, settings, key, **options):
        worker, future = self.idle.pop(), Future()
        self.keys_of[worker].append(key)
        self.calls.append((worker, future))
        return future

    def listen(self):
        for worker, future in self.calls:
            self.idle.append(worker)
            future.set_result(None)
        self.calls = []


def test_a_worker_goes_on_with_the_program_that_it_has_compiled(small_corpus, tmp_path, monkeypatch):
    pool = TwoWorkersInStep()
    monkeypatch.setattr(module, "WorkerPool", lambda workers, shared: contextlib.nullcontext(pool))
    configs = [load_config(name) for name in ("lstm", "lstm", "lstm", "gru", "gru", "gru")]
    runs = [Run(config, tmp_path / str(i), i) for i, config in enumerate(configs)]
    assert train_runs(runs, small_corpus, workers=Workers(2, set_up)) == [None] * 6
    assert [(len(keys), len(set(keys))) for keys in pool.keys_of] == [(3, 1), (3, 1)]


@pytest.mark.parametrize(("quota", "granted"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("", 8)])
def test_a_container_may_use_the_cores_of_its_quota(quota, granted, monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert available_cores() == granted
    assert cores_for(8) == list(range(8))
    assert cores_for(2) == [None, None]


def test_few_workers_compile_the_same_program():
    programs = ["linear"] * 3 + ["lstm"] * 2 + ["cnn"] * 4
    assert next_run(range(9), programs, "", set()) == 0
    assert next_run(range(1, 9), programs, "", {"linear"}) == 5
    assert next_run([1, 2, 3, 4, 6], programs, "cnn", {"linear"}) == 6
    assert next_run([1, 2, 3, 4], programs, "cnn", {"linear"}) == 3
    assert next_run([1, 2, 4], programs, "linear", {"lstm"}) == 1
    assert next_run([2, 6, 7], programs, "lstm", {"linear", "cnn"}) == 6
