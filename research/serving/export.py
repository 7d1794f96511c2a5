"""Export a run as a folder that needs nothing of this project: model, tokenizer, card, and a short program.

The model accepts any number of texts of any length. It is written as StableHLO by `jax.export`, or as ONNX by jax2onnx,
which runs in a separate environment because it pins other versions. Both use the plain recurrences.
"""

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from research.atomic_files import whole_folder, write_text
from research.data.corpora import load
from research.errors import UserError, not_installed
from research.runs import run_files
from research.runs.restore import RestoredRun, restore
from research.serving import to_onnx
from research.serving.exported_program import export_for_any_shape, predict_function
from research.serving.model_card import render_card
from research.settings import is_tokenizer_file

FORMATS = ("stablehlo", "onnx")
TOLERANCE = 1e-5  # the largest accepted difference of a probability from the run's own
SENTENCES = 1000  # texts that the exported model is compared on
_UNUSUAL_TEXTS = (
    "",
    "&lt;b&gt; it&#39;s <i>fine</i> &amp; dull",
    "电影很好看, the WiFi isn't 稳定",
    "[PAD] [UNK] \u2019s",
    "x " * 3000,
)


def export(workdir: Path | str, output: Path | str, kind: str) -> float:
    """Write a run as a self-contained folder, and check it by running it.

    Args:
      workdir: the run's folder.
      output: the folder to make; it must not exist.
      kind: one of `FORMATS`.

    Returns:
      the largest difference of a probability from the run's own, over `SENTENCES` texts.

    Raises:
      UserError: the variant cannot be converted, or the exported model predicts otherwise; no folder is left.
    """
    folder = Path(workdir)
    if kind not in FORMATS:
        raise UserError(f"the format is {kind!r}, expected one of {', '.join(FORMATS)}")
    run = restore(folder)
    if kind == "onnx":
        to_onnx.require_convertible(run.config.model.module)
    with whole_folder(Path(output)) as unfinished:
        python = to_onnx.interpreter() if kind == "onnx" else Path(sys.executable)
        if kind == "onnx":
            to_onnx.convert(folder, unfinished / "model.onnx", python)
        else:
            (unfinished / "model.stablehlo").write_bytes(_stablehlo(run))
        tokens = "file" if is_tokenizer_file(run.config.data.tokens) else run.config.data.tokens
        description = {"classes": run.class_names, "tokens": tokens}
        write_text(unfinished / "model.json", json.dumps(description, ensure_ascii=False) + "\n")
        write_text(unfinished / "requirements.txt", _requirements(run, kind, python))
        shutil.copyfile(folder / run_files.TOKENIZER, unfinished / run_files.TOKENIZER)
        shutil.copyfile(Path(__file__).with_name("run_exported.py"), unfinished / "run.py")
        difference = _difference(run, unfinished, python)
        checked = (
            f"On {SENTENCES:,} texts, no probability differed from those of the restored run by more than "
            f"{difference:.1e}."
        )
        write_text(unfinished / "card.md", render_card(folder, run, checked))
    return difference


def _stablehlo(run: RestoredRun) -> bytes:
    try:
        return export_for_any_shape(predict_function(run)).serialize()
    except ImportError:
        raise not_installed("--format=stablehlo", "flatbuffers", "export") from None


def _requirements(run: RestoredRun, kind: str, python: Path) -> str:
    """Return the packages that `run.py` imports, in the versions that it is checked with."""
    packages = ["numpy", "tokenizers"]
    if run.config.data.tokens == "chinese_words":
        packages.append("rjieba")
    packages += ["onnxruntime"] if kind == "onnx" else ["jax", "flatbuffers"]
    code = "import sys, importlib.metadata as m; [print(f'{name}=={m.version(name)}') for name in sys.argv[1:]]"
    return subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True).stdout


def _difference(run: RestoredRun, folder: Path, python: Path) -> float:
    """Return the largest difference between the probabilities of the folder's `run.py` and those of the run.

    Raises:
      UserError: the difference is larger than `TOLERANCE`, or `run.py` fails.
    """
    texts = _texts_to_compare(run)
    process = subprocess.run(
        [python, "-I", folder / "run.py"], input="\n".join([*texts, ""]).encode(), capture_output=True
    )
    if process.returncode or process.stdout.count(b"\n") != len(texts):
        reason = (process.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1][:300]
        raise UserError(f"the exported model does not run ({reason}); it is not kept")
    answers = [json.loads(line)["probabilities"] for line in process.stdout.splitlines()]
    exported = np.array([[answer[name] for name in run.class_names] for answer in answers])
    difference = float(np.abs(exported - run.predict_proba(texts)).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"the exported model's probabilities are up to {difference:.1e} from the run's own, expected at most "
            f"{TOLERANCE:.0e}; it is not kept"
        )
    return difference


def _texts_to_compare(run: RestoredRun) -> list[str]:
    """Return `SENTENCES` texts of one line each: unusual ones, then the run's own corpus, then film reviews."""
    try:
        own = run.own_corpus().texts
    except UserError:
        own = ()
    texts = itertools.islice(itertools.chain(_UNUSUAL_TEXTS, own, load("rotten_tomatoes").texts), SENTENCES)
    return [re.sub(r"[\r\n]", " ", text).encode("utf-8", "replace").decode() for text in texts]
