"""Predicts with the model in this folder: a text a line in, a JSON object a line out.

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
ROWS, NARROWEST = 64, 16  # of a batch: few shapes, because each is compiled for
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]+")


def prepare(text: str) -> str:
    """The two steps that `tokenizer.json` cannot hold: HTML entities, and blanks between Chinese words."""
    if ABOUT["tokens"] != "pieces":  # those of a pretrained encoder are what its tokenizer makes of a text
        text = html.unescape(text)
    text = text.encode("utf-8", "replace").decode()
    if ABOUT["tokens"] == "chinese_words":
        import rjieba

        text = HAN.sub(lambda run: f" {' '.join(rjieba.cut(run[0]))} ", text)
    return text


def load() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The model: token ids int32 [B, L] and lengths int32 [B] -> probabilities float32 [B, C], any B and L >= 1."""
    if (FOLDER / "model.onnx").exists():
        import onnxruntime

        session = onnxruntime.InferenceSession(FOLDER / "model.onnx")
        names = [given.name for given in session.get_inputs()]
        return lambda *given: session.run(None, dict(zip(names, given, strict=True)))[0]
    import jax
    import jax.export

    model = jax.jit(jax.export.deserialize(bytearray((FOLDER / "model.stablehlo").read_bytes())).call)
    return lambda *given: np.asarray(model(*given))


TOKENIZER, MODEL = Tokenizer.from_file(str(FOLDER / "tokenizer.json")), load()


def predict(texts: Sequence[str]) -> np.ndarray:
    """Probabilities float32 [N, C], columns in the order of `ABOUT["classes"]`."""
    encoded = TOKENIZER.encode_batch([prepare(text) for text in texts])
    found = np.empty((len(texts), len(ABOUT["classes"])), np.float32)
    for start in range(0, len(texts), ROWS):
        pieces = [encoding.ids for encoding in encoded[start : start + ROWS]]
        width = NARROWEST
        while width < max(map(len, pieces)):
            width *= 2
        ids, lengths = np.zeros((ROWS, width), np.int32), np.zeros(ROWS, np.int32)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece)], lengths[row] = piece, len(piece)
        found[start : start + ROWS] = MODEL(ids, lengths)[: len(pieces)]
    return found


def answers(lines: Iterator[str]) -> Iterator[dict]:
    """An answer for each line, some of them at a time."""
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
