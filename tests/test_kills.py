"""Processes that are killed at random moments, even during a save, and started again give the same results.

This is a sample. `KILLS=50 ./launch.sh test tests/test_kills.py -n0 -s` kills more often and prints a summary.
"""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from research import restore
from research.runs import run_files
from research.runs.checkpoints import Checkpoints
from research.runs.claim import lock_folder
from tests.conftest import ROOT

KILLS = int(os.environ.get("KILLS", "1"))
PROGRAM = f"""
import runpy, sys
sys.path.insert(0, {str(ROOT)!r})
from research.parallel import device_setup
from tests import saving
saving.save_often()
device_setup.set_up_process = saving.set_up
sys.argv = sys.argv[1:]
runpy.run_module("experiments." + sys.argv[0], run_name="__main__")
"""
SMALL = (
    "--config.training.epochs=12",
    "--config.training.patience=0",
    "--config.training.select=log_loss",
    "--config.optimizer.learning_rate=0.01",
)
COMMANDS = {
    "train": ("train", "--config=lstm", *SMALL, "--config.training.random_deletion=0.1"),
    "compare": ("compare", "--variants=mlp,cnn", "--folds=2", "--config.model.embedding_size=16", *SMALL),
}


def start(command, corpus, workdir):
    arguments = [sys.executable, "-P", "-c", PROGRAM, *command, f"--corpus={corpus}", f"--workdir={workdir}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(arguments, **pipes, text=True, start_new_session=True)


def finish(process):
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return out


def outcome(workdir):
    """Return what must be equal for each run: the bytes of its files, its probabilities and its checkpoints."""
    outcomes = {}
    for record in sorted(workdir.rglob(run_files.RECORD)):
        folder, run = record.parent, str(record.parent.relative_to(workdir))
        for name in (run_files.METRICS, run_files.PREDICTIONS, run_files.TOKENIZER):
            outcomes[run, name] = (folder / name).read_bytes()
        outcomes[run, "probabilities"] = restore(folder).predict_proba(["a fine film", "dull"])
        with Checkpoints(folder / run_files.CHECKPOINTS, read_only=True) as checkpoints:
            outcomes[run, "steps"] = (checkpoints.best_step(), checkpoints.last_step())
    return outcomes


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_process_resumes_with_the_same_result(name, small_tsv, tmp_path):
    finish(start([*COMMANDS[name], "--config.training.epochs=1"], small_tsv, tmp_path / "compiling"))  # fills the cache
    begin = time.monotonic()
    finish(start(COMMANDS[name], small_tsv, tmp_path / "uninterrupted"))
    duration, expected = time.monotonic() - begin, outcome(tmp_path / "uninterrupted")
    chance, kills, ended = random.Random(0), 0, 0
    while kills < KILLS:
        workdir = tmp_path / f"killed{ended}"
        for _ in range(KILLS - kills):
            process = start(COMMANDS[name], small_tsv, workdir)
            try:
                process.communicate(timeout=chance.uniform(0.3, 0.9) * duration)
                break  # it finished before the kill
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
        finish(start(COMMANDS[name], small_tsv, workdir))
        resumed = outcome(workdir)
        assert resumed.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_equal(resumed[key], value, err_msg=f"{key} after {kills} kills")
        ended += 1
    print(f"{name}: {kills} kills, {ended} runs or comparisons finished, no difference")


def has_checkpoint(folder):
    try:
        return any(folder.rglob("[0-9]*/files.sha256"))
    except FileNotFoundError:  # a checkpoint was deleted meanwhile
        return False


@pytest.mark.parametrize(("name", "number"), [("train", signal.SIGTERM), ("compare", signal.SIGINT)])
def test_a_signal_saves_and_ends_with_a_line_that_says_how_to_resume(name, number, small_tsv, tmp_path):
    command = [*COMMANDS[name], "--config.training.epochs=500", "--config.training.patience=0"]
    process = start(command, small_tsv, tmp_path / "run")
    deadline = time.monotonic() + 120
    while not has_checkpoint(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, number)  # as terminals and clusters do: child processes get it too
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert error.strip().endswith("stopped; the same command resumes")
    assert "Traceback" not in error
    for lock in (tmp_path / "run").rglob(run_files.LOCK):  # a process that could not save in time leaves its lock
        with lock_folder(lock.parent):  # a lock left behind does not block others
            pass
