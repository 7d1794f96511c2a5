"""HuggingFace `transformers` on PyTorch: MiniLM-L6 fine-tuned on our batches, each padded to its longest text."""

import time
from typing import Any

import numpy as np
import torch
import transformers

from experiments.benchmarks import peers
from research.data.batches import gather
from research.data.pretrained_encoders import find_folder

_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def tuning(threads: int) -> dict[str, Any]:
    """Return the unpadded tokens that are trained a second."""
    torch.set_num_threads(threads)
    config, prepared, order = peers.fine_tuning_data()
    folder = find_folder(config.data.weights)
    model = transformers.BertForSequenceClassification.from_pretrained(folder, num_labels=1).to(_DEVICE).train()
    settings = config.optimizer
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    loss_of = torch.nn.BCEWithLogitsLoss()

    def step(index: np.ndarray) -> None:
        longest = int(prepared.train.lengths[index].max())
        batch = gather(prepared.train, index, len(index), (longest,))
        mask = np.arange(longest)[None] < batch.lengths[:, None]
        ids, mask, labels = (torch.from_numpy(array).to(_DEVICE) for array in (batch.token_ids, mask, batch.labels))
        optimizer.zero_grad(set_to_none=True)
        logits = model(input_ids=ids.long(), attention_mask=mask.long()).logits[:, 0]
        loss_of(logits, labels.float()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()

    for index in order[:4]:
        step(index)
    if _DEVICE == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for index in order:
        step(index)
    if _DEVICE == "cuda":
        torch.cuda.synchronize()
    tokens = sum(int(prepared.train.lengths[index].sum()) for index in order)
    return {"tokens_per_second": tokens / (time.perf_counter() - start)}


if __name__ == "__main__":
    peers.answer({"tuning": tuning})
