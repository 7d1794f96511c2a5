"""The hash that tells runs of an edited model apart: what it follows, and what it does not."""

import shutil
from pathlib import Path

import pytest

from research.runs import code_hash as hashed

ROOT = Path(__file__).parent.parent / "research"


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A function (file, text behind it) -> the code of `mlp.MLP` with that, in a copy of the package."""
    shutil.copytree(ROOT, tmp_path / "research", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(hashed, "PACKAGE", tmp_path / "research")

    def code(file="models/mlp.py", text="", of=hashed.model_code):
        with (tmp_path / "research" / file).open("a") as opened:
            opened.write(text)
        forget()
        return of("mlp.MLP") if of is hashed.model_code else of()

    yield code
    forget()


def forget():
    for cached in (hashed.model_code, hashed.training_code, hashed.parse_file):
        cached.cache_clear()


PREDICTING = (
    *("models/mlp.py", "models/layers/dropout.py", "data/tokenizer.py", "data/batches.py"),
    *("training/step.py", "training/loop.py", "training/metric_sums.py"),
)
TRAINING = (
    *("data/splits.py", "data/augmentation.py", "data/corpora.py", "settings.py"),
    *("training/step.py", "training/loop.py", "runs/resume.py", "training/optimizers.py"),
)


@pytest.mark.parametrize("file", TRAINING)
def test_it_follows_all_that_a_result_comes_from(code, file):
    before = code(of=hashed.training_code)
    assert code(file, "\nMORE = 1\n", of=hashed.training_code) != before
    assert before.startswith(hashed.KIND)


@pytest.mark.parametrize("file", PREDICTING)
def test_it_follows_what_a_restored_run_predicts_by(code, file):
    assert code() != code(file, "\nMORE = 1\n")


def test_what_trains_changes_no_prediction_of_a_restored_run(code):
    before = code()
    for file in ("runs/resume.py", "parallel/train_runs.py", "data/splits.py", "runs/checkpoints.py"):
        assert code(file, "\nMORE = 1\n") == before


@pytest.mark.parametrize("of", [hashed.model_code, hashed.training_code])
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("models/mlp.py", "\n# a remark\n"),
        ("models/mlp.py", ""),
        ("models/mlp_gated.py", "\nMORE = 1\n"),
        ("models/layers/attention.py", "\nMORE = 1\n"),  # which it does not import
        ("models/cnn.py", "\nMORE = 1\n"),
        ("reporting/tables.py", "\nMORE = 1\n"),  # reads results, and makes none
        ("evaluation/statistics.py", "\nMORE = 1\n"),
    ],
)
def test_it_leaves_out_what_changes_no_result(code, of, file, text):
    assert code(of=of) == code(file, text, of=of)


def test_the_words_of_a_mistake_are_left_out(code):
    before = code(of=hashed.training_code)
    path = hashed.PACKAGE / "data" / "splits.py"
    assert "expected 2 to" in path.read_text()
    path.write_text(path.read_text().replace("expected 2 to", "which should be 2 to"))
    assert code(of=hashed.training_code) == before


def test_docstrings_are_left_out_and_a_function_of_nothing_else_stays_one(code):
    first = code("models/mlp.py", '\n\ndef nothing():\n    """One."""\n')
    path = hashed.PACKAGE / "models" / "mlp.py"
    path.write_text(path.read_text().replace('"""One."""', '"""Two."""'))
    assert code() == first


def test_codes_of_an_earlier_kind_say_nothing(code):
    for name, differs in (
        ("model_code", hashed.predicts_by_other_code),
        ("training_code", hashed.was_trained_by_other_code),
    ):
        assert differs({name: hashed.KIND + "other"}, "mlp.MLP")
        assert not differs({name: code(of=getattr(hashed, name))}, "mlp.MLP")
        for of_other_kind in ("0123456789abcdef", "ast3.11-0123"):
            assert not differs({name: of_other_kind}, "mlp.MLP")
        assert not differs({}, "mlp.MLP")
