"""PyTorch: packed sequences and our batches of similar length; on a GPU, if there is one, with cuDNN."""

import copy
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.benchmarks import peers
from research.data.batches import epoch_order, evaluation_order, gather

_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Classifier(nn.Module):
    """Map token ids [B, L] and lengths [B] to logits [B]; without lengths, all texts have L tokens."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(peers.VOCAB_SIZE, peers.EMBEDDING_SIZE)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
        self.lstm = nn.LSTM(peers.EMBEDDING_SIZE, peers.HIDDEN_SIZE, batch_first=True)
        self.head = nn.Linear(peers.HIDDEN_SIZE, 1)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        inputs = self.embedding(ids)
        if lengths is not None:
            lengths = lengths.clamp(min=1)
            inputs = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.lstm(inputs)[1][0][-1])[:, 0]


def _put(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).to(_DEVICE)


def _make_step(model: Classifier) -> Any:
    optimizer = torch.optim.Adam(model.parameters(), peers.LEARNING_RATE)
    loss_of = nn.BCEWithLogitsLoss()

    def step(ids: np.ndarray, lengths: np.ndarray | None, labels: np.ndarray) -> None:
        optimizer.zero_grad(set_to_none=True)
        lengths = None if lengths is None else torch.from_numpy(lengths)
        loss_of(model(_put(ids), lengths), _put(labels.astype(np.float32))).backward()
        optimizer.step()

    return step


def step(threads: int) -> dict[str, Any]:
    """Time the article's padded step."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    ids, labels = peers.example_batch()
    train_once = _make_step(Classifier().to(_DEVICE))
    return {"seconds": peers.time_calls(lambda: train_once(ids, None, labels))}


def epochs(data: str, folds: list[int], epochs: int, threads: int) -> dict[str, Any]:
    """Train the folds one after the other."""
    torch.set_num_threads(threads)
    return {"accuracy": [_train(peers.read_fold(data, fold), fold, epochs) for fold in folds]}


def runs(data: str, most: int, epochs: int, seconds: float, needs_gpu: bool, threads: int) -> Iterator[dict[str, Any]]:
    """Train runs one after the other; run i has fold i % 5 and seed i.

    Args:
      data: the file of the folds.
      most: the number of runs.
      epochs: the epochs of each.
      seconds: no run is begun that is expected to end later than this.
      needs_gpu: whether to end if PyTorch finds no GPU.
      threads: the threads of a process.
    """
    start = time.perf_counter()
    if needs_gpu and _DEVICE == "cpu":
        raise SystemExit(f"torch {torch.__version__} finds no GPU (it is built for CUDA {torch.version.cuda})")
    torch.set_num_threads(threads)
    device = torch.cuda.get_device_name() if _DEVICE == "cuda" else "cpu"
    about = {"torch": torch.__version__, "device": device, "cudnn": torch.backends.cudnn.version()}
    folds = [peers.read_fold(data, fold) for fold in range(5)]
    for run in range(most):
        run_start = time.perf_counter()
        accuracy = _train(folds[run % 5], run, epochs)
        now = time.perf_counter()
        yield about | {"run": run, "epochs": epochs, "seconds": now - run_start, "test_accuracy": accuracy}
        if 2 * now - run_start > start + seconds:
            return


def _train(texts: peers.Fold, seed: int, epochs: int) -> float:
    """Train a run; return the test accuracy of the epoch that is best on validation."""
    torch.manual_seed(seed)
    model = Classifier().to(_DEVICE)
    train_once = _make_step(model)
    best_weights, best_accuracy = {}, -1.0
    for epoch in range(epochs):
        model.train()
        for index in epoch_order(texts.train.lengths, peers.BATCH_SIZE, seed, epoch):
            batch = gather(texts.train, index, len(index), texts.widths)
            train_once(batch.token_ids, batch.lengths, batch.labels)
        accuracy = _accuracy(model, texts.validation, texts.widths)
        if accuracy > best_accuracy:
            best_weights, best_accuracy = copy.deepcopy(model.state_dict()), accuracy
    model.load_state_dict(best_weights)
    return _accuracy(model, texts.test, texts.widths)


def _accuracy(model: Classifier, texts: Any, widths: tuple[int, ...]) -> float:
    model.eval()
    right = 0
    with torch.inference_mode():
        for index in evaluation_order(texts.lengths, 256):
            batch = gather(texts, index, 256, widths)
            logits = model(_put(batch.token_ids), torch.from_numpy(batch.lengths)).cpu().numpy()
            right += int(((logits > 0) == batch.labels)[: len(index)].sum())
    return right / len(texts.labels)


def predict(weights: str, threads: int, **files: str) -> dict[str, Any]:
    """Label a file of texts with the parameters of a run."""
    torch.set_num_threads(threads)
    model = _model_with(np.load(weights)).to(_DEVICE).eval()

    def classify(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return model(_put(ids), torch.from_numpy(lengths)).sigmoid().cpu().numpy()

    with torch.inference_mode():
        peers.label_file(classify, **files)
    return {}


def _model_with(saved: Any) -> Classifier:
    """Return the classifier with a run's parameters, whose gates have the same order (i, f, g, o) and one bias."""
    model = Classifier()
    lstm = model.lstm
    values = {
        model.embedding.weight: saved["embedding/embedding"],
        lstm.weight_ih_l0: saved["forwards_0/kernel"].T,
        lstm.weight_hh_l0: saved["forwards_0/recurrent_kernel"].T,
        lstm.bias_ih_l0: saved["forwards_0/bias"],
        lstm.bias_hh_l0: np.zeros_like(saved["forwards_0/bias"]),
        model.head.weight: saved["head/kernel"].T,
        model.head.bias: saved["head/bias"],
    }
    with torch.no_grad():
        for parameter, value in values.items():
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    return model


if __name__ == "__main__":
    peers.answer({"step": step, "epochs": epochs, "runs": runs, "predict": predict})
