"""Several processes that train one run: they do what one does, and when one is lost or told to stop, all end."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from research.runs import run_files
from tests.small import contents

SMALL = ("--config=lstm", "--config.model.embedding_size=8", "--config.model.hidden_size=16")
EPOCHS = ("--config.training.epochs=60", "--config.training.patience=0")
SENTENCE = "a process of this run was lost or cannot be reached; start all of them again, and they go on"


def start(corpus, workdir, *flags, count=2):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        together = f"--coordinator=localhost:{free.getsockname()[1]}", f"--processes={count}"
    command = [sys.executable, "-P", "-m", "experiments.train", *SMALL, f"--corpus={corpus}", f"--workdir={workdir}"]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment, "text": True}
    return [subprocess.Popen([*command, *flags, *together, f"--process={number}"], **pipes) for number in range(count)]


def ended(processes):
    """Exit code, output and errors of each."""
    found = [process.communicate(timeout=120) for process in processes]
    return [(process.returncode, *said) for process, said in zip(processes, found, strict=True)]


def wait_for(path):
    until = time.monotonic() + 90
    while not path.exists():
        assert time.monotonic() < until, f"no {path}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(small_tsv, tmp_path_factory):
    """A run of two processes, and the same run in one."""
    folder = tmp_path_factory.mktemp("processes")
    processes = ended(start(small_tsv, folder / "two", *EPOCHS))
    assert [code for code, _, _ in processes] == [0, 0], processes
    assert "run folder: " in processes[0][1]
    assert processes[1][1] == ""
    command = [sys.executable, "-P", "-m", "experiments.train", *SMALL, *EPOCHS, f"--corpus={small_tsv}"]
    subprocess.run([*command, f"--workdir={folder / 'one'}"], check=True, capture_output=True)
    return folder


def test_two_processes_do_what_one_does(undisturbed):
    one, two = (undisturbed / name for name in ("one", "two"))
    assert run_files.read_json(two / run_files.RECORD)["shared_among"] == 2
    for ours, theirs in zip(run_files.read_metrics(two), run_files.read_metrics(one), strict=True):
        assert ours.keys() == theirs.keys()
        if ours["epoch"] <= 3:  # later, rounding has been amplified
            assert {k: v for k, v in ours.items() if k != "split"} == pytest.approx(
                {k: v for k, v in theirs.items() if k != "split"}, abs=1e-5
            )
    assert len(list((two / run_files.CHECKPOINTS).iterdir())) == 2


@pytest.mark.parametrize(("number", "lost"), [(signal.SIGKILL, 0), (signal.SIGTERM, 1)])
def test_where_one_is_lost_all_end_and_go_on_together(undisturbed, small_tsv, tmp_path, number, lost):
    processes = start(small_tsv, tmp_path / "run", *EPOCHS)
    wait_for(tmp_path / "run" / run_files.METRICS)
    time.sleep(0.5)  # somewhere in the midst
    processes[lost].send_signal(number)
    told = time.monotonic()
    found = ended(processes)
    assert time.monotonic() - told < 60
    if number == signal.SIGTERM:
        assert [code for code, _, _ in found] == [130, 130]
    else:
        code, _, errors = found[1 - lost]
        assert (code, found[lost][0]) == (1, -signal.SIGKILL)
        assert SENTENCE in errors
        assert not re.search(r"Traceback|\*\*\*|    @ |^[EF]\d{4}", errors, re.MULTILINE)
    assert not run_files.is_finished(tmp_path / "run")
    again = ended(start(small_tsv, tmp_path / "run", *EPOCHS))
    assert [code for code, _, _ in again] == [0, 0], again
    assert contents(tmp_path / "run") == contents(undisturbed / "two")


def test_each_has_to_see_the_same_folder_and_flags_that_fit(small_tsv, tmp_path):
    code, _, errors = ended(start(small_tsv, tmp_path / "run", "--devices=1"))[0]
    assert code == 2
    assert "--devices is 1, expected no such flag: several processes use all 2 devices" in errors
    assert not (tmp_path / "run").exists()
