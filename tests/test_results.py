"""Reading and evaluating the runs of a comparison."""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest

from research.comparison.compare import default_repeats
from research.errors import UserError
from research.json_files import write_json
from research.reporting.caveats import list_caveats
from research.reporting.report import write_report
from research.reporting.results import read_results
from research.runs import run_files
from research.runs.claim import require_free
from tests.made_up_comparison import FOLDS, RECORD, predict_one_label, write_config


def test_a_row_has_the_checksums_of_predictions_and_code(comparison, no_plots):
    codes = ["ast3.11-0123", "ast3.11-4567"]
    for fold, code in enumerate(codes):
        record = comparison / "lstm" / f"fold{fold}-repeat0" / run_files.RECORD
        write_json(record, run_files.read_json(record) | {"model_code": code, "texts": {"train": 7, "validation": 2}})
    write_report(comparison)
    with (comparison / "results.csv").open(newline="") as file:
        rows = {row["run_folder"]: row for row in csv.DictReader(file)}
    predictions = (comparison / "lstm/fold1-repeat0" / run_files.PREDICTIONS).read_bytes()
    assert rows["lstm/fold1-repeat0"]["predictions_sha256"] == hashlib.sha256(predictions).hexdigest()
    assert [rows[f"lstm/fold{fold}-repeat0"]["model_code"] for fold in (0, 1)] == codes
    report = (comparison / "report.md").read_text()
    assert "The code changed between the runs of lstm (columns model_code and training_code of results.csv)" in report
    assert "(a run trains on 7 texts and chooses on 2)" in report


def test_changed_predictions_are_left_out(comparison, no_plots):
    run = comparison / "lstm" / "fold0-repeat0"
    write_json(
        run / run_files.RECORD,
        run_files.read_record(run) | {"predictions_sha256": run_files.predictions_checksum(run)},
    )
    assert len(read_results(comparison).done("lstm")) == 3
    predict_one_label(run)
    results = write_report(comparison)
    assert len(results.done("lstm")) == 2
    assert {row["run_folder"]: row["status"] for row in results.rows}["lstm/fold0-repeat0"] == "changed"
    assert "predictions.npz is not the one that the run wrote in lstm/fold0-repeat0" in list_caveats(results)[0]
    assert "lstm/fold0-repeat0: changed" in (comparison / "report.md").read_text()
    (run / run_files.PREDICTIONS).unlink()
    assert len(read_results(comparison).done("lstm")) == 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (run_files.RECORD, b'{"status": "done"}', "no 'parameters'"),
        (run_files.RECORD, b"[]", "a JSON list, expected an object"),
        (run_files.RECORD, RECORD | {"near_copies": "many"}, "'near_copies' is 'many'"),
        (run_files.RECORD, RECORD | {"label_counts": ["a"]}, "'label_counts' are no counts"),
        (run_files.RECORD, RECORD | {"texts": [1]}, "in 'texts' a JSON list"),
        (run_files.METRICS, b'{"step": 1, "epoch": 1, "split": "train", "loss": null}\n', "'loss' is None"),
        (run_files.METRICS, b'{"epoch": 1}\n', "metrics.jsonl:1: no 'step'"),
        (run_files.METRICS, b'"validation"\n', "metrics.jsonl:1: a JSON str"),
        (run_files.PREDICTIONS, b"nothing", "predictions.npz: cannot be read"),
    ],
)
def test_a_damaged_run_is_a_user_error(comparison, name, content, words):
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    (comparison / "lstm" / "fold0-repeat0" / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_results(comparison)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p._replace(label=p.label[:-1]),
        lambda p: p._replace(label=p.label + 2),
        lambda p: p._replace(probabilities=p.probabilities[:, 0]),
        lambda p: p._replace(probabilities=np.full_like(p.probabilities, np.nan)),
        lambda p: p._replace(id=np.arange(len(p.id))),
    ],
)
def test_predictions_of_unequal_shapes_are_a_user_error(comparison, change):
    """The run is of an earlier version, which recorded no checksum of its predictions."""
    run = comparison / "lstm" / "fold0-repeat0"
    run_files.write_predictions(run, change(run_files.read_predictions(run)))
    with pytest.raises(UserError, match="its arrays do not fit each other"):
        read_results(comparison)


def test_a_run_copied_from_elsewhere_is_left_out(comparison):
    for run in comparison.glob("*/*repeat*"):
        write_config(comparison, run)
    assert len(read_results(comparison).done("lstm")) == 3
    for name in ("fold0-repeat0", "fold0-repeat1"):  # of another variant; the same run as another repeat
        source = comparison / ("linear-tfidf/fold0-repeat0" if name == "fold0-repeat0" else "lstm/fold1-repeat0")
        shutil.rmtree(comparison / "lstm" / name)
        shutil.copytree(source, comparison / "lstm" / name)
    results = read_results(comparison)
    assert len(results.done("lstm")) == 1
    sentence = "The config.json of lstm/fold0-repeat0, lstm/fold0-repeat1 is that of another run: left out"
    assert sentence in " ".join(list_caveats(results))


def test_a_comparison_whose_predictions_all_changed_is_a_user_error(comparison):
    for run in comparison.glob("*/*repeat*"):
        if run_files.read_record(run).get("status") == "done":
            write_json(run / run_files.RECORD, run_files.read_record(run) | {"predictions_sha256": "0"})
    with pytest.raises(
        UserError, match=r"no finished run \(10 of them have a predictions\.npz that they did not write"
    ):
        read_results(comparison)


def test_a_variant_without_metrics_files_is_reported(comparison):
    for run in comparison.glob("lstm/*/metrics.jsonl"):
        run.unlink()
    assert "lstm" not in write_report(comparison).curves
    assert (comparison / "plots" / "curves.png").exists()


def test_a_curve_ends_with_its_run(comparison):
    run = comparison / "lstm" / "fold0-repeat0"
    records = run_files.read_metrics(run)
    last = max(r["epoch"] for r in records if r["split"] == "validation")
    more = [r | {"epoch": last + 1} for r in records if r["split"] == "validation" and r["epoch"] == last]
    run_files.write_metrics(run, [*records, *more], append=False)
    curves = read_results(comparison).curves["lstm"]
    assert np.isfinite(curves[:, -1]).sum() == 1
    assert np.isfinite(curves[:, 0]).all()


def test_a_comparison_is_not_taken_for_a_run(comparison):
    with pytest.raises(UserError, match=r"is a comparison, expected a run of it"):
        run_files.read_json(comparison / run_files.CONFIG)
    with pytest.raises(UserError, match="holds a comparison, not a run"):
        require_free(comparison)
    assert default_repeats(comparison, FOLDS) == 2
    assert (default_repeats(comparison / "new", FOLDS), default_repeats(comparison / "new", 0)) == (1, 5)


def test_what_would_decide_allows_for_the_look_that_adding_repeats_is(comparison):
    plan = run_files.read_json(comparison / run_files.PLAN)
    pairs = []
    for looks in ([2], [2, 3]):
        plan |= {"looks": looks, "claims": {"looks": len(looks)}}
        write_json(comparison / run_files.PLAN, plan)
        pairs.append(read_results(comparison).pairs[0])
    texts = [pair["would_decide"]["texts"] for pair in pairs]
    assert texts[0] == pytest.approx(texts[1], rel=0.02)  # the max-t level is not quite proportional to the looks
    assert pairs[0]["interval"][0] > pairs[1]["interval"][0]
