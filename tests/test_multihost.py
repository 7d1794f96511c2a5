"""Several processes train one run as one process does. When one is lost or receives a signal, all end."""

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
LOST = "a process of this run was lost or cannot be reached; start all of them again, and they go on"


def start(corpus, workdir, *flags, count=2):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        shared = f"--coordinator=localhost:{free.getsockname()[1]}", f"--processes={count}"
    command = [sys.executable, "-P", "-m", "experiments.train", *SMALL, f"--corpus={corpus}", f"--workdir={workdir}"]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment, "text": True}
    return [subprocess.Popen([*command, *flags, *shared, f"--process={number}"], **pipes) for number in range(count)]


def wait(processes):
    """Wait for processes; return the exit code, output and errors of each."""
    outputs = [process.communicate(timeout=120) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def wait_for_content(path):
    deadline = time.monotonic() + 90
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < deadline, f"nothing in {path}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(small_tsv, tmp_path_factory):
    """Return a folder with an undisturbed run of two processes, and the same run of one process."""
    folder = tmp_path_factory.mktemp("processes")
    processes = wait(start(small_tsv, folder / "two", *EPOCHS))
    assert [code for code, _, _ in processes] == [0, 0], processes
    assert "run folder: " in processes[0][1]
    assert processes[1][1] == ""
    command = [sys.executable, "-P", "-m", "experiments.train", *SMALL, *EPOCHS, f"--corpus={small_tsv}"]
    subprocess.run([*command, f"--workdir={folder / 'one'}"], check=True, capture_output=True)
    return folder


def test_two_processes_train_as_one_does(undisturbed):
    one, two = (undisturbed / name for name in ("one", "two"))
    assert run_files.read_json(two / run_files.RECORD)["shared_among"] == 2
    for ours, theirs in zip(run_files.read_metrics(two), run_files.read_metrics(one), strict=True):
        assert ours.keys() == theirs.keys()
        if ours["epoch"] <= 3:  # later, differences from rounding have grown
            assert {k: v for k, v in ours.items() if k != "split"} == pytest.approx(
                {k: v for k, v in theirs.items() if k != "split"}, abs=1e-5
            )
    assert len(list((two / run_files.CHECKPOINTS).iterdir())) == 2


@pytest.mark.parametrize(("number", "lost"), [(signal.SIGKILL, 0), (signal.SIGTERM, 1)])
def test_when_one_is_lost_all_end_and_resume_together(undisturbed, small_tsv, tmp_path, number, lost):
    processes = start(small_tsv, tmp_path / "run", *EPOCHS)
    wait_for_content(tmp_path / "run" / run_files.METRICS)  # until the first epoch is logged
    processes[lost].send_signal(number)
    ended = wait(processes)
    if number == signal.SIGTERM:
        assert [code for code, _, _ in ended] == [130, 130]
    else:
        code, _, errors = ended[1 - lost]
        assert (code, ended[lost][0]) == (1, -signal.SIGKILL)
        assert LOST in errors
        assert not re.search(r"Traceback|\*\*\*|    @ |^[EF]\d{4}", errors, re.MULTILINE)
    assert not run_files.is_finished(tmp_path / "run")
    again = wait(start(small_tsv, tmp_path / "run", *EPOCHS))
    assert [code for code, _, _ in again] == [0, 0], again
    assert contents(tmp_path / "run") == contents(undisturbed / "two")


def test_several_processes_refuse_a_number_of_devices(small_tsv, tmp_path):
    code, _, errors = wait(start(small_tsv, tmp_path / "run", "--devices=1"))[0]
    assert code == 2
    assert "--devices is 1, expected no such flag: several processes use all 2 devices" in errors
    assert not (tmp_path / "run").exists()
