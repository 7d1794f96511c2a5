"""Curves for TensorBoard: of finished runs, and live."""

import struct
import sys
import time

import pytest

from research.errors import UserError
from research.json_files import write_json
from research.reporting.results import read_results
from research.reporting.tensorboard import live_events, write_events
from research.runs import run_files
from research.runs.clearing import clear
from tests.made_up_comparison import RECORD

proto = pytest.importorskip("tensorboardX.proto.event_pb2", reason="tensorboardX is not installed")


def read_events(path):
    """Return (name, value, epoch) of every point in an event file."""
    data, values = path.read_bytes(), []
    while data:  # length, its checksum, an event, its checksum
        (length,) = struct.unpack("<Q", data[:8])
        event = proto.Event.FromString(data[12 : 12 + length])
        values += [(v.tag, round(v.simple_value, 4), event.step) for v in event.summary.value]
        data = data[16 + length :]
    return values


def test_tensorboard_reads_the_curves_of_every_run(comparison):
    for _ in range(2):  # a second time writes nothing twice
        folder = write_events(read_results(comparison), comparison)
    files = sorted(folder.rglob("events.out.tfevents.*"))
    assert len(files) == 11  # of 12 runs, one was never begun
    assert read_events(files[0]) == [("validation/accuracy", 0.7, 1)]


def log(folder, *epochs, accuracy=0.5, append=True):
    folder.mkdir(parents=True, exist_ok=True)
    records = [{"step": e, "epoch": e, "split": "validation", "accuracy": accuracy} for e in epochs]
    run_files.write_metrics(folder, records, append=append)


def events_of(folder):
    return [point for path in sorted(folder.rglob("events.out.tfevents.*")) for point in read_events(path)]


def test_curves_are_written_while_runs_are_trained(tmp_path):
    with live_events(tmp_path, "*/*"):
        log(tmp_path / "lstm" / "fold0", 1)
        deadline = time.monotonic() + 30
        while not events_of(tmp_path / "tensorboard" / "lstm" / "fold0"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        log(tmp_path / "lstm" / "fold0", 2)
        log(tmp_path / "cnn" / "fold1", 1)
    assert events_of(tmp_path / "tensorboard" / "lstm" / "fold0") == [("validation/accuracy", 0.5, e) for e in (1, 2)]
    assert events_of(tmp_path / "tensorboard" / "cnn" / "fold1") == [("validation/accuracy", 0.5, 1)]


def test_a_resumed_run_has_no_epoch_twice_and_one_that_begins_anew_only_its_own(tmp_path):
    with live_events(tmp_path):
        log(tmp_path, 1, 2, 3)
    with live_events(tmp_path):
        log(tmp_path, 1, 2, append=False)  # up to the last checkpoint
        log(tmp_path, 3, 4)
    assert events_of(tmp_path) == [("validation/accuracy", 0.5, epoch) for epoch in (1, 2, 3, 4)]
    with live_events(tmp_path):
        log(tmp_path, 1, accuracy=0.9, append=False)
    assert events_of(tmp_path) == [("validation/accuracy", 0.9, 1)]


def test_overwrite_removes_the_curves(tmp_path):
    run = tmp_path / "run"
    with live_events(run):
        log(run, 1)
    write_json(run / run_files.CONFIG, {"hash": "", "settings": {}})
    write_json(run / run_files.RECORD, RECORD)
    clear(run)
    assert not run.exists()


def test_what_is_not_installed_is_said_before_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with (
        pytest.raises(UserError, match="tensorboard needs tensorboardX, which is not installed: pip install"),
        live_events(tmp_path),
    ):
        raise AssertionError("nothing is trained")
