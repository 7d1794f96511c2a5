"""The libraries that the benchmark measures, one program each; each runs in a process with its own cores and threads.

PyTorch, Keras and Flax' own RNN train the article's classifier, Embedding(10000, 64) -> LSTM(128) -> Dense(1). They are
written as an expert in the library writes them. The texts are already encoded, the optimizer is Adam at 1e-3, batches
have 32 texts. All choose the epoch on validation, except Keras, of which only the time is measured. The docstrings of
the other peers say what they do.

Each peer defines functions with keyword arguments that return or yield what JSON can hold (`answer`).
"""

import html
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.data.tokenizer import Encoded

VOCAB_SIZE, EMBEDDING_SIZE, HIDDEN_SIZE, BATCH_SIZE, LEARNING_RATE, PADDED = 10_000, 64, 128, 32, 1e-3, 100
TUNING_STEPS = 48
_BATCH_ROWS = 256  # of texts to label


class Fold(NamedTuple):
    """The encoded texts of one run."""

    train: Encoded
    validation: Encoded
    test: Encoded
    widths: tuple[int, ...]


def save_folds(path: str, folds: list[Fold]) -> None:
    """Write folds for the peers to read."""
    arrays = {f"{i}/widths": np.array(fold.widths) for i, fold in enumerate(folds)}
    for i, fold in enumerate(folds):
        for name in ("train", "validation", "test"):
            part = getattr(fold, name)
            arrays |= {f"{i}/{name}/{field}": getattr(part, field) for field in ("tokens", "offsets", "labels")}
    np.savez(path, **arrays)


def read_fold(path: str, fold: int) -> Fold:
    """Read one fold that `save_folds` wrote."""
    with np.load(path) as arrays:
        parts = [
            Encoded(*(arrays[f"{fold}/{name}/{field}"] for field in ("tokens", "offsets", "labels")))
            for name in ("train", "validation", "test")
        ]
        return Fold(*parts, tuple(int(width) for width in arrays[f"{fold}/widths"]))


def pad_left(texts: Encoded) -> np.ndarray:
    """Return token ids int32 [N, 100], padded in front as Keras pads."""
    ids = np.zeros((len(texts.labels), PADDED), np.int32)
    for row, (start, end) in enumerate(zip(texts.offsets[:-1], texts.offsets[1:], strict=True)):
        ids[row, PADDED - (end - start) :] = texts.tokens[start:end]
    return ids


def time_calls(step: Callable[[], Any]) -> list[float]:
    """Return the seconds of each of 40 calls, after five that are not counted."""
    for _ in range(5):
        step()
    seconds = []
    for _ in range(40):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return seconds


def example_batch() -> tuple[np.ndarray, np.ndarray]:
    """Return token ids int32 [32, 100] and labels int32 [32] of a full batch, as the article pads it."""
    random = np.random.default_rng(0)
    return random.integers(2, VOCAB_SIZE, (BATCH_SIZE, PADDED), np.int32), random.integers(0, 2, BATCH_SIZE, np.int32)


def fine_tuning_data() -> tuple[Any, Any, list[np.ndarray]]:
    """Return the config of `bert:minilm`, a prepared fold of rotten_tomatoes, and the texts of some of its batches."""
    from experiments.variants import load_config
    from research.data.batches import epoch_order
    from research.data.corpora import load
    from research.runs.texts import RunSpec, prepare_texts

    config = load_config("bert:minilm")
    prepared = prepare_texts(RunSpec(config, load("rotten_tomatoes"), 5, 0, 0))
    order = epoch_order(prepared.train.lengths, config.training.batch_size, 0, 0)
    return config, prepared, order[:TUNING_STEPS]


def label_file(
    classify: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    tokenizer: str,
    texts: str,
    output: str,
) -> None:
    """Label a file with one text a line as `predict` does, with a run's tokenizer.

    Args:
      classify: (ids int64 [B, L], lengths int64 [B]) -> probabilities of the second class [B]. A batch has texts of
        similar length.
      tokenizer: the file of the tokenizer.
      texts: the file to read.
      output: the file to write, one JSON object a line.
    """
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(tokenizer)
    with Path(texts).open(encoding="utf-8") as lines, Path(output).open("w", encoding="utf-8") as answers:
        while chunk := [line.rstrip("\n") for line in itertools.islice(lines, 4096)]:
            unescaped = [html.unescape(text) for text in chunk]
            ids = [e.ids for e in encoder.encode_batch_fast(unescaped, add_special_tokens=False)]
            order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
            probabilities = np.empty(len(ids))
            for start in range(0, len(order), _BATCH_ROWS):
                rows = order[start : start + _BATCH_ROWS]
                batch = np.zeros((len(rows), max(1, len(ids[rows[-1]]))), np.int64)
                for row, i in enumerate(rows):
                    batch[row, : len(ids[i])] = ids[i]
                probabilities[rows] = classify(batch, np.array([len(ids[i]) for i in rows]))
            for text, p in zip(chunk, probabilities.tolist(), strict=True):
                line = {"text": text, "label": str(int(p > 0.5)), "probabilities": [1 - p, p]}
                answers.write(json.dumps(line, ensure_ascii=False) + "\n")


def answer(measures: Mapping[str, Callable[..., dict[str, Any] | Iterator[dict[str, Any]]]]) -> None:
    """Run the measure of the command line, `MEASURE {arguments as JSON}`, and print its result as JSON.

    Of a measure that yields results, each is printed in a line of its own as soon as it is known.
    """
    result = measures[sys.argv[1]](**json.loads(sys.argv[2]))
    for part in [result] if isinstance(result, dict) else result:
        print(json.dumps(part), flush=True)
