"""The hashes of the code change with everything that changes a result, and with nothing else."""

import shutil
from pathlib import Path

import pytest

from research.runs import code_hash

ROOT = Path(__file__).parent.parent / "research"


@pytest.fixture
def append_and_hash(tmp_path, monkeypatch):
    """Return a function that appends text to a file of a copy of the package and returns the new hash."""
    shutil.copytree(ROOT, tmp_path / "research", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_hash, "PACKAGE", tmp_path / "research")

    def append_and_hash(file="models/mlp.py", text="", hash_code=code_hash.hash_model_code):
        with (tmp_path / "research" / file).open("a") as opened:
            opened.write(text)
        clear_caches()
        return hash_code("mlp.MLP") if hash_code is code_hash.hash_model_code else hash_code()

    yield append_and_hash
    clear_caches()


def clear_caches():
    for cached in (code_hash.hash_model_code, code_hash.hash_training_code, code_hash.parse_file):
        cached.cache_clear()


PREDICTING_FILES = (
    *("models/mlp.py", "models/layers/dropout.py", "data/tokenizer.py", "data/batches.py"),
    *("training/step.py", "training/loop.py", "training/metric_sums.py"),
)
TRAINING_FILES = (
    *("data/splits.py", "data/augmentation.py", "data/corpora.py", "settings.py"),
    *("training/step.py", "training/loop.py", "runs/resume.py", "training/optimizers.py"),
)


@pytest.mark.parametrize("file", TRAINING_FILES)
def test_the_training_hash_changes_with_all_that_trains(append_and_hash, file):
    before = append_and_hash(hash_code=code_hash.hash_training_code)
    assert append_and_hash(file, "\nMORE = 1\n", hash_code=code_hash.hash_training_code) != before
    assert before.startswith(code_hash.KIND)


@pytest.mark.parametrize("file", PREDICTING_FILES)
def test_the_model_hash_changes_with_all_that_predicts(append_and_hash, file):
    assert append_and_hash() != append_and_hash(file, "\nMORE = 1\n")


def test_the_model_hash_does_not_change_with_code_that_only_trains(append_and_hash):
    before = append_and_hash()
    for file in ("runs/resume.py", "parallel/train_runs.py", "data/splits.py", "runs/checkpoints.py"):
        assert append_and_hash(file, "\nMORE = 1\n") == before


@pytest.mark.parametrize("hash_code", [code_hash.hash_model_code, code_hash.hash_training_code])
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("models/mlp.py", "\n# a remark\n"),
        ("models/mlp.py", ""),
        ("models/mlp_gated.py", "\nMORE = 1\n"),
        ("models/layers/attention.py", "\nMORE = 1\n"),  # mlp.py does not import it
        ("models/cnn.py", "\nMORE = 1\n"),
        ("reporting/tables.py", "\nMORE = 1\n"),  # it reads results
        ("evaluation/intervals.py", "\nMORE = 1\n"),
    ],
)
def test_no_hash_changes_with_code_that_changes_no_result(append_and_hash, hash_code, file, text):
    assert append_and_hash(hash_code=hash_code) == append_and_hash(file, text, hash_code)


def test_the_text_of_an_error_message_is_left_out(append_and_hash):
    before = append_and_hash(hash_code=code_hash.hash_training_code)
    path = code_hash.PACKAGE / "data" / "splits.py"
    assert "expected 2 to" in path.read_text()
    path.write_text(path.read_text().replace("expected 2 to", "which should be 2 to"))
    assert append_and_hash(hash_code=code_hash.hash_training_code) == before


def test_docstrings_are_left_out(append_and_hash):
    first = append_and_hash("models/mlp.py", '\n\ndef nothing():\n    """One."""\n')
    path = code_hash.PACKAGE / "models" / "mlp.py"
    path.write_text(path.read_text().replace('"""One."""', '"""Two."""'))
    assert append_and_hash() == first


def test_hashes_of_an_earlier_kind_are_not_compared(append_and_hash):
    for name, differs in (
        ("model_code", code_hash.predicts_by_other_code),
        ("training_code", code_hash.was_trained_by_other_code),
    ):
        current = append_and_hash(hash_code=getattr(code_hash, f"hash_{name}"))
        assert differs({name: code_hash.KIND + "other"}, "mlp.MLP")
        for same_or_unknown in ({name: current}, {name: "0123456789abcdef"}, {name: "ast3.11-0123"}, {}):
            assert not differs(same_or_unknown, "mlp.MLP")
