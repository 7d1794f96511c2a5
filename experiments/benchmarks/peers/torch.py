"""PyTorch: packed sequences, the same batches of similar length; on a GPU, where it finds one, by cuDNN."""

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.benchmarks import peers
from research.data.batches import epoch_order, evaluation_order, gather

_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Classifier(nn.Module):
    """Token ids [B, L] and lengths [B] -> logits [B]; without lengths, all are L."""

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


def _stepper(model: Classifier) -> Any:
    optimizer = torch.optim.Adam(model.parameters(), peers.LEARNING_RATE)
    loss_of = nn.BCEWithLogitsLoss()

    def step(ids: np.ndarray, lengths: np.ndarray | None, labels: np.ndarray) -> None:
        optimizer.zero_grad(set_to_none=True)
        lengths = None if lengths is None else torch.from_numpy(lengths)
        loss_of(model(_put(ids), lengths), _put(labels.astype(np.float32))).backward()
        optimizer.step()

    return step


def step(threads: int) -> dict[str, Any]:
    """The article's padded step."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    ids, labels = peers.example()
    one = _stepper(Classifier().to(_DEVICE))
    return {"seconds": peers.timed(lambda: one(ids, None, labels))}


def epochs(data: str, folds: list[int], epochs: int, threads: int) -> dict[str, Any]:
    """Trains the folds one after the other."""
    torch.set_num_threads(threads)
    accuracies = []
    for fold in folds:
        torch.manual_seed(fold)
        texts = peers.read_fold(data, fold)
        model = Classifier().to(_DEVICE)
        one, best = _stepper(model), (-1.0, {})
        for epoch in range(epochs):
            model.train()
            for index in epoch_order(texts.train.lengths, peers.BATCH_SIZE, fold, epoch):
                batch = gather(texts.train, index, len(index), texts.widths)
                one(batch.token_ids, batch.lengths, batch.labels)
            accuracy = _accuracy(model, texts.validation, texts.widths)
            if accuracy > best[0]:
                best = accuracy, copy.deepcopy(model.state_dict())
        model.load_state_dict(best[1])
        accuracies.append(_accuracy(model, texts.test, texts.widths))
    return {"accuracy": accuracies}


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
    """Labels a file of texts with a run's own parameters."""
    torch.set_num_threads(threads)
    model = _of_weights(np.load(weights)).to(_DEVICE).eval()

    def classify(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return model(_put(ids), torch.from_numpy(lengths)).sigmoid().cpu().numpy()

    with torch.inference_mode():
        peers.label(classify, **files)
    return {}


def _of_weights(saved: Any) -> Classifier:
    """The classifier with a run's parameters: its gates stand as here, (i, f, g, o), and it has one bias."""
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
    peers.answer({"step": step, "epochs": epochs, "predict": predict})
