"""What the benchmark measures: one program each, started in a process of its own with its cores and threads set.

PyTorch, Keras and Flax' own RNN train the article's classifier, Embedding(10000, 64) -> LSTM(128) -> Dense(1), on texts
that are encoded already, with Adam at 1e-3 and batches of 32, as an expert in the library writes it; all but Keras, of
which only the time is measured, choose the epoch on validation. The other peers do what their files say.
"""

import html
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.data.tokenizer import Encoded

VOCAB_SIZE, EMBEDDING_SIZE, HIDDEN_SIZE, BATCH_SIZE, LEARNING_RATE, PADDED = 10_000, 64, 128, 32, 1e-3, 100
TUNING_STEPS = 48
_ROWS = 256  # of a batch of texts to label


class Fold(NamedTuple):
    """The texts of one run."""

    train: Encoded
    validation: Encoded
    test: Encoded
    widths: tuple[int, ...]


def save_folds(path: str, folds: list[Fold]) -> None:
    """Writes folds for the peers to read."""
    arrays = {f"{i}/widths": np.array(fold.widths) for i, fold in enumerate(folds)}
    for i, fold in enumerate(folds):
        for name in ("train", "validation", "test"):
            part = getattr(fold, name)
            arrays |= {f"{i}/{name}/{field}": getattr(part, field) for field in ("tokens", "offsets", "labels")}
    np.savez(path, **arrays)


def read_fold(path: str, fold: int) -> Fold:
    """One of `save_folds`."""
    with np.load(path) as arrays:
        parts = [
            Encoded(*(arrays[f"{fold}/{name}/{field}"] for field in ("tokens", "offsets", "labels")))
            for name in ("train", "validation", "test")
        ]
        return Fold(*parts, tuple(int(width) for width in arrays[f"{fold}/widths"]))


def padded(texts: Encoded) -> np.ndarray:
    """int32 [N, 100]: padded in front as Keras does."""
    ids = np.zeros((len(texts.labels), PADDED), np.int32)
    for row, (start, end) in enumerate(zip(texts.offsets[:-1], texts.offsets[1:], strict=True)):
        ids[row, PADDED - (end - start) :] = texts.tokens[start:end]
    return ids


def timed(step: Callable[[], Any]) -> list[float]:
    """Seconds of each of 40 calls, after five that are not counted."""
    for _ in range(5):
        step()
    seconds = []
    for _ in range(40):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return seconds


def example() -> tuple[np.ndarray, np.ndarray]:
    """Ids int32 [32, 100] and labels int32 [32] of the article's padded step."""
    random = np.random.default_rng(0)
    return random.integers(2, VOCAB_SIZE, (BATCH_SIZE, PADDED), np.int32), random.integers(0, 2, BATCH_SIZE, np.int32)


def tuning() -> tuple[Any, Any, list[np.ndarray]]:
    """What is fine-tuned: the config of `bert:minilm`, a prepared fold of rotten_tomatoes, and some of its batches."""
    from experiments.variants import load_config
    from research.data.batches import epoch_order
    from research.data.corpora import load
    from research.runs.texts import RunSpec, prepare_texts

    config = load_config("bert:minilm")
    prepared = prepare_texts(RunSpec(config, load("rotten_tomatoes"), 5, 0, 0))
    order = epoch_order(prepared.train.lengths, config.training.batch_size, 0, 0)
    return config, prepared, order[:TUNING_STEPS]


def label(
    classify: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    tokenizer: str,
    texts: str,
    output: str,
) -> None:
    """Labels a file of a text a line as `predict` does, with a run's tokenizer, in batches of texts of like length.

    Args:
      classify: (ids int64 [B, L], lengths int64 [B]) -> probabilities of the second class [B].
      tokenizer, texts, output: files.
    """
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(tokenizer)
    with Path(texts).open(encoding="utf-8") as lines, Path(output).open("w", encoding="utf-8") as answers:
        while some := [line.rstrip("\n") for line in itertools.islice(lines, 4096)]:
            ids = [e.ids for e in encoder.encode_batch_fast([html.unescape(t) for t in some], add_special_tokens=False)]
            order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
            p = np.empty(len(ids))
            for start in range(0, len(order), _ROWS):
                which = order[start : start + _ROWS]
                batch = np.zeros((len(which), max(1, len(ids[which[-1]]))), np.int64)
                for row, i in enumerate(which):
                    batch[row, : len(ids[i])] = ids[i]
                p[which] = classify(batch, np.array([len(ids[i]) for i in which]))
            for text, of_text in zip(some, p.tolist(), strict=True):
                answer = {"text": text, "label": str(int(of_text > 0.5)), "probabilities": [1 - of_text, of_text]}
                answers.write(json.dumps(answer, ensure_ascii=False) + "\n")


def answer(measures: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """Does what the process was asked for, `MEASURE {arguments as JSON}`, and prints what it found as JSON."""
    print(json.dumps(measures[sys.argv[1]](**json.loads(sys.argv[2]))))
