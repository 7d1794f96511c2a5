"""The measurement on an accelerator: its parts, their time limits and its report; and all of it on CPU, with few texts.

No time is asserted.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.benchmarks.accelerator_parts import POPULATIONS, RESTORE, TABLE, TORCH, count_tests, plan_parts
from experiments.benchmarks.accelerator_tables import latest_of_each_size, make_sections, runs_per_hour
from experiments.benchmarks.parts import DONE, FAILED, SKIPPED, TIMED_OUT, Outcome, Part, run_part, time_limit


def part(code="", least=10.0, most=60.0, **fields):
    """Return a part that runs Python code."""
    return Part("a part", lambda limit: [sys.executable, "-c", code], least, most, **fields)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "parts").mkdir()
    return tmp_path


def test_a_part_gets_its_own_time_and_leaves_what_later_ones_need():
    parts = [part(least=90, most=160), part(least=40, most=70), part(least=20, most=300, skip="not here")]
    assert time_limit(parts, 0, 480) == 160
    assert time_limit(parts, 0, 150) == 110  # 40 are kept
    assert time_limit(parts, 1, 50) == 50
    assert time_limit(parts, 0, 30) == 0


@pytest.mark.parametrize("is_small", [False, True])
def test_no_part_has_to_be_left_out(is_small):
    parts = plan_parts(Path("x"), 4.0, is_small=is_small, has_torch=True)
    assert sum(part.least for part in parts) <= 60 * 4.0
    assert len({part.name for part in parts}) == len(parts)


def test_a_part_that_fails_or_is_ended_keeps_what_it_has_measured(folder):
    say = "print('{\"a\": 1}', flush=True); print('7'); print('{\"b\":', flush=True)"
    assert run_part(part(say), 60, folder)[1:2] == (DONE,)
    failed = run_part(part(f"{say}; print('first'); raise SystemExit('no device')"), 60, folder)
    assert (failed.status, failed.results, failed.message) == (FAILED, [{"a": 1}], "no device")
    wait = "import sys, time; print('compiles', file=sys.stderr, flush=True); time.sleep(99)"
    slow = run_part(part(f"{say}; {wait}"), 3, folder)
    assert (slow.status, slow.results, slow.message) == (TIMED_OUT, [{"a": 1}], "compiles")
    killed = run_part(part("import os; os.kill(os.getpid(), 9)"), 60, folder)
    assert (killed.status, killed.message) == (FAILED, "ended by SIGKILL")


def test_what_a_part_started_ends_with_it(folder):
    code = """
import json, subprocess, time
child = subprocess.Popen(["sleep", "99"])
print(json.dumps({"pid": child.pid}), flush=True)
time.sleep(99)
"""
    (result,) = run_part(part(code), 3, folder).results
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # until it is reaped
            os.kill(result["pid"], 0)
            time.sleep(0.05)


def test_a_part_without_time_or_package_is_not_started(folder):
    assert run_part(part("x", skip="no PyTorch"), 60, folder).message == "no PyTorch"
    assert run_part(part("x"), 1, folder).status == SKIPPED
    assert not list((folder / "parts").iterdir())


def test_runs_an_hour_are_those_of_later_epochs_and_the_test():
    size = {"runs": 64, "epoch_seconds": [100.0, 2.0, 3.0, 2.5], "test_seconds": 5.0}
    assert runs_per_hour(size, 10) == 3600 * 64 / 30
    assert runs_per_hour({"runs": 64, "epoch_seconds": [100.0]}, 10) is None


def test_the_last_result_of_a_size_counts_and_an_error_keeps_what_was_measured():
    results = [{"runs": 8, "x": 1}, {"runs": 8, "x": 2}, {"runs": 1, "x": 3}, {"runs": 8, "error": "out of memory"}]
    assert latest_of_each_size(results) == [{"runs": 1, "x": 3}, {"runs": 8, "x": 2, "error": "out of memory"}]


def outcome(name, *results, status=DONE, message=""):
    return Outcome(name, status, 1.0, 2.0, list(results), message)


def population(runs, seconds, **more):
    about = {"variant": "lstm", "runs": runs, "epochs": 3, "train_texts": 100 * runs}
    return about | {"epoch_seconds": [9.0, *seconds]} | more


def test_the_report_has_the_ratio_with_the_accuracies_of_both():
    small = population(1, [1.0, 1.0], test_accuracy=[0.7])
    large = population(64, [2.0, 2.0], test_accuracy=[0.7, 0.8], peak_bytes=3_000_000_000)
    runs = [{"torch": "2", "device": "H", "epochs": 3, "seconds": s, "test_accuracy": 0.75} for s in (50.0, 3.0, 3.0)]
    failed = population(256, [], error="out of memory")
    outcomes = [outcome(f"{POPULATIONS}lstm", small, large, failed), outcome(TORCH, *runs)]
    speed, beside, _ = make_sections(outcomes)
    assert [row[:3] for row in speed.rows] == [("lstm", "1", "100"), ("lstm", "64", "3,200"), ("lstm", "256", "")]
    assert speed.rows[1][6] == "3.00"
    assert speed.rows[2][-1] == "out of memory"
    assert [row[1:] for row in beside.rows] == [
        ("1,200", "1.0", "70.0", "1"),
        ("38,400", "32.0", "75.0 ± 7.1", "2"),
        ("", "", "", "0"),
        ("1,200", "", "75.0 ± 0.0", "3"),
    ]
    assert "64 run(s) together finish 32.0 times as many runs" in beside.sentences[-1]


def test_the_report_says_what_failed_and_holds_the_rest():
    row = {"variant": "mlp", "status": "done", "accuracy": "0.5", "compile_seconds": "1", "train_seconds": "2"}
    crossed = {"what": "restored", "largest_difference": 1e-6, "other_labels": 0, "texts": 9, "accuracies": [0.5, 0.5]}
    outcomes = [
        outcome(f"{POPULATIONS}gru", {"variant": "gru", "runs": 1, "error": "x"}, status=TIMED_OUT, message="last"),
        outcome(TORCH, status=SKIPPED, message="PyTorch is not installed"),
        outcome(f"{RESTORE}there", {"what": "whole run", "epochs": 3.0}, crossed),
        outcome(TABLE, row, row | {"status": "failed", "accuracy": ""}, status=FAILED, message="why"),
    ]
    *_, restored, table, parts = make_sections(outcomes)
    assert [row[1] for row in restored.rows] == ["1.0e-06"]
    assert table.rows == [("mlp", "1", "50.0", "1.0", "2.0")]
    assert list(parts.sentences) == [f"{TORCH}: PyTorch is not installed"]
    assert list(parts.outputs) == [(f"{POPULATIONS}gru", "last"), (TABLE, "why")]
    assert [outcome.name for outcome in outcomes] == [row[0] for row in parts.rows]


def test_tests_are_counted_up_to_where_they_were_ended():
    output = "tests/test_a.py::test_x[a b] PASSED\ntests/test_a.py::test_y FAILED [ 9%]\ntests/test_a.py::test_z "
    assert count_tests(output) == [{"passed": 1, "failed": 1, "names": ["tests/test_a.py::test_y"]}]


def run_program(*flags):
    command = [sys.executable, "-P", "-m", "experiments.benchmarks.accelerator", *flags]
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    return subprocess.run(command, capture_output=True, text=True, env=environment | {"JAX_PLATFORMS": "cpu"})


def test_without_an_accelerator_the_command_says_what_installs_one(tmp_path):
    done = run_program(f"--workdir={tmp_path / 'a'}")
    assert done.returncode == 2
    assert "ACCELERATOR=cuda13" in done.stderr
    assert not (tmp_path / "a").exists()


@pytest.mark.extra
def test_the_small_measurement_runs_on_cpu(tmp_path):
    done = run_program(f"--workdir={tmp_path}", "--small", "--minutes=20")
    assert done.returncode == 0, done.stderr
    parts = json.loads((tmp_path / "accelerator.json").read_text("utf-8"))["parts"]
    measured = {part["name"]: part for part in parts}
    assert [part["name"] for part in parts if part["status"] != DONE and part["name"] != TORCH] == []
    assert {size["runs"] for size in measured[f"{POPULATIONS}lstm"]["results"]} == {1, 2}
    crossed = [r for name, of_part in measured.items() if name.startswith(RESTORE) for r in of_part["results"]]
    assert all(result.get("largest_difference", 0.0) < 1e-4 for result in crossed)
    assert measured["tests"]["results"][0]["passed"] >= 1
    report = (tmp_path / "accelerator.md").read_text("utf-8")
    for title in ("Environment", "Populations", "The lstm beside PyTorch", "The default table", "How the parts ended"):
        assert f"## {title}" in report
    assert (tmp_path / "table" / "results.csv").exists()
