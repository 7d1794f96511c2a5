"""Real processes killed at random moments, in the midst of a save too, and started again: nothing differs in the end.

A sample; `KILLS=50 ./launch.sh test tests/test_kills.py -n0 -s` kills that often, and says how often it did.
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
from research.runs.claim import locked
from tests.conftest import ROOT

KILLS = int(os.environ.get("KILLS", "1"))
PROGRAM = f"""
import runpy, sys
sys.path.insert(0, {str(ROOT)!r})
from experiments import devices
from tests import saving
saving.often()
devices.set_up_process = saving.set_up
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
    """What must not differ: metrics and predictions to the byte, and the parameters."""
    found = {}
    for record in sorted(workdir.rglob(run_files.RECORD)):
        folder = record.parent
        for name in (run_files.METRICS, run_files.PREDICTIONS, run_files.TOKENIZER):
            found[str(folder.relative_to(workdir)), name] = (folder / name).read_bytes()
        found[str(folder.relative_to(workdir)), "parameters"] = restore(folder).predict_proba(["a fine film", "dull"])
        with Checkpoints(folder / run_files.CHECKPOINTS, read_only=True) as checkpoints:
            found[str(folder.relative_to(workdir)), "steps"] = (checkpoints.best_step(), checkpoints.last_step())
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_process_goes_on_as_if_it_had_not_been(name, small_tsv, tmp_path):
    for whole in ("first", "whole"):  # the second with programs that are compiled already, as the others
        begin = time.monotonic()
        finish(start(COMMANDS[name], small_tsv, tmp_path / whole))
    duration, expected = time.monotonic() - begin, outcome(tmp_path / "whole")
    chance, kills, ended = random.Random(0), 0, 0
    while kills < KILLS:
        workdir = tmp_path / f"killed{ended}"
        for _ in range(KILLS - kills):
            process = start(COMMANDS[name], small_tsv, workdir)
            try:
                process.communicate(timeout=chance.uniform(0.3, 0.9) * duration)
                break  # it came to its end
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
        finish(start(COMMANDS[name], small_tsv, workdir))
        found = outcome(workdir)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_equal(found[key], value, err_msg=f"{key} after {kills} kills")
        ended += 1
    print(f"{name}: {kills} kills, {ended} runs or comparisons carried to their end, no difference")


def has_checkpoint(folder):
    try:
        return any(folder.rglob("[0-9]*/files.sha256"))
    except FileNotFoundError:  # another one was replaced meanwhile
        return False


@pytest.mark.parametrize(("name", "number"), [("train", signal.SIGTERM), ("compare", signal.SIGINT)])
def test_a_signal_saves_and_leaves_with_a_line_that_says_how_to_go_on(name, number, small_tsv, tmp_path):
    command = [*COMMANDS[name], "--config.training.epochs=500", "--config.training.patience=0"]
    process = start(command, small_tsv, tmp_path / "run")
    deadline = time.monotonic() + 120
    while not has_checkpoint(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, number)  # as a terminal and a cluster do: those that it started hear of it too
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert error.strip().endswith("stopped; the same command goes on from here")
    assert "Traceback" not in error
    for lock in (tmp_path / "run").rglob(run_files.LOCK):  # one that could not save in time leaves its lock
        with locked(lock.parent):  # which keeps nobody out
            pass
