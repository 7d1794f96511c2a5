"""Models that are not of this project, in one table with one that is: what they get, and what they may return."""

import csv
import json

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from experiments.variants import load_config
from research.comparison.foreign_models import fit_and_predict, given_labels, label_index
from research.data.corpora import make_corpus
from research.data.reader import Row
from research.data.splits import Split, split_corpus
from research.errors import UserError
from research.reporting.claims import Claims
from research.reporting.report import write_report
from research.runs import run_files
from research.runs.restore import restore
from tests.comparing import compare_into

pytestmark = pytest.mark.usefixtures("no_plots")


def svm(c=1.0):
    return make_pipeline(TfidfVectorizer(), LinearSVC(C=c))


def mlp():
    return load_config("mlp", ["--config.training.epochs=1", "--config.model.embedding_size=2"])


class Model:
    """Returns what it is told to, and keeps what it was given."""

    def __init__(self, answer, error=None):
        self.answer, self._error, self._given = answer, error, None

    def fit(self, texts, labels):
        self._given = list(texts), labels
        if self._error:
            raise self._error

    def predict(self, texts):
        return self.answer(texts)


class Probabilities(Model):
    def predict_proba(self, texts):
        return self.answer(texts)


class Margins(Model):
    def decision_function(self, texts):
        return self.answer(texts)


@pytest.fixture(scope="module")
def folder(small_corpus, tmp_path_factory):
    """A finished comparison of mlp with two models of scikit-learn."""
    folder = tmp_path_factory.mktemp("foreign") / "c"
    variants = {"mlp": mlp(), "svm": svm(), "regression": make_pipeline(TfidfVectorizer(), LogisticRegression())}
    return compare_into(folder, variants, small_corpus, folds=3)


def test_models_of_scikit_learn_stand_in_one_table_with_ours(folder):
    comparison = json.loads((folder / "comparison.json").read_text())
    metrics = {of["variant"]: {name: m["mean"] for name, m in of["metrics"].items()} for of in comparison["variants"]}
    for metric in ("log_loss", "brier", "calibration_error"):
        assert metrics["svm"][metric] is None
        assert 0 < metrics["regression"][metric] < 1
    assert {(pair["a"], pair["b"]) for pair in comparison["pairs"]} == {("svm", "mlp"), ("regression", "mlp")}
    with (folder / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["variant"] == "svm"]
    assert [row["status"] for row in rows] == ["done"] * 3
    assert all(row["parameters"] == row["log_loss"] == "" and float(row["train_seconds"]) > 0 for row in rows)
    assert all(float(row["auroc"]) > 0 for row in rows)
    report = (folder / "report.md").read_text()
    assert "Not models of this project: svm, regression. Their parameters and FLOPs are unknown." in report
    assert "svm, a model from Python: `Pipeline(steps=[('tfidfvectorizer', TfidfVectorizer())" in report


def test_a_run_is_the_model_fitted_to_the_training_texts_of_its_fold(folder, small_corpus):
    for fold in range(3):
        split = split_corpus(small_corpus, 0, folds=3, fold=fold, repeat=0)
        train, test = ([small_corpus.texts[i] for i in part] for part in (split.train, split.test))
        expected = svm().fit(train, small_corpus.labels[split.train]).decision_function(test)
        for variant in ("svm", "mlp"):
            predictions = run_files.read_predictions(folder / variant / f"fold{fold}-repeat0")
            np.testing.assert_array_equal(predictions.id, small_corpus.ids[split.test])
        predictions = run_files.read_predictions(folder / "svm" / f"fold{fold}-repeat0")
        np.testing.assert_allclose(predictions.probabilities[:, 1], expected, atol=1e-2)
        assert predictions.kind == "scores"


def test_finished_runs_are_kept_and_another_model_of_this_name_is_refused(folder, small_corpus):
    before = {path: path.read_bytes() for path in folder.glob("*/*/record.json")}
    lines = []
    compare_into(folder, {"mlp": mlp(), "svm": svm()}, small_corpus, folds=3, log=lines.append)
    assert "6 of 6 runs are finished already" in lines
    assert {path: path.read_bytes() for path in folder.glob("*/*/record.json")} == before
    with pytest.raises(UserError, match=r"holds svm with another model \(settings.linearsvc__C: '1.0' -> '2.0'\)"):
        compare_into(folder, {"svm": svm(2.0)}, small_corpus, folds=3)
    with pytest.raises(UserError, match="holds svm as a model from Python, not a model of this project"):
        compare_into(folder, {"svm": mlp()}, small_corpus, folds=3)


def test_a_metric_of_probabilities_needs_some(folder, small_corpus, tmp_path):
    with pytest.raises(UserError, match="metric is log_loss, which cannot be computed for svm: it predicts scores"):
        compare_into(tmp_path / "c", {"svm": svm()}, small_corpus, folds=3, claims=Claims(metric="log_loss"))
    assert not (tmp_path / "c").exists()
    pairs = {pair["a"]: pair for pair in write_report(folder, Claims("regression", metric="log_loss")).pairs}
    assert pairs["svm"]["verdict"] == "undecided"
    assert np.isnan(pairs["svm"]["difference"])
    assert np.isfinite(pairs["mlp"]["difference"])
    assert "There is no log loss without probabilities" in (folder / "report.md").read_text()
    write_report(folder)


def test_the_folder_of_a_run_holds_no_model(folder):
    with pytest.raises(UserError, match="holds the predictions of a model that is not of this project"):
        restore(folder / "svm" / "fold0-repeat0")


@pytest.fixture(scope="module")
def three():
    """A corpus of three classes, named by integers that are no indices."""
    return make_corpus("three", {"all": [Row(f"text {i}", str(10 * (i % 3)), "", f"f:{i}") for i in range(30)]})


def test_a_model_gets_labels_as_they_are_and_no_text_but_those_of_training(three):
    split = split_corpus(three, 0, folds=3, fold=0, repeat=0)
    given = {}

    class Validated(Model):
        def fit(self, texts, labels, validation_data=None):
            given["train"], given["validation"] = (list(texts), labels), validation_data

    for model in (Validated(lambda texts: [10] * len(texts)), Model(lambda texts: np.full(len(texts), 10.0))):
        output, seconds = fit_and_predict(model, three, split, seed=0, place="m")
        assert output.kind == "labels"
        assert output.scores[:, 1].all()
        assert seconds.keys() == {"train", "evaluate"}
        assert model._given is None  # the copy was fitted
    for part in ("train", "validation"):
        texts, labels = given[part]
        of_part = getattr(split, part)
        assert texts == [three.texts[i] for i in of_part]
        assert labels.tolist() == [int(three.class_names[three.labels[i]]) for i in of_part]
    assert given_labels(("bad", "good")).tolist() == ["bad", "good"]
    assert given_labels(("01", "1")).tolist() == ["01", "1"]


def test_columns_follow_the_classes_of_the_model(three):
    split = Split(*map(np.array, ([0, 1], [2], [3, 4, 5])))
    model = Probabilities(lambda texts: [[0.75, 0.25]] * len(texts))
    model.classes_ = np.array([20, 0])
    output, _ = fit_and_predict(model, three, split, seed=0, place="m")
    np.testing.assert_array_equal(output.scores, [[0.25, 0.0, 0.75]] * 3)
    model = Margins(lambda texts: [-1.0, 2.0, 0.5])
    model.classes_ = np.array([0, 10])
    output, _ = fit_and_predict(model, three, split, seed=0, place="m")
    assert output.scores.argmax(axis=1).tolist() == [0, 1, 1]  # never the class that it does not know


def test_booleans_are_the_classes_false_and_true():
    rows = [Row(f"text {i}", ("false", "true")[i % 2], "", "") for i in range(12)]
    corpus = make_corpus("booleans", {"all": rows})
    split = split_corpus(corpus, 0, folds=3, fold=0, repeat=0)
    model = Model(lambda texts: np.array([int(text.split()[1]) % 2 == 1 for text in texts]))
    output, _ = fit_and_predict(model, corpus, split, seed=0, place="m")
    assert output.scores.argmax(axis=1).tolist() == corpus.labels[split.test].tolist()
    assert label_index(("False", "True"))[True] == label_index(("false", "true"))["True"] == 1


def test_random_numbers_are_those_of_the_run(three):
    split = split_corpus(three, 0, folds=3, fold=0, repeat=0)
    model = Model(lambda texts: 10 * np.random.randint(3, size=len(texts)))
    state = np.random.get_state()[1].copy()
    first, again, other = (fit_and_predict(model, three, split, seed=seed, place="m")[0].scores for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize(
    ("kind", "answer", "words"),
    [
        (
            Model,
            lambda texts: ["good"] * len(texts),
            r"predict has the label 'good', expected one of 0, 1",
        ),
        (Model, lambda texts: [0.7] * len(texts), r"predict has the label 0.7"),
        (Model, lambda texts: [0], r"predict returned an array of shape \[1\], expected \d+ labels"),
        (Model, lambda texts: np.zeros((len(texts), 1)), r"predict returned an array of shape \[\d+, 1\]"),
        (Probabilities, lambda texts: [[0.5]] * len(texts), r"expected \[\d+, 2\]: a column for each of 0, 1"),
        (Probabilities, lambda texts: [[0.5, np.nan]] * len(texts), r"returned \[0.5, nan\] for a text"),
        (Probabilities, lambda texts: [[0.5, 0.6]] * len(texts), r"expected probabilities that sum to 1"),
        (Probabilities, lambda texts: [[-0.5, 1.5]] * len(texts), r"expected probabilities that sum to 1"),
        (Probabilities, lambda texts: "many", r"predict_proba returned a str that is no array of numbers"),
        (Margins, lambda texts: [np.inf] * len(texts), r"expected finite numbers"),
    ],
)
def test_what_is_no_prediction_ends_the_comparison_in_one_sentence(small_corpus, tmp_path, kind, answer, words):
    with pytest.raises(UserError, match=words) as caught:
        compare_into(tmp_path / "c", {"m": kind(answer)}, small_corpus, folds=3)
    assert str(caught.value).startswith("m fold0 repeat0: ")
    assert not list((tmp_path / "c").glob("m/*/record.json"))


def test_an_error_of_a_model_fails_its_runs_alone(small_corpus, tmp_path):
    broken, lines = Model(list, error=KeyError("no words")), []
    compare_into(tmp_path / "c", {"broken": broken, "svm": svm()}, small_corpus, folds=3, log=lines.append)
    assert "broken fold0 repeat0: failed (KeyError: 'no words')" in lines
    record = run_files.read_record(tmp_path / "c" / "broken" / "fold0-repeat0")
    assert "self._error" in record["traceback"]
    report = (tmp_path / "c" / "report.md").read_text()
    assert "broken/fold0-repeat0: failed" in report
    assert "Failed: broken in 3 of 3 run(s) (KeyError: 'no words'). The record.json" in report
    with pytest.raises(UserError, match=r"3 failed, broken/fold0-repeat0 with KeyError: 'no words'"):
        compare_into(tmp_path / "d", {"broken": broken}, small_corpus, folds=3)


@pytest.mark.parametrize(
    ("name", "model", "words"),
    [
        ("svm", LinearSVC, r"svm is the class LinearSVC, expected an object: LinearSVC\(\.\.\.\)"),
        ("svm", "LinearSVC", r"svm is of type str, expected the name of a variant, a Config"),
        ("words", TfidfVectorizer(), r"which has none of the methods predict_proba, decision_function, predict"),
        ("plots", LinearSVC(), r"a variant is named 'plots'"),
    ],
)
def test_what_is_no_model_is_refused(small_corpus, tmp_path, name, model, words):
    with pytest.raises(UserError, match=words):
        compare_into(tmp_path / "c", {name: model}, small_corpus, folds=3)
    assert not (tmp_path / "c").exists()


def test_names_that_would_share_a_folder_are_refused(small_corpus, tmp_path):
    with pytest.raises(UserError, match="the variants 模型 and 基线 would share the folder --"):
        compare_into(tmp_path / "c", {"模型": svm(), "基线": svm()}, small_corpus, folds=3)
