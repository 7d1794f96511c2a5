"""The hash that tells runs of an edited model apart: what it follows, and what it does not."""

import shutil
from pathlib import Path

import pytest

from research.training import model_code as hashed

ROOT = Path(__file__).parent.parent / "research"


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A function (file, text behind it) -> the code of `mlp.MLP` with that, in a copy of the package."""
    shutil.copytree(ROOT / "models", tmp_path / "models")
    monkeypatch.setattr(hashed, "_PACKAGE", tmp_path)

    def code(file="mlp.py", text=""):
        with (tmp_path / "models" / file).open("a") as opened:
            opened.write(text)
        hashed.model_code.cache_clear()
        return hashed.model_code("mlp.MLP")

    yield code
    hashed.model_code.cache_clear()


def test_it_follows_what_the_model_computes(code):
    found = [code(), code("mlp.py", "\nMORE = 1\n"), code("layers/dropout.py", "\nMORE = 1\n")]
    assert len(set(found)) == 3
    assert all(each.startswith(hashed._KIND) for each in found)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("mlp.py", "\n# a remark\n"),
        ("mlp.py", ""),
        ("mlp_gated.py", "\nMORE = 1\n"),
        ("layers/attention.py", "\nMORE = 1\n"),  # which it does not import
        ("cnn.py", "\nMORE = 1\n"),
    ],
)
def test_it_leaves_out_what_the_model_does_not(code, file, text):
    assert code() == code(file, text)


def test_docstrings_are_left_out_and_a_function_of_nothing_else_stays_one(code):
    first = code("mlp.py", '\n\ndef nothing():\n    """One."""\n')
    path = hashed._PACKAGE / "models" / "mlp.py"
    path.write_text(path.read_text().replace('"""One."""', '"""Two."""'))
    assert code() == first


def test_codes_of_an_earlier_kind_say_nothing(code):
    assert hashed.is_of_other_code({"model_code": hashed._KIND + "other"}, "mlp.MLP")
    assert not hashed.is_of_other_code({"model_code": code()}, "mlp.MLP")
    for of_other_kind in ("0123456789abcdef", "ast2.7-0123"):
        assert not hashed.is_of_other_code({"model_code": of_other_kind}, "mlp.MLP")
    assert not hashed.is_of_other_code({}, "mlp.MLP")
