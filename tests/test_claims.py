"""Claims, the verdicts on them, and the caveats beside a table."""

import json

import numpy as np
import pytest

from research.data.corpora import make_corpus
from research.data.reader import Row
from research.data.tokenized_corpus import cut_sentence
from research.errors import UserError
from research.evaluation.metrics import METRICS
from research.json_files import write_json
from research.reporting.caveats import list_caveats
from research.reporting.claims import Claims, pairs_of
from research.reporting.report import write_report
from research.reporting.results import read_results
from research.reporting.summary import describe_protocol
from research.reporting.tables import pairs_table, variants_table
from research.runs import run_files
from research.settings import Data
from tests.made_up_comparison import predict_one_label


def test_claims_choose_the_pairs_and_the_margin(comparison):
    against_lstm = read_results(comparison, Claims(baseline="lstm", margin=0.5))
    assert [(pair["a"], pair["b"]) for pair in against_lstm.pairs] == [
        ("linear:tfidf", "lstm"),
        ("cnn[seed=1]", "lstm"),
    ]
    assert against_lstm.pairs[0]["verdict"] == "equivalent"
    wide = {pair["a"]: pair for pair in read_results(comparison, Claims(margin=0.5)).pairs}
    assert wide["cnn[seed=1]"]["verdict"] == "worse"
    assert wide["cnn[seed=1]"]["negligible"]
    every = read_results(comparison, Claims(all_pairs=True))
    assert len(every.pairs) == 3
    # Simultaneous over more pairs, an interval is longer.
    lengths = [np.ptp(next(p for p in r.pairs if p["a"] == "linear:tfidf")["interval"]) for r in (against_lstm, every)]
    assert lengths[1] > lengths[0]
    with pytest.raises(UserError, match="baseline is 'lsmt', expected one of linear:tfidf, lstm"):
        read_results(comparison, Claims(baseline="lsmt"))


def test_a_variant_with_a_part_switched_off_is_compared_with_the_whole():
    switched = {"lstm[model.dropout=0]": "lstm", "cnn[widths=(3,4),model.dropout=0]": "cnn[widths=(3,4)]"}
    others = ["cnn[widths=(3,4)]", "gru", "gru[seed=1]", "mlp[model.dropout=0]"]  # varied; no mlp to compare with
    variants = ["lstm", *switched, *others]
    assert pairs_of(variants, Claims()) == [*switched.items(), *((other, "lstm") for other in others)]
    assert {b for _, b in pairs_of(variants, Claims(baseline="lstm"))} == {"lstm"}


def test_a_variant_with_an_untrained_run_gets_no_verdict(comparison, no_plots):
    assert list_caveats(read_results(comparison)) == []
    predict_one_label(comparison / run_files.folder_name("cnn[seed=1]") / "fold1-repeat0")
    results = write_report(comparison)
    verdicts = {pair["a"]: pair["verdict"] for pair in results.pairs}
    assert verdicts == {"lstm": "undecided", "cnn[seed=1]": "not trained"}
    sentence = (
        "Not trained, so their pairs get no verdict: cnn[seed=1] in 1 of 3 run(s) (one label for all test texts; "
        "this may help: --config.training.patience=0)."
    )
    assert list_caveats(results)[0].startswith(sentence)
    report = (comparison / "report.md").read_text()
    assert sentence in report
    assert "cnn[seed=1] (1 of 3 runs not trained)" in report
    assert 'class="not-trained"' in (comparison / "report.html").read_text()
    written = json.loads((comparison / "comparison.json").read_text())
    of_variant = {entry["variant"]: entry["not_trained"] for entry in written["variants"]}
    assert of_variant["lstm"] == {}
    assert of_variant["cnn[seed=1]"] == {
        "cnn--seed=1/fold1-repeat0": {"why": "one label for all test texts", "mend": "--config.training.patience=0"}
    }
    assert "would_decide" not in next(pair for pair in written["pairs"] if pair["a"] == "cnn[seed=1]")


def test_a_failed_run_makes_no_interval_shorter(comparison, no_plots):
    before = {pair["a"]: pair["interval"] for pair in read_results(comparison).pairs}
    for run in comparison.glob("cnn*/*"):
        write_json(run / run_files.RECORD, {"status": "diverged"})
    results = write_report(comparison)
    (pair,) = results.pairs
    assert (pair["a"], results.pair_level) == ("lstm", pytest.approx(1 - 0.05 / 2))
    assert np.ptp(pair["interval"]) >= np.ptp(before["lstm"])
    assert "all of them hold together over 2 pair(s)" in (comparison / "report.md").read_text()


@pytest.mark.parametrize("metric", ["macro_f1", "auroc", "log_loss"])
def test_another_metric_may_decide(comparison, no_plots, metric):
    results = write_report(comparison, Claims(metric=metric))
    pair = {pair["a"]: pair for pair in results.pairs}["cnn[seed=1]"]
    assert (pair["metric"], pair["verdict"]) == (metric, "worse")
    assert (pair["difference"] > 0) == (metric == "log_loss")  # of a loss more is worse
    assert results.ranked()[-1] == "cnn[seed=1]"
    name = METRICS[metric].title
    assert f"judged by {name}" in describe_protocol(results)
    assert variants_table(results).header[1] == name
    assert pairs_table(results).header[2] == f"{name} difference ({'nats' if metric == 'log_loss' else 'points'})"
    with pytest.raises(UserError, match="metric is 'f2', expected one of accuracy, balanced_accuracy"):
        read_results(comparison, Claims(metric="f2"))


def test_later_claims_name_their_command(comparison, no_plots):
    write_report(comparison)
    assert "launch.sh report" not in (comparison / "report.md").read_text()
    write_report(comparison, Claims(baseline="lstm", margin=0.005))
    command = "verdicts: `./launch.sh report --workdir=FOLDER --baseline=lstm --margin=0.5`"
    assert command in (comparison / "report.md").read_text()


def test_later_choices_are_reported_with_the_planned_ones(comparison, no_plots):
    assert "Chosen when results existed" not in " ".join(list_caveats(write_report(comparison)))
    results = write_report(comparison, Claims(baseline="lstm", margin=0.02, all_pairs=True, metric="macro_f1"))
    sentence = (
        "Chosen when results existed already: baseline lstm (planned: linear:tfidf); margin 2 (planned: 1); "
        "pairs all (planned: with the baseline); metric macro F1 (planned: accuracy)."
    )
    assert sentence in " ".join(list_caveats(results))
    assert sentence in (comparison / "report.md").read_text()


def test_a_baseline_added_later_is_reported(comparison):
    plan = run_files.read_json(comparison / run_files.PLAN)
    plan["variants"]["linear:tfidf"]["added_later"] = True
    write_json(comparison / run_files.PLAN, plan)
    sentence = " ".join(list_caveats(read_results(comparison)))
    assert "baseline linear:tfidf (planned: lstm); linear:tfidf among the variants" in sentence


@pytest.mark.parametrize(
    "codes", [("0123", "4567"), ("0123", "ast3.11-4567"), ("ast3.11-01", "ast3.12-01"), ("", "a-1")]
)
def test_hashes_of_different_kinds_are_not_compared(comparison, codes):
    for fold, code in enumerate(codes):
        record = comparison / "lstm" / f"fold{fold}-repeat0" / run_files.RECORD
        write_json(record, run_files.read_json(record) | {"model_code": code})
    assert list_caveats(read_results(comparison)) == []


def test_notes_few_steps_and_equal_predictions_are_reported(comparison, no_plots):
    plan = run_files.read_json(comparison / run_files.PLAN)
    plan["corpus"]["notes"] = "reviews: 20 training or validation texts are also test texts"
    plan["variants"]["linear:tfidf"]["settings"]["training"]["epochs"] = 3
    write_json(comparison / run_files.PLAN, plan)
    write_report(comparison)
    report = (comparison / "report.md").read_text()
    assert "Of the texts of reviews: 20 training or validation texts are also test texts." in report
    assert "Fewer than 30 steps of L-BFGS (training.epochs), perhaps not fitted to the end: linear:tfidf (3)" in report
    same = {"a": "a", "b": "b", "difference": 0.0, "interval": [0.0, 0.0], "verdict": "equivalent", "negligible": False}
    table = pairs_table(read_results(comparison)._replace(pairs=[same]))
    assert table.rows[0][4] == "equivalent (same predictions)"


def test_test_texts_of_one_class_give_no_caveat(comparison):
    results = read_results(comparison)
    single = [
        o._replace(label=np.zeros_like(o.label), probabilities=np.tile([0.9, 0.1], (len(o.label), 1)))
        for o in results.outcomes["lstm"]
    ]
    assert list_caveats(results._replace(outcomes={"lstm": single})) == []


def test_the_interval_of_a_single_run_covers_its_texts_only(comparison):
    results = read_results(comparison)
    assert list_caveats(results) == []
    alone = results._replace(outcomes=results.outcomes | {"lstm": results.outcomes["lstm"][:1]})
    every = results._replace(outcomes={variant: of[:1] for variant, of in results.outcomes.items()})
    assert list_caveats(every)[0].endswith("its test texts alone: linear:tfidf, lstm, cnn[seed=1].")
    assert list_caveats(every._replace(plan=every.plan | {"folds": 0, "repeats": 1})) == []
    assert list_caveats(alone) == ["Intervals of variants with one run are over its test texts alone: lstm."]


def test_cut_texts_are_reported():
    rows = [Row("good " * (120 if n < 3 else 20) + str(n), str(n % 2), "", "") for n in range(12)]
    corpus = make_corpus("c", {"all": rows})
    sentence = "25 % of the texts have more than data.max_length=100 tokens, of which the first 100 are read"
    assert cut_sentence(corpus, Data()) == sentence
    assert cut_sentence(corpus, Data(max_length=200)) == ""
