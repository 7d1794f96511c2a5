"""A full disk ends a run with a clear error, and what was saved before stays intact."""

import csv
import errno
import shutil
from types import SimpleNamespace

import jax
import pytest

from research.runs import resume, run_files
from research.runs.train import train
from tests.comparing import compare_into
from tests.small import small_lstm

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture
def disk(monkeypatch):
    """A disk that is full after `disk.saves` checks of its free space."""
    disk, real_usage = SimpleNamespace(saves=0), shutil.disk_usage

    def usage(folder):
        disk.saves -= 1
        return SimpleNamespace(free=0) if disk.saves < 0 else real_usage(folder)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return disk


def test_the_last_checkpoint_stays_and_the_run_resumes_once_there_is_space(small_corpus, tmp_path, monkeypatch, disk):
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    config = small_lstm()
    disk.saves = 1000
    whole = train(config, small_corpus, tmp_path / "whole")
    disk.saves = 2
    with pytest.raises(OSError, match="No space left on device") as error:
        train(config, small_corpus, tmp_path / "run")
    assert error.value.errno == errno.ENOSPC
    assert not run_files.is_finished(tmp_path / "run")
    assert list((tmp_path / "run" / run_files.CHECKPOINTS).rglob("files.sha256"))
    disk.saves = 1000
    train(config, small_corpus, tmp_path / "run")
    for name in (run_files.METRICS, run_files.PREDICTIONS):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_a_comparison_marks_the_run_as_failed_and_trains_the_others(small_corpus, tmp_path, monkeypatch, disk):
    disk.saves = 1  # space for one run's checkpoint
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])  # one run at a time
    lines, variants = [], {"lstm": small_lstm("--config.training.select=last")}  # one checkpoint per run
    folder = compare_into(tmp_path / "c", variants, small_corpus, folds=3, log=lines.append)
    assert sum("No space left on device" in line for line in lines) == 2
    with (folder / "results.csv").open() as file:
        assert sorted(row["status"] for row in csv.DictReader(file)) == ["done", "failed", "failed"]
    disk.saves = 1000
    compare_into(tmp_path / "c", variants, small_corpus, folds=3)
    with (folder / "results.csv").open() as file:
        assert {row["status"] for row in csv.DictReader(file)} == {"done"}
