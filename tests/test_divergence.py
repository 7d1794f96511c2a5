"""A loss that is not finite ends its run, and no other run."""

import csv
import json

import pytest

from research import restore
from research.comparison.tuning import SearchedVariant, SearchSpec, tune
from research.errors import Diverged
from research.runs import run_files
from research.runs import train as module
from research.runs.train import train
from tests.comparing import compare_into
from tests.small import small_lstm

pytestmark = pytest.mark.usefixtures("no_plots")

WILD = ("--config.optimizer.name=sgd", "--config.optimizer.learning_rate=1e38")


def test_the_error_names_the_step_and_settings_that_may_help(small_corpus, tmp_path):
    with pytest.raises(Diverged, match=r"not finite by step [1-6]; a smaller config.optimizer.learning_rate or"):
        train(small_lstm(*WILD), small_corpus, tmp_path / "run")
    record = run_files.read_json(tmp_path / "run" / run_files.RECORD)
    assert record["status"] == "diverged"
    assert not run_files.is_finished(tmp_path / "run")
    assert not (tmp_path / "run" / run_files.PREDICTIONS).exists()
    assert run_files.read_metrics(tmp_path / "run") == []  # no epoch was completed


def test_a_last_step_that_diverges_is_noticed_too(small_corpus, tmp_path):
    """The loss of a step is computed before its update, so only the validation loss shows it."""
    config = small_lstm("--config.optimizer.learning_rate=3e38", "--config.training.batch_size=0")
    with pytest.raises(Diverged, match="not finite by step 1;"):
        train(config, small_corpus, tmp_path / "run")
    assert run_files.read_json(tmp_path / "run" / run_files.RECORD)["status"] == "diverged"


def test_the_best_state_before_a_divergence_is_kept(small_corpus, tmp_path, monkeypatch):
    real = module.fit

    def fit(*arguments, **keywords):
        epochs = real(*arguments, **keywords)
        states, results = next(epochs)
        yield states, results
        yield states, [Diverged("the loss is not finite by step 9")]

    monkeypatch.setattr(module, "fit", fit)
    with pytest.raises(Diverged):
        train(small_lstm(), small_corpus, tmp_path / "run")
    assert restore(tmp_path / "run").predict_proba(["a fine film"]).shape == (1, 2)


def test_a_comparison_reports_runs_that_diverged_and_goes_on(small_corpus, tmp_path):
    lines = []
    variants = {"lstm": small_lstm(), "wild": small_lstm(*WILD)}
    folder = compare_into(tmp_path / "c", variants, small_corpus, folds=2, log=lines.append)
    assert sum("wild" in line and "diverged" in line for line in lines) == 2
    with (folder / "results.csv").open() as file:
        status = [(row["variant"], row["status"]) for row in csv.DictReader(file)]
    assert status == [("lstm", "done")] * 2 + [("wild", "diverged")] * 2
    assert "wild/fold0-repeat0: diverged" in (folder / "report.md").read_text()
    assert [v["variant"] for v in json.loads((folder / "comparison.json").read_text())["variants"]] == ["lstm"]
    before = (folder / "wild" / "fold0-repeat0" / run_files.RECORD).stat().st_mtime_ns
    compare_into(folder, variants, small_corpus, folds=2)  # training again would diverge again
    assert (folder / "wild" / "fold0-repeat0" / run_files.RECORD).stat().st_mtime_ns == before


def test_a_trial_that_diverges_is_the_worst(small_corpus, tmp_path):
    def make(settings):
        return small_lstm("--config.optimizer.name=sgd", f"--config.optimizer.learning_rate={settings['rate']}")

    space = {"rate": ("choice", 0.1, 1e38)}
    spec = SearchSpec([SearchedVariant("lstm", space, make)], small_corpus, trials=4, folds=2)
    for _ in range(2):  # the second search trains nothing
        entry = tune(spec, tmp_path / "t")["variants"]["lstm"]
        rates = [settings["rate"] for settings in entry["settings"]]
        assert set(rates) == {0.1, 1e38}
        for run, accuracies in entry["validation_accuracy"].items():
            assert [accuracy == 0.0 for accuracy in accuracies] == [rate == 1e38 for rate in rates]
            assert rates[entry["chosen"][run]] == 0.1
