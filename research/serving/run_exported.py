"""Predict with the model in this folder: one text in each input line, one JSON object in each output line.

    pip install -r requirements.txt
    echo "a fine film" | python run.py

Or from Python: `from run import predict; predict(["a fine film"])`. It needs nothing of the project that trained it.
"""

import html
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

FOLDER = Path(__file__).resolve().parent
ABOUT = json.loads((FOLDER / "model.json").read_text("utf-8"))
ROWS, MIN_WIDTH = 64, 16  # of a batch; widths are doubled, because each shape is compiled
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]+")


def prepare(text: str) -> str:
    """Do the two steps that `tokenizer.json` cannot hold: decode HTML entities, put blanks between Chinese words."""
    if ABOUT["tokens"] in ("words", "characters", "chinese_words"):  # other tokenizers expect the text as it is
        text = html.unescape(text)
    text = text.encode("utf-8", "replace").decode()
    if ABOUT["tokens"] == "chinese_words":
        import rjieba

        text = HAN.sub(lambda run: f" {' '.join(rjieba.cut(run[0]))} ", text)
    return text


def load() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return the model: (token ids int32 [B, L], lengths int32 [B]) -> probabilities float32 [B, C], any B, L >= 1."""
    if (FOLDER / "model.onnx").exists():
        import onnxruntime

        session = onnxruntime.InferenceSession(FOLDER / "model.onnx")
        names = [model_input.name for model_input in session.get_inputs()]
        return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]
    import jax
    import jax.export

    model = jax.jit(jax.export.deserialize(bytearray((FOLDER / "model.stablehlo").read_bytes())).call)
    return lambda *arrays: np.asarray(model(*arrays))


TOKENIZER, MODEL = Tokenizer.from_file(str(FOLDER / "tokenizer.json")), load()


def predict(texts: Sequence[str]) -> np.ndarray:
    """Return probabilities float32 [N, C], columns in the order of `ABOUT["classes"]`."""
    encoded = TOKENIZER.encode_batch([prepare(text) for text in texts])
    probabilities = np.empty((len(texts), len(ABOUT["classes"])), np.float32)
    for start in range(0, len(texts), ROWS):
        tokens = [encoding.ids for encoding in encoded[start : start + ROWS]]
        width = MIN_WIDTH
        while width < max(map(len, tokens)):
            width *= 2
        ids, lengths = np.zeros((ROWS, width), np.int32), np.zeros(ROWS, np.int32)
        for row, token_ids in enumerate(tokens):
            ids[row, : len(token_ids)], lengths[row] = token_ids, len(token_ids)
        probabilities[start : start + ROWS] = MODEL(ids, lengths)[: len(tokens)]
    return probabilities


def answers(lines: Iterator[str]) -> Iterator[dict]:
    """Yield an answer for each line; a few hundred lines are predicted together."""
    while texts := [line.removesuffix("\n").removesuffix("\r") for line in itertools.islice(lines, 256)]:
        for text, row in zip(texts, predict(texts).tolist(), strict=True):
            best = ABOUT["classes"][int(np.argmax(row))]
            yield {"text": text, "label": best, "probabilities": dict(zip(ABOUT["classes"], row, strict=True))}


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit("texts are read from standard input, a line each: python run.py < texts.txt")
    sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace", newline="\n")
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    for answer in answers(sys.stdin):
        print(json.dumps(answer, ensure_ascii=False))
