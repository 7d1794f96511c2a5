"""A full disk: said in a sentence, and what was saved before is as it was."""

import csv
import errno
import shutil

import jax
import pytest

from research import train
from research.runs import resume as history
from research.runs import run_files
from tests.comparing import compare_into
from tests.small import small_lstm

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture
def disk(monkeypatch):
    """A disk that is full from the n-th look at its free space on."""
    looks = {"left": 0}

    def usage(folder):
        looks["left"] -= 1
        return shutil._ntuple_diskusage(1, 1, 0) if looks["left"] < 0 else real(folder)

    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", usage)
    return looks


def test_the_last_checkpoint_stays_and_the_run_goes_on_once_there_is_room(small_corpus, tmp_path, monkeypatch, disk):
    monkeypatch.setattr(history, "SAVE_SECONDS", 0.0)
    config = small_lstm()
    disk["left"] = 1000
    whole = train(config, small_corpus, tmp_path / "whole")
    disk["left"] = 2
    with pytest.raises(OSError, match="No space left on device") as error:
        train(config, small_corpus, tmp_path / "run")
    assert error.value.errno == errno.ENOSPC
    assert not run_files.is_finished(tmp_path / "run")
    assert list((tmp_path / "run" / run_files.CHECKPOINTS).rglob("files.sha256"))
    disk["left"] = 1000
    train(config, small_corpus, tmp_path / "run")
    for name in (run_files.METRICS, run_files.PREDICTIONS):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_a_comparison_marks_the_run_and_goes_on_with_the_others(small_corpus, tmp_path, monkeypatch, disk):
    disk["left"] = 1  # room for one run's checkpoint
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])  # one run at a time
    said, variants = [], {"lstm": small_lstm("--config.training.select=last")}  # a checkpoint a run
    folder = compare_into(tmp_path / "c", variants, small_corpus, folds=3, log=said.append)
    assert sum("No space left on device" in line for line in said) == 2
    with (folder / "results.csv").open() as file:
        assert sorted(row["status"] for row in csv.DictReader(file)) == ["done", "failed", "failed"]
    disk["left"] = 1000
    compare_into(tmp_path / "c", variants, small_corpus, folds=3)
    with (folder / "results.csv").open() as file:
        assert {row["status"] for row in csv.DictReader(file)} == {"done"}
