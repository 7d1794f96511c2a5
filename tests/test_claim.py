"""A folder is claimed by one process at a time, and only if it holds nothing else."""

import os
import signal
import subprocess
import sys

import pytest

from research.errors import UserError
from research.json_files import write_json
from research.runs import run_files
from research.runs.claim import lock_folder
from research.runs.clearing import clear
from research.runs.train import train
from tests.comparing import compare_into
from tests.small import small_lstm

HOLD_LOCK = """
import sys, time
from pathlib import Path
from research.runs.claim import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer():
    """Return a function that starts a process which locks a folder."""
    started = []

    def start(folder):
        folder.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", HOLD_LOCK, str(folder)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "locked\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_writer_is_refused_and_the_message_names_the_first(small_corpus, tmp_path, writer):
    config, first = small_lstm("--config.training.epochs=1"), writer(tmp_path / "run")
    with pytest.raises(UserError, match=f"run is being written by process {first.pid} on {os.uname().nodename}"):
        train(config, small_corpus, tmp_path / "run")
    writer(tmp_path / "comparison")
    with pytest.raises(UserError, match="comparison is being written by process"):
        compare_into(tmp_path / "comparison", {"lstm": config}, small_corpus, folds=2)
    write_json(tmp_path / "run" / run_files.CONFIG, {"hash": "", "settings": {}})
    with pytest.raises(UserError, match="is being written by process"):
        clear(tmp_path / "run")


def test_the_lock_of_a_killed_process_does_not_block_others(small_corpus, tmp_path, writer):
    first = writer(tmp_path / "run")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert (tmp_path / "run" / run_files.LOCK).exists()
    folder = train(small_lstm("--config.training.epochs=1"), small_corpus, tmp_path / "run")
    assert run_files.is_finished(folder)
    assert not (folder / run_files.LOCK).exists()


def test_a_lock_is_released_after_an_error_and_excludes_a_second_one(tmp_path):
    with pytest.raises(ZeroDivisionError), lock_folder(tmp_path):
        assert (tmp_path / run_files.LOCK).exists()
        raise ZeroDivisionError
    with (
        lock_folder(tmp_path),
        pytest.raises(UserError, match=f"process {os.getpid()} on"),
        lock_folder(tmp_path),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / run_files.LOCK).symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="cannot be written to"), lock_folder(tmp_path / "run"):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


def test_overwrite_removes_the_files_of_a_killed_process(small_corpus, tmp_path, writer):
    folder = compare_into(tmp_path / "c", {"lstm": small_lstm("--config.training.epochs=1")}, small_corpus, folds=2)
    run = folder / "lstm" / "fold0-repeat0"
    killed = writer(run)
    with pytest.raises(UserError, match="fold0-repeat0 is being written by process"):
        clear(folder)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    (run / "metrics.jsonl.tmp").write_text("half")
    assert (run / run_files.LOCK).exists()
    clear(folder)
    assert not folder.exists()


def test_a_folder_with_a_config_of_another_program_is_refused(small_corpus, tmp_path):
    """Folders of HuggingFace's libraries contain a `config.json` too."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    for call in (clear, lambda folder: train(small_lstm("--config.training.epochs=1"), small_corpus, folder)):
        with pytest.raises(UserError, match="holds other files"):
            call(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "tokenizer.json"]
