"""A metric of one's own: one entry of `METRICS`, as CONTRIBUTING has it, and it is everywhere."""

import csv
import json
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from research.runs import run_files
from tests.conftest import ROOT

_CHILD = """
import runpy, sys
from research.evaluation import metrics
{function}
metrics.METRICS["kappa"] = {entry}
sys.argv = sys.argv[1:]
runpy.run_module("experiments." + sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def run_with_kappa():
    """A function (program, *flags) -> what it prints, in a process where the example of CONTRIBUTING is a metric."""
    (example,) = re.findall(r"```python\n( +def _kappa.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    function, _, entries = example.partition("METRICS = {")
    (entry,) = re.findall(r'"kappa": (.*),\n', entries)
    imports = "import numpy as np\nfrom research.evaluation.metrics import Counts, from_counts\n"
    code = _CHILD.format(function=imports + textwrap.dedent(function), entry=entry)

    def run(program, *flags):
        done = subprocess.run([sys.executable, "-P", "-c", code, program, *flags], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_one_entry_decides_verdicts_and_is_in_every_file(comparison, run_with_kappa):
    out = run_with_kappa("report", f"--workdir={comparison}", "--metric=kappa")
    assert out.startswith("By Cohen's kappa, ")
    assert "judged by Cohen's kappa" in (comparison / "report.md").read_text()
    content = json.loads((comparison / "comparison.json").read_text())
    assert content["metric"] == content["pairs"][0]["metric"] == "kappa"
    rows = [row for row in csv.DictReader((comparison / "results.csv").open()) if row["status"] == "done"]
    for row in rows:
        predictions = run_files.read_predictions(comparison / row["run_folder"])
        expected = cohen_kappa_score(predictions.label, predictions.probabilities.argmax(axis=1))
        assert float(row["kappa"]) == pytest.approx(expected)
    mean = np.mean([float(row["kappa"]) for row in rows if row["variant"] == "lstm"])
    (lstm,) = (entry for entry in content["variants"] if entry["variant"] == "lstm")
    assert lstm["metrics"]["kappa"]["mean"] == pytest.approx(mean)
    run_with_kappa("report", f"--workdir={comparison}", "--metric=accuracy")
    assert "| Cohen's kappa |" in (comparison / "report.md").read_text()  # the table of other metrics


def test_it_chooses_epochs_and_trials(small_tsv, tmp_path, run_with_kappa):
    settings = ("--config.training.epochs=2", "--config.training.select=kappa", "--config.model.embedding_size=4")
    flags = ("--config=mlp", f"--corpus={small_tsv}", f"--workdir={tmp_path / 'run'}", *settings)
    assert "kappa" in run_with_kappa("train", *flags)
    record = run_files.read_record(tmp_path / "run")
    scores = {r["epoch"]: r["kappa"] for r in run_files.read_metrics(tmp_path / "run") if r["split"] == "validation"}
    assert record["chosen_by"] == "kappa"
    assert scores[record["best_epoch"]] == max(scores.values())
    for program in ("compare", "tune"):
        assert "kappa" in run_with_kappa(program, "--help").partition("--metric")[2]
