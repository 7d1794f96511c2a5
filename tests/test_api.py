"""`compare` and `train` as a notebook or a script calls them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from research import Corpus, compare, named_config, restore, train
from research.errors import UserError
from research.runs import run_files

pandas = pytest.importorskip("pandas")
ROOT = Path(__file__).parent.parent


def quick(name="mlp"):
    config = named_config(name)
    config.training.epochs = 2
    config.model.embedding_size = 8
    return config


@pytest.fixture(scope="module")
def frame(small_corpus):
    return pandas.DataFrame({"review": small_corpus.texts, "sentiment": small_corpus.labels})


@pytest.fixture(scope="module")
def corpus(frame):
    return Corpus.from_pandas(frame, text="review", label="sentiment", name="reviews")


@pytest.fixture(scope="module")
def result(corpus, tmp_path_factory):
    """A comparison of a frame, trained in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_NUM_CPU_DEVICES", "2")
        variants = {"linear": "linear", "small": quick()}
        return compare(variants, corpus, tmp_path_factory.mktemp("c") / "reviews", folds=2, metric="macro_f1")


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    return train(quick(), corpus, tmp_path_factory.mktemp("run"), folds=2, progress=False)


def test_the_table_has_the_numbers_of_the_report(result):
    table = result.table.set_index("variant")
    assert set(table.index) == {"linear", "small"}
    estimate = result.results.estimates["small"]["macro_f1"]
    assert tuple(table.loc["small", ["macro_f1", "low", "high"]]) == tuple(estimate)
    assert list(table["runs"]) == [2, 2]
    saved = pandas.read_csv(result.folder / "results.csv")
    assert np.allclose(result.runs["accuracy"], saved["accuracy"])
    assert list(result.runs["run_folder"]) == list(saved["run_folder"])


def test_the_verdicts_are_those_of_the_report(result):
    (pair,) = run_files.read_json(result.folder / "comparison.json")["pairs"]
    row = result.verdicts.iloc[0]
    assert (row["a"], row["b"], row["metric"]) == ("small", "linear", "macro_f1")
    assert [row["low"], row["high"]] == pair["interval"]
    assert (row["difference"], row["verdict"]) == (pair["difference"], pair["verdict"])


def test_the_errors_are_the_held_out_texts_that_were_predicted_wrongly(result, corpus, frame):
    errors = result.errors("small")
    right = sum(row["accuracy"] * 120 for row in result.results.done("small"))
    assert len(errors) == round(len(corpus) - right)
    assert (errors["label"] != errors["prediction"]).all()
    assert (errors["probability"].diff().dropna() <= 0).all()
    label_of = dict(zip(frame["review"], frame["sentiment"].astype(str), strict=True))
    assert all(label_of[text] == label for text, label in zip(errors["text"], errors["label"], strict=True))
    with pytest.raises(UserError, match="there is no finished run of 'smal', expected small, or one of linear"):
        result.errors("smal")


def test_the_best_variant_has_its_runs(result):
    best = result.best
    assert best.name == result.table["variant"][0]
    assert [path.name for path in best.runs] == ["fold0-repeat0", "fold1-repeat0"]
    assert restore(best.runs[0]).class_names == ("0", "1")


def test_a_result_stands_for_its_folder(result, corpus):
    together, texts = restore(result, "small"), corpus.texts[:9]
    by_hand = [together.class_names[i] for i in together.predict_proba(texts).argmax(axis=1)]
    assert together.predict(texts) == by_hand
    assert set(restore(result.best.runs[0]).predict(texts)) <= {"0", "1"}


def test_a_result_reads_well_as_text_and_as_html(result):
    text, page = repr(result), result._repr_html_()
    assert text.startswith(result.answer)
    for shown in (text, page):
        assert "2-fold cross-validation" in shown
        assert "report.html" in shown
        assert "--" not in shown.replace("----", "")
    assert page.count("<table>") == page.count('src="data:image/png;base64,') == 1
    assert result.plot("curves")._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="there is no plot 'score', expected scores, or one of"):
        result.plot("score")


def test_the_texts_of_a_frame_are_in_its_report(result, corpus):
    report = (result.folder / "report.md").read_text("utf-8")
    assert any(" ".join(text.split())[:40] in report for text in corpus.texts)


def test_the_same_call_trains_nothing_and_other_texts_are_refused(result, frame, corpus, monkeypatch):
    monkeypatch.setattr("research.runs.train.fit", lambda *_, **__: pytest.fail("trained again"))
    again = Corpus.from_pandas(frame.sample(frac=1), text="review", label="sentiment")
    same = compare({"linear": "linear", "small": quick()}, again, result.folder, folds=2)
    assert same.table.equals(result.table)
    other = Corpus.from_pandas(frame[:200], text="review", label="sentiment")
    with pytest.raises(UserError, match="with other texts; name another workdir, or pass overwrite=True"):
        compare({"linear": "linear"}, other, result.folder, folds=2)


@pytest.mark.parametrize(
    ("variants", "options", "words"),
    [
        (["lsmt"], {}, "there is no variant 'lsmt', expected lstm"),
        ([], {}, "variants is empty"),
        (7, {}, "variants is a int, expected names"),
        ([quick()], {}, r'variants\[0\] is a Config, expected a name; give it one: \{"mine": \.\.\.\}'),
        ({"mine": 7}, {}, "mine is of type int, expected the name of a variant"),
        (["mlp", "mlp"], {}, "the variant mlp is named twice"),
        (["mlp"], {"metric": "f1"}, "metric is 'f1', expected"),
        (["mlp"], {"metrics": "macro_f1"}, "compare has no argument 'metrics', expected metric, or one of"),
        (["mlp"], {"margin": 1}, "margin is 1, expected a fraction such as 0.01"),
        (["mlp"], {"pairs": "some"}, "pairs is 'some', expected one of baseline, all"),
        (["mlp"], {"baseline": "lstm"}, "baseline is 'lstm', expected one of mlp"),
        ({"svm": "svm.csv"}, {}, r"svm is 'svm.csv'; expected Path\('svm.csv'\) for a file of predictions"),
        ({7: "mlp"}, {}, "a variant is named 7, expected a string such as '7'"),
        (["mlp"], {"margin": "1"}, "margin is '1', expected a fraction"),
        (["mlp"], {"folds": "5"}, "folds is '5', expected an integer"),
        (["mlp"], {"repeats": 1.5}, "repeats is 1.5, expected an integer"),
        (["mlp"], {"repeats": 0}, "repeats is 0, expected 1 to"),
        (["mlp"], {"folds": 1}, "folds is 1, expected 2 to"),
    ],
)
def test_a_wrong_argument_is_a_sentence_before_anything_is_written(corpus, tmp_path, variants, options, words):
    with pytest.raises(UserError, match=words) as caught:
        compare(variants, corpus, tmp_path / "c", **options)
    assert "--" not in str(caught.value)
    assert not (tmp_path / "c" / "plan.json").exists()


def test_a_trained_run_predicts_and_stands_for_its_folder(run, corpus):
    assert restore(run).folder == run.folder
    assert (run / run_files.CONFIG).exists()
    assert str(run) == os.fspath(run) == str(run.folder)
    assert run.predict_proba(["a fine film", ""]).shape == (2, 2)
    assert set(run.predict(list(corpus.texts[:20]))) <= {"0", "1"}
    test = next(r for r in run_files.read_metrics(run.folder) if r["split"] == "test")
    assert run.scores["accuracy"] == pytest.approx(test["accuracy"])
    assert f"accuracy {run.scores['accuracy']:.4f}" in repr(run)


def test_a_run_is_evaluated_with_the_same_frame_and_with_others(run, frame, corpus, caplog):
    again = Corpus.from_pandas(frame.sample(frac=1), text="review", label="sentiment")
    assert run.evaluate(again) == pytest.approx(run.scores)
    assert not caplog.text
    some = Corpus.from_texts(frame["review"][:100], frame["sentiment"][:100])
    assert 0 <= run.evaluate(some)["accuracy"] <= 1
    assert "are among those that the run was trained on" in caplog.text
    unknown = Corpus.from_texts(["a", "b", "c", "d"], ["0", "2", "0", "2"])
    with pytest.raises(UserError, match="label '2' was not trained on, expected one of 0, 1"):
        run.evaluate(unknown)


def test_train_takes_a_name_and_refuses_what_is_no_variant(corpus, tmp_path):
    for config, words in (
        ("lsmt", "there is no variant 'lsmt'"),
        (7, "config is a int, expected the name of a variant"),
    ):
        with pytest.raises(UserError, match=words):
            train(config, corpus, tmp_path / "run")
    with pytest.raises(UserError, match="train has no argument 'epochs', expected one of overwrite"):
        train("mlp", corpus, tmp_path / "run", epochs=3)
    assert train("linear", corpus, tmp_path / "linear").scores["accuracy"] > 0.4


def test_without_pandas_only_the_tables_are_missing(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="this table needs pandas, which is not installed: pip install pandas"):
        _ = result.table
    assert result.answer in repr(result)


def run_script(folder, code, **environment):
    """Run a script that stands in a folder, as a user does; return its output."""
    (folder / "script.py").write_text(code, "utf-8")
    variables = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    variables |= {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_folder_named_research_beside_a_script_is_not_imported(tmp_path):
    for name in ("research", "configs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").touch()
    out, _ = run_script(tmp_path, "from research import named_config\nprint(named_config('lstm').model.cell)\n")
    assert out == "lstm\n"


@pytest.mark.extra
def test_a_script_without_a_main_guard_runs_once_and_says_nothing_of_its_own(small_tsv, tmp_path):
    code = f"""
print("script")
from research import compare, named_config
config = named_config("mlp")
config.training.epochs = 1
result = compare({{"linear": "linear", "mlp": config}}, {str(small_tsv)!r}, "runs", folds=2)
print(len(result.runs))
"""
    assert run_script(tmp_path, code) == ("script\n4\n", "")
