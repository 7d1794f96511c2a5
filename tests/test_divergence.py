"""A loss that is not finite any more ends its run, and nothing else."""

import csv
import json

import pytest

from research import restore, train
from research.comparison.tuning import Searched, tune
from research.errors import Diverged
from research.runs import run_files
from research.runs import train as run_module
from tests.comparing import compare_into
from tests.small import small_lstm

pytestmark = pytest.mark.usefixtures("no_plots")

_WILD = ("--config.optimizer.name=sgd", "--config.optimizer.learning_rate=1e38")


def test_a_run_stops_and_says_at_which_step_and_what_may_help(small_corpus, tmp_path):
    with pytest.raises(Diverged, match=r"not finite by step [1-6]; a smaller --config.optimizer.learning_rate or"):
        train(small_lstm(*_WILD), small_corpus, tmp_path / "run")
    record = run_files.read_json(tmp_path / "run" / run_files.RECORD)
    assert record["status"] == "diverged"
    assert not run_files.is_finished(tmp_path / "run")
    assert not (tmp_path / "run" / run_files.PREDICTIONS).exists()
    assert run_files.read_metrics(tmp_path / "run") == []  # not an epoch was good


def test_a_last_step_that_spoils_all_is_noticed_too(small_corpus, tmp_path):
    """Its own loss is that of before; validation's is not."""
    with pytest.raises(Diverged, match="not finite by step 1;"):
        train(
            small_lstm("--config.optimizer.learning_rate=3e38", "--config.training.batch_size=0"),
            small_corpus,
            tmp_path / "run",
        )
    assert run_files.read_json(tmp_path / "run" / run_files.RECORD)["status"] == "diverged"


def test_the_best_state_before_it_is_kept(small_corpus, tmp_path, monkeypatch):
    real = run_module.fit

    def fit(*arguments, **keywords):
        epochs = real(*arguments, **keywords)
        states, results = next(epochs)
        yield states, results
        yield states, [Diverged("the loss is not finite by step 9")]

    monkeypatch.setattr(run_module, "fit", fit)
    with pytest.raises(Diverged):
        train(small_lstm(), small_corpus, tmp_path / "run")
    assert restore(tmp_path / "run").predict_proba(["a fine film"]).shape == (1, 2)


def test_a_comparison_reports_it_and_goes_on(small_corpus, tmp_path):
    said = []
    variants = {"lstm": small_lstm(), "wild": small_lstm(*_WILD)}
    folder = compare_into(tmp_path / "c", variants, small_corpus, folds=2, log=said.append)
    assert sum("wild" in line and "diverged" in line for line in said) == 2
    with (folder / "results.csv").open() as file:
        status = [(row["variant"], row["status"]) for row in csv.DictReader(file)]
    assert status == [("lstm", "done")] * 2 + [("wild", "diverged")] * 2
    assert "wild/fold0-repeat0: diverged" in (folder / "report.md").read_text()
    assert [v["variant"] for v in json.loads((folder / "comparison.json").read_text())["variants"]] == ["lstm"]
    before = (folder / "wild" / "fold0-repeat0" / run_files.RECORD).stat().st_mtime_ns
    compare_into(folder, variants, small_corpus, folds=2)  # it would diverge again
    assert (folder / "wild" / "fold0-repeat0" / run_files.RECORD).stat().st_mtime_ns == before


def test_a_trial_that_diverges_is_the_worst(small_corpus, tmp_path):
    def make(settings):
        return small_lstm("--config.optimizer.name=sgd", f"--config.optimizer.learning_rate={settings['rate']}")

    space = {"rate": ("choice", 0.1, 1e38)}
    for _ in range(2):
        found = tune([Searched("lstm", space, make)], small_corpus, tmp_path / "t", trials=4, folds=2)
        of_variant = found["variants"]["lstm"]
        rates = [settings["rate"] for settings in of_variant["settings"]]
        assert set(rates) == {0.1, 1e38}
        for run, scores in of_variant["validation_accuracy"].items():
            assert [score == 0.0 for score in scores] == [rate == 1e38 for rate in rates]
            assert rates[of_variant["chosen"][run]] == 0.1
