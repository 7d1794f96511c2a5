"""fastText (Joulin et al. 2016): a linear model of words and word pairs, five epochs; compared with `linear`."""

import tempfile
from pathlib import Path
from typing import Any

import fasttext

from experiments.benchmarks import peers
from research.data.tokenizer import Encoded


def epochs(data: str, folds: list[int], epochs: int, threads: int) -> dict[str, Any]:
    """Train the folds one after the other; `epochs` is for the LSTM and is ignored."""
    accuracies = []
    with tempfile.TemporaryDirectory() as folder:
        train, test = Path(folder) / "train.txt", Path(folder) / "test.txt"
        for fold in folds:
            texts = peers.read_fold(data, fold)
            _write(train, texts.train)
            _write(test, texts.test)
            model = fasttext.train_supervised(str(train), wordNgrams=2, lr=0.5, epoch=5, thread=threads, verbose=0)
            accuracies.append(model.test(str(test))[1])
    return {"accuracy": accuracies}


def _write(path: Path, texts: Encoded) -> None:
    """Write one line for each text: its label, and its token ids as words."""
    with path.open("w") as file:
        for label, start, end in zip(texts.labels, texts.offsets[:-1], texts.offsets[1:], strict=True):
            file.write(f"__label__{label} {' '.join(map(str, texts.tokens[start:end]))}\n")


if __name__ == "__main__":
    peers.answer({"epochs": epochs})
