"""Flax as its documentation shows it: `nn.RNN(nn.OptimizedLSTMCell)` with lengths, Optax' Adam, a jitted step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from experiments.benchmarks import peers
from research.data.batches import epoch_order, evaluation_order, gather


class Classifier(nn.Module):
    """Map token ids [B, L] and lengths [B] to logits [B]."""

    @nn.compact
    def __call__(self, ids: jax.Array, lengths: jax.Array) -> jax.Array:
        inputs = nn.Embed(peers.VOCAB_SIZE, peers.EMBEDDING_SIZE)(ids)
        layer = nn.RNN(nn.OptimizedLSTMCell(peers.HIDDEN_SIZE), return_carry=True)
        (_, last), _ = layer(inputs, seq_lengths=lengths)
        return nn.Dense(1)(last)[:, 0]


@jax.jit
def _step(state: TrainState, ids: jax.Array, lengths: jax.Array, labels: jax.Array, weights: jax.Array) -> TrainState:
    def loss_of(params: Any) -> jax.Array:
        losses = optax.sigmoid_binary_cross_entropy(state.apply_fn(params, ids, lengths), labels)
        return jnp.sum(losses * weights) / jnp.sum(weights)

    return state.apply_gradients(grads=jax.grad(loss_of)(state.params))


def _state(seed: int) -> TrainState:
    model = Classifier()
    params = model.init(jax.random.key(seed), jnp.zeros((1, 8), jnp.int32), jnp.ones(1, jnp.int32))
    return TrainState.create(apply_fn=jax.jit(model.apply), params=params, tx=optax.adam(peers.LEARNING_RATE))


def step(threads: int) -> dict[str, Any]:
    """Time the article's padded step; JAX uses the cores that the process has, whatever `threads` says."""
    ids, labels = peers.example_batch()
    state, labels = _state(0), labels.astype(np.float32)
    lengths, weights = np.full(peers.BATCH_SIZE, peers.PADDED, np.int32), np.ones(peers.BATCH_SIZE, np.float32)

    def train_once() -> None:
        nonlocal state
        state = jax.block_until_ready(_step(state, ids, lengths, labels, weights))

    return {"seconds": peers.time_calls(train_once)}


def epochs(data: str, folds: list[int], epochs: int, threads: int) -> dict[str, Any]:
    """Train the folds one after the other."""
    accuracies = []
    for fold in folds:
        texts, state = peers.read_fold(data, fold), _state(fold)
        best_state, best_accuracy = state, -1.0
        for epoch in range(epochs):
            for index in epoch_order(texts.train.lengths, peers.BATCH_SIZE, fold, epoch):
                batch = gather(texts.train, index, peers.BATCH_SIZE, texts.widths)
                labels = batch.labels.astype(np.float32)
                state = _step(state, batch.token_ids, np.maximum(batch.lengths, 1), labels, batch.weights)
            accuracy = _accuracy(state, texts.validation, texts.widths)
            if accuracy > best_accuracy:
                best_state, best_accuracy = state, accuracy
        accuracies.append(_accuracy(best_state, texts.test, texts.widths))
    return {"accuracy": accuracies}


def _accuracy(state: TrainState, texts: Any, widths: tuple[int, ...]) -> float:
    right = 0
    for index in evaluation_order(texts.lengths, 256):
        batch = gather(texts, index, 256, widths)
        logits = np.asarray(state.apply_fn(state.params, batch.token_ids, np.maximum(batch.lengths, 1)))
        right += int(((logits > 0) == batch.labels)[: len(index)].sum())
    return right / len(texts.labels)


if __name__ == "__main__":
    peers.answer({"step": step, "epochs": epochs})
