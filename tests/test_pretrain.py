"""The pre-training step: masks, losses, and the same result in parts, on several devices and in half precision."""

import functools

import jax
import numpy as np
import pytest

from research.data.token_stream import Rows, fill_pairs
from research.models.layers.vocabulary import Guesses
from research.pretraining.objectives import make_examples, mask_tokens, token_losses
from research.pretraining.pretrain_step import PretrainPrograms, init_state
from research.training.loop import of_run, stack
from research.training.sharding import share_rows
from tests.pretraining import NUM_IDS, SPECIAL, small_config

VARIANTS = {"bert:tiny": ("model.dropout=0", "model.attention_dropout=0"), "lstm": ()}


def make_rows(count, width=24):
    """Return rows of [CLS] a [SEP] b [SEP], of all lengths."""
    random = np.random.default_rng(0)
    pairs = []
    for i in range(count):
        a, b = (random.integers(5, NUM_IDS, random.integers(1, (width - 3) // 2 + 1)) for _ in range(2))
        pairs.append((a, b, i % 5 > 0))
    return fill_pairs(pairs, random, shape=(count, width), start=2, end=3)


def test_15_percent_are_guessed_in_three_ways_and_each_step_draws_others():
    rows = make_rows(2000)
    masked, positions, targets, weights = map(
        np.asarray, mask_tokens(jax.random.key(0), rows.token_ids, rows.lengths, SPECIAL, NUM_IDS)
    )
    num_plain = ((rows.token_ids > 4) & (np.arange(24) < rows.lengths[:, None])).sum(axis=1)
    np.testing.assert_array_equal(weights.sum(axis=1), np.round(0.15 * num_plain.astype(np.float32)))
    np.testing.assert_array_equal(np.take_along_axis(rows.token_ids, positions, axis=1), targets)
    is_guessed = weights > 0
    assert (targets[is_guessed] > 4).all()
    shown = np.take_along_axis(masked, positions, axis=1)[is_guessed]
    shares = [(shown == 4).mean(), (shown == targets[is_guessed]).mean()]
    np.testing.assert_allclose(shares, [0.8, 0.1 + 0.1 / NUM_IDS], atol=0.02)
    assert (masked != rows.token_ids).sum() == (shown != targets[is_guessed]).sum()  # nothing else is changed
    assert abs(weights.sum() / num_plain.sum() - 0.15) < 0.01
    again = mask_tokens(jax.random.key(0), rows.token_ids, rows.lengths, SPECIAL, NUM_IDS)[0]
    other = mask_tokens(jax.random.key(1), rows.token_ids, rows.lengths, SPECIAL, NUM_IDS)[0]
    np.testing.assert_array_equal(again, masked)
    assert (np.asarray(other) != masked).mean() > 0.1


def test_a_language_model_guesses_every_token_but_the_first():
    ids = np.arange(12, dtype=np.int32).reshape(2, 6)
    rows = Rows(ids, np.zeros_like(ids), np.array([6, 3], np.int32), np.full(2, -1, np.int32))
    examples = make_examples("next", jax.random.key(0), rows, None, 12)
    assert examples.targets.tolist() == ids[:, 1:].tolist()
    assert examples.weights.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]


def test_the_loss_in_chunks_equals_the_loss_of_all_logits(monkeypatch):
    random = np.random.default_rng(0)
    vectors, table, bias = (random.normal(size=s).astype(np.float32) for s in ((3, 7, 4), (11, 4), (11,)))
    targets, weights = random.integers(0, 11, (3, 7)), random.integers(0, 2, (3, 7)).astype(np.float32)
    whole = token_losses(Guesses(vectors, table, bias, None), targets, weights)
    monkeypatch.setattr("research.pretraining.objectives.CHUNK_TOKENS", 6)
    np.testing.assert_allclose(token_losses(Guesses(vectors, table, bias, None), targets, weights), whole, rtol=1e-5)
    logits = vectors @ table.T + bias
    losses = np.log(np.exp(logits).sum(axis=-1)) - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(whole[0], (losses * weights).sum(), rtol=1e-5)
    np.testing.assert_allclose(whole[1], ((logits.argmax(-1) == targets) * weights).sum())


@functools.cache
def state_after_two_steps(variant, *overrides, parts=1, devices=1):
    """Return the state and sums after two steps of SGD on 16 rows; Adam would amplify rounding differences."""
    optimizer = ("optimizer.name=sgd", "optimizer.learning_rate=0.5")
    config = small_config(variant, *VARIANTS[variant], *optimizer, *overrides)
    placement = share_rows(devices, 16)
    programs = PretrainPrograms(config, SPECIAL, NUM_IDS, placement)
    states = placement.put(stack([init_state(programs, config, init_seed=0, seed=0, num_steps=4)]))
    rows = jax.tree.map(lambda leaf: leaf.reshape(1, parts, -1, *leaf.shape[1:]), make_rows(16))
    for _ in range(2):
        states, sums = programs.step(states, placement.put_rows(rows, 2))
    return of_run((states, sums), 0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_is_the_same_with_accumulation_and_on_two_devices(variant, two_devices):
    both = state_after_two_steps(variant), state_after_two_steps(variant, parts=2, devices=2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *both)


def test_rematerialisation_changes_nothing():
    plain, remat = state_after_two_steps("bert:tiny"), state_after_two_steps("bert:tiny", "model.remat=true")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plain, remat)


def test_half_precision_gives_nearly_the_same_loss():
    full, half = (
        state_after_two_steps("lstm", f"training.compute_dtype={name}")[1] for name in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(half.loss, full.loss, rtol=0.02)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(variant):
    config = small_config(variant, *VARIANTS[variant], "optimizer.learning_rate=0.01")
    programs = PretrainPrograms(config, SPECIAL, NUM_IDS)
    state = init_state(programs, config, init_seed=0, seed=0, num_steps=40)
    before = jax.device_get(state.params)
    states, rows = stack([state]), jax.tree.map(lambda leaf: leaf[None, None], make_rows(16))
    losses = []
    for _ in range(30):
        states, sums = programs.step(states, rows)
        losses.append(float(sums.loss[0] / sums.weight[0]))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, of_run(states.params, 0))
    assert all(jax.tree.leaves(moved)), moved
    assert losses[-1] < losses[0] - 0.1
