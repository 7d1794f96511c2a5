"""Runs trained in processes with a core each: they end as they do alone, and what befalls one reaches whoever asked."""

import os
import signal
import subprocess
import sys
import time
import traceback

import pytest

from experiments import devices
from experiments.variants import load_config
from research import machine as cores
from research.atomic_files import make_folder
from research.errors import Diverged, UserError
from research.json_files import write_json
from research.parallel import train_runs as training
from research.parallel.train_runs import RunHooks, next_run, train_runs
from research.parallel.worker_pool import Stopped, Workers, cores_for
from research.runs import run_files
from research.runs.prepare import Run

FLAGS = ("--config.training.epochs=2", "--config.model.embedding_size=16")


class Stubborn(Exception):
    def __init__(self, first, second):
        super().__init__("cannot be sent")


def pretend(asked, corpus, *, folds, test, on_progress):
    """Stands for `train_group` in processes: what happens is the fold's number."""
    ((_, folder, fold, *_),) = asked
    if fold == 1:
        raise ValueError("broken")
    if fold == 2:
        return [Diverged("the loss is not finite")]
    if fold == 3:
        raise Stubborn(1, 2)
    if fold == 4:
        raise UserError("a mistake")
    if fold == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    while fold == 6:
        time.sleep(0.05)
        try:
            on_progress(asked[0], 0.5, 0.1)
        except Stopped:
            (folder / "stopped").touch()
            raise
    return [None]


def set_up():
    training.train_group = pretend


def train(folds, corpus, folder, config=None, on_progress=lambda run, epochs, loss: None):
    """What each fold ended with."""
    told = {}
    asked = [Run(config or load_config("lstm"), runs_folder(folder, fold), fold) for fold in folds]
    hooks = RunHooks(on_progress, lambda run, outcome: told.__setitem__(run.fold, outcome))
    train_runs(asked, corpus, workers=Workers(2, set_up), hooks=hooks)
    return told


def runs_folder(folder, fold):
    make_folder(folder / str(fold))
    return folder / str(fold)


def test_a_run_ends_with_the_bits_that_it_has_alone(small_tsv, small_corpus, tmp_path, monkeypatch):
    """The products of this variant are cut among the cores where there are several."""
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    config = load_config("cnn:rand", FLAGS)
    asked = [Run(config, tmp_path / f"fold{fold}", fold) for fold in (0, 1)]
    assert train_runs(asked, small_corpus, workers=Workers(2, devices.set_up_process)) == [None, None]
    command = [sys.executable, "-P", "-m", "experiments.train", "--config=cnn:rand", *FLAGS, f"--corpus={small_tsv}"]
    subprocess.run([*command, "--fold=1", f"--workdir={tmp_path / 'alone'}"], check=True, capture_output=True)
    for name in (run_files.PREDICTIONS, run_files.METRICS, run_files.TOKENIZER):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "fold1" / name).read_bytes()
    for folder in ("alone", "fold1"):
        assert run_files.read_json(tmp_path / folder / run_files.RECORD)["devices"] == ["cpu:cpu"]


def test_one_that_fails_ends_no_other(small_corpus, tmp_path):
    told = train([0, 1, 2, 3], small_corpus, tmp_path)
    assert told[0] is None
    assert isinstance(told[1], ValueError)
    assert 'raise ValueError("broken")' in "".join(traceback.format_exception(told[1]))
    assert isinstance(told[2], Diverged)
    assert str(told[3]) == "Stubborn: cannot be sent"


def test_a_users_mistake_stops_the_others(small_corpus, tmp_path):
    with pytest.raises(UserError, match="a mistake"):
        train([6, 4], small_corpus, tmp_path)
    assert (tmp_path / "6" / "stopped").exists()


def test_a_lost_process_is_a_sentence_and_stops_the_others(small_corpus, tmp_path):
    with pytest.raises(UserError, match=r"a process that trained .*5 was lost"):
        train([6, 5], small_corpus, tmp_path)
    assert (tmp_path / "6" / "stopped").exists()


def test_what_the_caller_raises_stops_all(small_corpus, tmp_path):
    def stop(run, epochs, loss):
        assert (run.fold, epochs, loss) == (6, 0.5, 0.1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train([6, 0], small_corpus, tmp_path, on_progress=stop)
    assert (tmp_path / "6" / "stopped").exists()


def test_what_has_ended_or_takes_all_cores_needs_no_process(small_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("research.parallel.train_runs.train_group", lambda asked, *_, **__: [None] * len(asked))
    monkeypatch.setattr("multiprocessing.get_context", None)
    write_json(runs_folder(tmp_path, 0) / run_files.RECORD, {"status": "done"})
    write_json(runs_folder(tmp_path, 2) / run_files.RECORD, {"status": "diverged", "error": "not finite"})
    encoder = load_config("bert:minilm")
    assert {at: str(e) for at, e in train([0, 1, 2], small_corpus, tmp_path, encoder).items()} == {
        0: "None",
        1: "None",
        2: "not finite",
    }


@pytest.mark.parametrize(("quota", "granted"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("", 8)])
def test_a_container_is_granted_what_its_quota_says(quota, granted, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert cores.available_cores() == granted
    assert cores_for(8) == list(range(8))
    assert cores_for(2) == [None, None]


def test_no_two_compile_the_same_where_that_can_be_helped():
    programs = ["linear"] * 3 + ["lstm"] * 2 + ["cnn"] * 4
    following = next_run
    assert following(range(9), programs, "", set()) == 0
    assert following(range(1, 9), programs, "", {"linear"}) == 5
    assert following([1, 2, 3, 4, 6], programs, "cnn", {"linear"}) == 6
    assert following([1, 2, 3, 4], programs, "cnn", {"linear"}) == 3
    assert following([1, 2, 4], programs, "linear", {"lstm"}) == 1
    assert following([2, 6, 7], programs, "lstm", {"linear", "cnn"}) == 6
