"""Exported folders: moved, run in a process that cannot import this project, and refused where they would differ."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

pytest.importorskip("flatbuffers")

from research import restore
from research.errors import UserError
from research.models import build
from research.models.kernels.options import Kernels
from research.serving import export as exporting
from research.serving.export import export
from research.serving.exported_program import export_for_any_shape
from research.serving.model_card import render_card
from tests.test_explain import embedded, random_variables
from tests.test_models import LENGTHS, VOCAB_SIZE, batch_of_ids, small_config

RUN = Path(__file__).parent / "data" / "run"
TEXTS = ["a fine film", "", "caf&eacute; &amp; <b>bad</b>\u2028film", "\u7535\u5f71", "x " * 500]
# One of each module, and those of it whose shapes are treated otherwise.
OF_EACH_KIND = ["linear:tfidf", "luong:location", "luong:local_p"]
OF_EACH_KIND += {name.partition(":")[0]: name for name in reversed(embedded())}.values()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    return folder, export(RUN, folder, "stablehlo")


def test_it_runs_elsewhere_without_this_project(exported, tmp_path):
    folder, difference = exported
    assert 0 <= difference < exporting.TOLERANCE
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    # Whatever of this project it imported would fail.
    code = """
import runpy, sys
sys.modules["research"] = sys.modules["flax"] = None
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(moved / "run.py")],
        input="\r\n".join(TEXTS * 100).encode(),
        capture_output=True,
        check=True,
        cwd="/",
    )
    told = [sys.executable, str(moved / "run.py"), "texts.txt"]  # or it would wait for ever for somebody to type
    assert b"texts are read from standard input" in subprocess.run(told, capture_output=True).stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["text"] for answer in answers] == TEXTS * 100  # many are read a piece at a time
    answers = answers[-len(TEXTS) :]
    expected = restore(RUN).predict_proba(TEXTS)
    np.testing.assert_allclose([list(answer["probabilities"].values()) for answer in answers], expected, atol=1e-5)
    assert [answer["label"] for answer in answers] == ["01"[i] for i in expected.argmax(axis=1)]


def test_the_folder_says_what_it_is(exported):
    folder, _ = exported
    files = {path.name for path in folder.iterdir()}
    assert files == {"model.stablehlo", "model.json", "tokenizer.json", "requirements.txt", "run.py", "card.md"}
    said = (folder / "card.md").read_text("utf-8")
    record = json.loads((RUN / "metrics.jsonl").read_text("utf-8").splitlines()[-1])
    for words in (
        "172 train, 20 validation, 48 test",
        "fold 0 of 5",
        f"| accuracy | {record['accuracy']:.4f} | [",
        "first 100 tokens",
        "no probability differed",
        "Vocabulary and weights come from the training texts.",
    ):
        assert words in said
    assert all("==" in line for line in (folder / "requirements.txt").read_text().splitlines())


def test_a_card_says_what_a_run_began_with():
    run = restore(RUN)
    run.config = dataclasses.replace(run.config, init_from="runs/lm")
    run.config.data = dataclasses.replace(run.config.data, weights="minilm", vectors="glove")
    said = " ".join(render_card(RUN, run, "").split())
    assert "weights come from the training texts" not in said
    for words in ("pretrained encoder minilm, and so", "those of glove", "another run, runs/lm. All else comes from"):
        assert words in said


def test_a_folder_that_predicts_otherwise_is_not_left(tmp_path, monkeypatch):
    wrong = 'import sys\nfor line in sys.stdin: print(\'{"probabilities": {"0": 0.5, "1": 0.5}}\')\n'
    monkeypatch.setattr(exporting.shutil, "copyfile", lambda source, target: target.write_text(wrong))
    with pytest.raises(UserError, match=r"up to 0\.\d+|e-01 from the run's own, expected at most 1e-05"):
        export(RUN, tmp_path / "model", "stablehlo")
    assert list(tmp_path.iterdir()) == []


def test_one_that_does_not_run_is_not_left_either(tmp_path, monkeypatch):
    monkeypatch.setattr(
        exporting.shutil, "copyfile", lambda source, target: target.write_text("raise ValueError('no')")
    )
    with pytest.raises(UserError, match=r"does not run \(ValueError: no\)"):
        export(RUN, tmp_path / "model", "stablehlo")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="exists already, expected the name of a new folder"):
        export(RUN, tmp_path / "model", "stablehlo")


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_every_variant_can_be_exported_for_any_number_of_texts_of_any_length(name):
    module = build(small_config(name).model, vocab_size=VOCAB_SIZE, num_outputs=1, kernels=Kernels(plain=True))
    ids = batch_of_ids()
    variables = random_variables(module, ids, LENGTHS)

    def apply(token_ids, lengths):
        return module.apply(variables, token_ids, lengths, deterministic=True)

    found = export_for_any_shape(apply)
    expected = jax.jit(apply)(ids, LENGTHS)
    short = int(np.flatnonzero(LENGTHS == 1)[0])
    for rows, width in ((slice(None), 31), (slice(short, short + 1), 1)):
        token_ids = np.resize(ids[rows].T, (width, len(ids[rows]))).T
        remedy = "does padding change the logits? see test_models; is a width fixed? see layers.masks.positions"
        found_here = found.call(token_ids, LENGTHS[rows])
        np.testing.assert_allclose(found_here, expected[rows], rtol=1e-5, atol=1e-6, err_msg=remedy)


@pytest.mark.extra
def test_onnx_where_its_converter_is_installed(tmp_path):
    """`export --format=onnx` installs it; a test does not."""
    if not exporting.to_onnx.is_installed():
        pytest.skip("the converter to ONNX is not installed")
    python = exporting.to_onnx.interpreter()
    assert export(RUN, tmp_path / "model", "onnx") < exporting.TOLERANCE
    assert (tmp_path / "model" / "model.onnx").exists()
    done = subprocess.run(
        [python, tmp_path / "model" / "run.py"], input=b"a fine film", capture_output=True, check=True
    )
    assert json.loads(done.stdout)["text"] == "a fine film"


def test_what_cannot_be_converted_is_refused_before_the_converter_is_installed():
    for module in ("linear.Linear", "deep_cnn.DeepCNN"):
        with pytest.raises(UserError, match=rf'cannot convert {module} \(.+\), expected format="stablehlo"'):
            exporting.to_onnx.require_convertible(module)
    exporting.to_onnx.require_convertible("recurrent.Recurrent")


def test_a_converter_that_fails_is_a_sentence(tmp_path, monkeypatch):
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho 'Traceback ...\nNotImplementedError: no sort' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(exporting.to_onnx, "interpreter", lambda: failing)
    with pytest.raises(UserError, match=r"cannot convert this variant \(NotImplementedError: no sort\)"):
        export(RUN, tmp_path / "model", "onnx")
    assert list(tmp_path.iterdir()) == [failing]
