"""Variants against NumPy written from the papers' equations, text by text and without padding."""

import jax
import numpy as np
import pytest

from research.data.tokenizer import Encoded
from research.models import build, settings_for
from research.models.deep_cnn import halve
from research.models.layers.attention import SCORES, LuongAttention
from research.models.linear import Linear
from research.models.memory import hops
from research.models.transformer import sinusoidal_positions

LENGTHS = np.array([9, 4, 1, 7], np.int32)
RANDOM = np.random.default_rng(0)
STATES = RANDOM.normal(size=(4, 9, 6)).astype(np.float32)
QUERY = RANDOM.normal(size=(4, 6)).astype(np.float32)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


@pytest.mark.parametrize("score", SCORES)
def test_luong(score):
    window, positions = 2, 8
    module = LuongAttention(score, window, positions)
    variables = module.init(jax.random.key(1), QUERY, STATES, LENGTHS)
    vectors, weights = module.apply(variables, QUERY, STATES, LENGTHS)
    p = {name: np.asarray(leaf["kernel"]) for name, leaf in variables["params"].items()}
    for row, length in enumerate(LENGTHS):
        h_t, h_s = QUERY[row], STATES[row, :length]
        s = np.arange(length)
        if score == "dot":
            a = softmax(h_s @ h_t)
        elif score == "concat":
            joint = np.concatenate([p["score_query"], p["score_states"]])  # W_a of [h_t; h_s]
            both = np.concatenate([np.tile(h_t, (length, 1)), h_s], axis=1)
            a = softmax(np.tanh(both @ joint) @ p["score"][:, 0])
        elif score == "location":
            a = np.concatenate([softmax((h_t @ p["score"])[:length]), np.zeros(max(0, length - positions))])
        else:
            scores = np.array([h_t @ p["score"] @ h for h in h_s])
            if score == "general":
                a = softmax(scores)
            else:
                centre = length - 1.0
                if score == "local_p":
                    hidden = np.tanh(h_t @ p["position_hidden"])
                    centre = length / (1 + np.exp(-(hidden @ p["position"][:, 0])))
                near = np.abs(s - centre) <= window
                a = np.where(near, np.exp(scores - scores.max()), 0)
                a = a / a.sum() if near.any() else a
                if score == "local_p":
                    a = a * np.exp(-((s - centre) ** 2) / (2 * (window / 2) ** 2))
        np.testing.assert_allclose(weights[row, :length], a[:length], atol=1e-5)
        assert (weights[row, length:] == 0).all()
        expected = np.tanh(np.concatenate([a[:length] @ h_s, h_t]) @ p["combine"])
        np.testing.assert_allclose(vectors[row], expected, atol=1e-5)


def test_memory_hops():
    keys, values = (RANDOM.normal(size=(4, 9, 6)).astype(np.float32) for _ in range(2))
    update = RANDOM.normal(size=(6, 6)).astype(np.float32) / 3
    mask = np.arange(9)[None, :] < LENGTHS[:, None]
    found, weights = hops(QUERY, keys, values, mask, update, 3)
    for row, length in enumerate(LENGTHS):
        u = QUERY[row]
        for hop in range(3):
            p = softmax(keys[row, :length] @ u)
            np.testing.assert_allclose(weights[row, hop, :length], p, atol=1e-4)
            u = u @ update + p @ values[row, :length]
        np.testing.assert_allclose(found[row], u, rtol=1e-3, atol=1e-3)


def test_positions():
    found = sinusoidal_positions(5, 6)
    for position in range(5):
        for i in range(3):
            angle = position / 10_000 ** (2 * i / 6)
            np.testing.assert_allclose(found[position, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], atol=1e-6)


def test_halving_pools_the_real_positions():
    states = RANDOM.normal(size=(3, 7, 2)).astype(np.float32)
    lengths = np.array([7, 4, 0], np.int32)
    pooled, halved = halve(states, lengths)
    assert halved.tolist() == [4, 2, 0]
    for row, length in enumerate(lengths):
        for i in range(4):
            near = [k for k in (2 * i - 1, 2 * i, 2 * i + 1) if 0 <= k < length]
            expected = states[row, near].max(axis=0) if i < (length + 1) // 2 else np.zeros(2)
            np.testing.assert_array_equal(pooled[row, i], expected)


@pytest.mark.parametrize("classes", [2, 3])
def test_naive_bayes_weights(classes):
    """r = log((p / |p|) / (q / |q|)), p = 1 + sum of presences in the class (Wang & Manning 2012)."""
    ids = RANDOM.integers(2, 6, (30, 5)).astype(np.int32)
    lengths = RANDOM.integers(0, 6, 30).astype(np.int32)
    labels = (np.arange(30) % classes).astype(np.int32)
    module = Linear(vocab_size=7, num_outputs=1 if classes == 2 else classes, weighting="nb", buckets=50)
    variables = module.init(jax.random.key(0), ids, lengths, deterministic=True)
    texts = Encoded(
        np.concatenate([row[:n] for row, n in zip(ids, lengths, strict=True)]),
        np.concatenate([[0], np.cumsum(lengths)]),
        labels,
    )
    fitted = {"constants": module.fit_constants(texts)}
    weights = np.asarray(fitted["constants"]["weights"])
    sorted_ids, mask, _ = module.apply(variables, ids, lengths, method="features")
    present = np.zeros((30, 57))
    for row in range(30):
        present[row, np.asarray(sorted_ids)[row][np.asarray(mask)[row]]] = 1
    seen = present.any(axis=0)
    assert (weights[~seen] == 0).all()
    for column, c in enumerate([1] if classes == 2 else range(classes)):
        p, q = (1 + present[labels == c].sum(axis=0))[seen], (1 + present[labels != c].sum(axis=0))[seen]
        np.testing.assert_allclose(weights[seen, column], np.log((p / p.sum()) / (q / q.sum())), atol=1e-5)


def test_averaging_drops_whole_tokens_and_averages_the_rest():
    module = build(settings_for("mlp.MLP", word_dropout=0.5), vocab_size=20, num_outputs=1)
    ids = RANDOM.integers(2, 20, (4, 9)).astype(np.int32)
    variables = module.init(jax.random.key(0), ids, LENGTHS, deterministic=True)
    # A text of one word, repeated, has the same mean whatever is dropped, as long as something is left.
    same = np.full((1, 9), 5, np.int32)
    for deterministic in (True, False):
        logits = module.apply(
            variables, same, LENGTHS[:1], deterministic=deterministic, rngs={"dropout": jax.random.key(2)}
        )
        if deterministic:
            expected = logits
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    one, other = (
        module.apply(variables, ids, LENGTHS, deterministic=False, rngs={"dropout": jax.random.key(k)}) for k in (0, 1)
    )
    assert np.abs(one - other).max() > 0
