"""`TextClassifier` keeps scikit-learn's contract, and is a run of this project."""

import copy
import datetime
import gc
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from research import TextClassifier, restore
from research.errors import UserError
from research.runs import run_files
from tests.small import small_lstm

RUN = Path(__file__).parent / "data" / "run"
SMALL = {"model.embedding_size": 8, "model.hidden_size": 16}


@pytest.fixture(scope="module")
def texts(small_corpus):
    return list(small_corpus.texts)


@pytest.fixture(scope="module")
def labels(small_corpus):
    return small_corpus.labels.astype(int)


@pytest.fixture(scope="module")
def fitted(texts, labels):
    return TextClassifier("linear").fit(texts, labels)


@pytest.mark.parametrize(
    "make",
    [
        lambda y: y,
        lambda y: [10 - 20 * int(c) for c in y],
        lambda y: y == 1,
        lambda y: y.astype(float),
        lambda y: [("good", "bad")[c] for c in y],
        lambda y: np.array(["good", "bad"], object)[y],
        lambda y: pd.Series(["good", "bad"]).iloc[y],
        lambda y: pd.Categorical(np.array(["good", "bad"])[y]),
        lambda y: [datetime.date(2026, 1, 1 + c) for c in y],
    ],
    ids=["integers", "negative", "booleans", "floats", "strings", "objects", "series", "categorical", "dates"],
)
def test_labels_come_back_as_they_were_given(texts, labels, make):
    y = make(labels)
    model = TextClassifier("linear").fit(texts, y)
    predicted = model.predict(texts)
    assert predicted.dtype == np.asarray(y).dtype
    assert model.classes_.tolist() == sorted(set(np.asarray(y).tolist()))
    assert np.mean(predicted == np.asarray(y)) > 0.95  # a label that is mistaken for the other would give 0
    again = pickle.loads(pickle.dumps(model)).predict(texts)
    assert again.dtype == predicted.dtype
    assert again.tolist() == predicted.tolist()


@pytest.mark.parametrize("container", [tuple, pd.Series, np.array, lambda x: np.array(x, object), iter])
def test_texts_may_come_in_any_sequence(fitted, texts, container):
    expected = fitted.predict_proba(texts[:7])
    np.testing.assert_array_equal(fitted.predict_proba(container(texts[:7])), expected)
    assert (expected.dtype, expected.shape) == (np.float32, (7, 2))


def test_the_order_of_the_texts_does_not_matter(fitted, texts, labels):
    order = np.random.default_rng(0).permutation(len(texts))
    other = TextClassifier("linear").fit([texts[i] for i in order], labels[order])
    np.testing.assert_array_equal(other.predict_proba(texts), fitted.predict_proba(texts))


def test_it_is_the_run_that_it_keeps(tmp_path, texts, labels):
    """Also after it was saved, loaded, pickled and copied, and when the folders before are gone."""
    model = TextClassifier("lstm", epochs=2, settings=SMALL).fit(texts, labels > 0)
    expected = model.predict_proba(texts[:9])
    temporary = model.run_.folder
    folder = model.save(tmp_path / "saved")
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), TextClassifier.load(folder)]
    del model
    gc.collect()
    assert not temporary.exists()
    for other in (*copies, restore(folder)):
        np.testing.assert_array_equal(other.predict_proba(texts[:9]), expected)
    assert copies[2].predict(texts).dtype == bool
    assert copies[2].score(texts, labels > 0) == copies[0].score(texts, labels > 0)
    assert clone(copies[2]).get_params()["variant"].model.hidden_size == 16
    with pytest.raises(UserError, match="holds other files"):
        copies[0].save(folder)


def test_any_run_of_this_project_can_be_loaded():
    model, run = TextClassifier.load(RUN), restore(RUN)
    assert model.classes_.tolist() == [int(name) for name in run.class_names]
    np.testing.assert_array_equal(model.predict_proba(["a fine film", ""]), run.predict_proba(["a fine film", ""]))


def test_labels_that_json_cannot_hold_are_not_saved(tmp_path, texts, labels):
    model = TextClassifier("linear").fit(texts, [datetime.date(2026, 1, 1 + c) for c in labels])
    with pytest.raises(UserError, match="of type date cannot be saved"):
        model.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_parameters_are_settings_of_the_run(tmp_path, texts, labels):
    model = TextClassifier(
        "lstm",
        epochs=1,
        learning_rate=1,
        batch_size=np.int64(16),
        validation_fraction=0.3,
        seed=7,
        settings=SMALL,
        folder=tmp_path / "run",
    )
    config = model.fit(texts, labels).run_.config
    assert (config.training.epochs, config.training.batch_size, config.seed) == (1, 16, 7)
    assert (config.optimizer.learning_rate, config.model.hidden_size) == (1.0, 16)
    assert run_files.read_record(tmp_path / "run")["texts"] == {"train": 168, "validation": 72, "test": 0}
    assert model.settings is SMALL
    same = TextClassifier(config, folder=tmp_path / "run").fit(texts, labels)  # finished already
    np.testing.assert_array_equal(same.predict_proba(texts), model.predict_proba(texts))
    with pytest.raises(UserError, match="holds another run"):
        model.set_params(seed=8).fit(texts, labels)


def test_nothing_is_held_out_where_no_epoch_is_chosen(fitted, texts, labels):
    model = TextClassifier(small_lstm(), epochs=2, validation_fraction=0).fit(texts, labels)
    for run in (fitted.run_, model.run_):
        assert run_files.read_record(run.folder)["texts"] == {"train": 240, "validation": 0, "test": 0}
    assert [record["epoch"] for record in run_files.read_metrics(model.run_.folder)] == [1, 2]


def test_a_refit_takes_the_number_of_epochs_that_was_chosen(texts, labels):
    chosen = TextClassifier(small_lstm("--config.optimizer.learning_rate=0.01"), epochs=6).fit(texts, labels)
    epochs = run_files.read_record(chosen.run_.folder)["best_epoch"]
    model = clone(chosen).set_params(refit=True).fit(texts, labels)
    record = run_files.read_record(model.run_.folder)
    assert (record["best_epoch"], record["texts"]["train"]) == (epochs, 240)
    assert epochs < 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": "a fine film"}, "X is one text"),
        ({"X": pd.DataFrame({"text": ["a", "b"]})}, r'such as X\["text"\]'),
        ({"X": ["a", None]}, r"X\[1\] is None"),
        ({"X": pd.Series(["a", float("nan")])}, r"X\[1\] is nan"),
        ({"X": ["a", 3]}, r"X\[1\] is of type int"),
        ({"X": 5}, "of type int, expected a list"),
        ({"X": [], "y": []}, "0 samples"),
        ({"X": ["a", "b", "c"]}, "3 texts and y has 2"),
        ({"y": None}, "requires y"),
        ({"y": [1, None]}, r"y\[1\] is None"),
        ({"y": ["a", float("nan")]}, r"y\[1\] is nan"),
        ({"y": [1, "b"], "X": ["a", "b"], "as": object}, "cannot be sorted"),
        ({"y": [0.5, 1.0]}, "continuous"),
        ({"y": [1, 1]}, "one class, '1'"),
        ({"y": [[1, 0], [0, 1]]}, "y has 2 dimensions"),
        ({"variant": "lsmt"}, "no variant 'lsmt', expected lstm"),
        ({"settings": {"model.hiden_size": 3}}, "'model.hiden_size', which is no setting of the variant, expected "),
        ({"settings": ["model.hidden_size"]}, "settings is a list, expected a mapping"),
        ({"epochs": 0}, "training.epochs is 0"),
        ({"epochs": "three"}, "training.epochs is 'three'"),
    ],
)
def test_mistakes_are_named(change, message):
    y = change.get("y", [0, 1])
    y = np.array(y, change["as"]) if "as" in change else y
    params = {name: value for name, value in change.items() if name not in ("X", "y", "as")}
    with pytest.raises(UserError, match=message):
        TextClassifier(**params).fit(change.get("X", ["a", "b"]), y)


def test_a_setting_without_effect_is_warned_of(texts, labels):
    with pytest.warns(UserWarning, match="learning_rate has no effect"):
        TextClassifier("linear", learning_rate=0.1).fit(texts, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TextClassifier("linear", epochs=3).fit(texts, labels)


def test_it_works_in_pipelines_and_cross_validation(texts, labels):
    assert is_classifier(TextClassifier())
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, TextClassifier("linear", settings={"training.l2": 1.0}))
    scores = cross_val_score(pipeline, np.array(texts, object), labels, cv=2)
    halves = np.arange(240) < 120  # what the stratified folds are, up to balance
    assert scores.shape == (2,)
    assert np.all(scores > 0.4)
    assert pipeline.set_params(textclassifier__seed=3).fit(texts, labels).score(texts[:120], labels[halves]) > 0.9


@pytest.mark.extra
def test_a_grid_is_searched_by_processes(texts, labels):
    grid = {"settings": [{"training.l2": 1.0}, {"training.l2": 1e4}]}
    names = np.array(["bad", "good"])[labels]
    found = [
        GridSearchCV(TextClassifier("linear"), grid, cv=2, n_jobs=jobs, error_score="raise").fit(texts, names)
        for jobs in (1, 2)
    ]
    assert found[0].best_params_ == found[1].best_params_ == {"settings": {"training.l2": 1.0}}
    scores = [search.cv_results_["mean_test_score"] for search in found]
    np.testing.assert_array_equal(*scores)
    assert set(found[1].predict(texts)) == {"bad", "good"}


def test_without_fit_nothing_is_predicted(tmp_path):
    for call in (lambda m: m.predict(["a"]), lambda m: m.predict_proba(["a"]), lambda m: m.save(tmp_path / "x")):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call(TextClassifier())


def test_it_works_without_scikit_learn():
    program = """
import sys
sys.modules["sklearn"] = None
from research import TextClassifier
model = TextClassifier("linear").set_params(epochs=5)
assert model.get_params()["epochs"] == 5 and model.get_params()["variant"] == "linear"
texts, labels = ["a fine film", "fine", "a bad film", "bad"] * 3, ["good", "good", "bad", "bad"] * 3
assert model.fit(texts, labels).score(texts, labels) == 1.0
assert list(model.predict(["fine", "bad"])) == ["good", "bad"]
try:
    model.set_params(epoch=3)
except ValueError as error:
    assert "epoch is no parameter, expected one of variant, epochs" in str(error)
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class OnNumbers(TextClassifier):
    """A `TextClassifier` of the matrices that scikit-learn's checks pass: each row becomes a text."""

    def fit(self, X, y):
        return super().fit(spell_out(X), y)

    def predict_proba(self, X):
        return super().predict_proba(spell_out(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        return tags


def spell_out(X):
    """Return each row of a matrix as a text of words, one for each number, rounded to halves."""
    if hasattr(X, "tocsr") or np.asarray(X).ndim != 2:
        return X
    halves = np.rint(2 * np.real(np.asarray(X)).astype(float))
    return [" ".join(f"column{j}is{n:.0f}".replace("-", "minus") for j, n in enumerate(row)) for row in halves]


NO_COLUMNS = "a text has no columns to count or name"
ANY_NUMBER = "the words of a text are no numbers"
NOT_FOR_TEXTS = {
    "check_n_features_in": NO_COLUMNS,
    "check_n_features_in_after_fitting": NO_COLUMNS,
    "check_classifiers_train": NO_COLUMNS,  # its last step; all others pass
    "check_estimators_empty_data_messages": NO_COLUMNS,
    "check_fit2d_predict1d": "a list of texts has one dimension",
    "check_complex_data": ANY_NUMBER,
    "check_estimators_nan_inf": ANY_NUMBER,
}


@pytest.mark.extra
@parametrize_with_checks(
    [OnNumbers("linear")], expected_failed_checks=lambda estimator: NOT_FOR_TEXTS, xfail_strict=True
)
def test_scikit_learn_finds_no_fault(estimator, check):
    check(estimator)
