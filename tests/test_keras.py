"""From the same weights, the article's classifier is Keras' `Embedding -> LSTM -> Dense` on unpadded input."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.models import build, settings_for
from research.models.layers.convolution import Convolution
from research.models.layers.pooling import max_over_time
from research.models.layers.recurrence import RecurrentLayer
from research.training.metric_sums import cross_entropy

os.environ["KERAS_BACKEND"] = "jax"
keras = pytest.importorskip("keras")

ROWS, LENGTH, VOCAB_SIZE = 7, 23, 40


@pytest.fixture(scope="module", autouse=True)
def same_weights():
    """Those that Keras begins with."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def both():
    # Keras promotes ranks as it likes.
    with jax.numpy_rank_promotion("allow"):
        reference = keras.Sequential(
            [
                keras.Input((LENGTH,), dtype="int32"),
                keras.layers.Embedding(VOCAB_SIZE, 64),
                keras.layers.LSTM(128),
                keras.layers.Dense(1, activation="sigmoid"),
            ]
        )
    embedding, kernel, recurrent, bias, dense, dense_bias = [np.asarray(w) for w in reference.get_weights()]
    random = np.random.default_rng(0)
    bias = bias + random.normal(0, 0.1, bias.shape).astype(np.float32)  # zeros would hide a swapped gate
    reference.set_weights([embedding, kernel, recurrent, bias, dense, dense_bias])
    params = {
        "embedding": {"embedding": embedding},
        "forwards_0": {"kernel": kernel, "recurrent_kernel": recurrent, "bias": bias},
        "head": {"kernel": dense, "bias": dense_bias},
    }
    module = build(settings_for("recurrent.Recurrent"), vocab_size=VOCAB_SIZE, num_outputs=1)
    ids = random.integers(0, VOCAB_SIZE, (ROWS, LENGTH)).astype(np.int32)
    labels = random.integers(0, 2, ROWS).astype(np.int32)
    return reference, module, params, ids, labels


def logits(module, params, ids):
    return module.apply({"params": params}, ids, np.full(len(ids), LENGTH, np.int32), deterministic=True)


def test_the_modules_parameters_are_those_of_keras(both):
    _, module, params, ids, _ = both
    made = module.init(jax.random.key(0), ids, np.full(ROWS, LENGTH, np.int32), deterministic=True)["params"]
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params)


def test_probabilities(both):
    reference, module, params, ids, _ = both
    with jax.numpy_rank_promotion("allow"):
        expected = np.asarray(reference(ids))
    np.testing.assert_allclose(jax.nn.sigmoid(logits(module, params, ids)), expected, atol=1e-5)


def test_loss_and_gradients(both):
    reference, module, params, ids, labels = both
    trainable = [variable.value for variable in reference.trainable_variables]

    rest = [variable.value for variable in reference.non_trainable_variables]

    def reference_loss(trainable):
        probabilities, _ = reference.stateless_call(trainable, rest, ids)
        return keras.losses.BinaryCrossentropy()(labels[:, None], probabilities)

    def loss(params):
        return cross_entropy(logits(module, params, ids), labels).mean()

    with jax.numpy_rank_promotion("allow"):
        expected, expected_gradients = jax.jit(jax.value_and_grad(reference_loss))(trainable)
    value, gradients = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    ours = [
        gradients["embedding"]["embedding"],
        *(gradients["forwards_0"][name] for name in ("kernel", "recurrent_kernel", "bias")),
        *(gradients["head"][name] for name in ("kernel", "bias")),
    ]
    for one, other in zip(ours, expected_gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_optimizer_takes_the_steps_of_keras_adam(both):
    import optax

    from research.settings import Optimizer
    from research.training.optimizers import make_optimizer, rates_of

    random = np.random.default_rng(1)
    value = random.normal(size=4).astype(np.float32)
    variable = keras.Variable(value)
    with jax.numpy_rank_promotion("allow"):
        adam = keras.optimizers.Adam(1e-3)
        settings = Optimizer(name="adam", learning_rate=1e-3)
        optimizer = make_optimizer(settings, None)
        state = optimizer.init(value)
        for _ in range(5):
            gradient = random.normal(size=4).astype(np.float32)
            adam.apply([jnp.asarray(gradient)], [variable])
            given = {"rates": rates_of(settings), "step": jnp.int32(0), "num_steps": jnp.float32(1.0)}
            updates, state = optimizer.update(jnp.asarray(gradient), state, value, **given)
            value = optax.apply_updates(value, updates)
        np.testing.assert_allclose(value, np.asarray(variable.value), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_recurrent_layers_and_their_gradients(cell, activation, backwards):
    """Over padded rows: Keras gets a mask, and backwards the rows without their padding, one by one."""
    random = np.random.default_rng(0)
    batch, steps, features, hidden = 4, 6, 3, 5
    lengths = np.array([6, 3, 1, 6], np.int32)
    inputs = random.normal(size=(batch, steps, features)).astype(np.float32)
    made = {"rnn": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[cell]
    reference = made(hidden, activation=activation, return_sequences=True, go_backwards=backwards)
    with jax.numpy_rank_promotion("allow"):
        reference.build((batch, steps, features))
        weights = [np.asarray(w) + random.normal(0, 0.1, w.shape).astype(np.float32) for w in reference.get_weights()]
        reference.set_weights(weights)
        rest = [variable.value for variable in reference.non_trainable_variables]
        params = dict(zip(("kernel", "recurrent_kernel", "bias"), weights, strict=True))
        probe = random.normal(size=(batch, steps, hidden)).astype(np.float32)

        def of_keras(inputs):
            total, rows = 0.0, []
            for row, length in enumerate(lengths):
                states = reference.stateless_call(weights, rest, inputs[row : row + 1, :length])[0][0]
                states = states[::-1] if backwards else states
                rows.append(states)
                total += (states * probe[row, :length]).sum()
            return total, rows

        (_, expected), expected_gradient = jax.jit(jax.value_and_grad(of_keras, has_aux=True))(inputs)
    layer = RecurrentLayer(cell, hidden, activation, backwards)

    def ours(inputs):
        states, last = layer.apply({"params": params}, inputs, lengths)
        real = np.arange(steps)[None, :, None] < lengths[:, None, None]
        return jnp.sum(jnp.where(real, states * probe, 0.0)), (states, last)

    (_, (states, last)), gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(inputs)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(states[row, :length], expected[row], atol=1e-5)
        np.testing.assert_allclose(last[row], expected[row][0 if backwards else -1], atol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-5)


@pytest.mark.parametrize("width", [2, 3, 5])
def test_convolution_and_max_over_time(width):
    """Kim's windows: zeros on both sides of the text, then every whole window."""
    random = np.random.default_rng(0)
    lengths = np.array([7, 3, 1], np.int32)
    inputs = random.normal(size=(3, 7, 4)).astype(np.float32)
    inputs[np.arange(7)[None, :] >= lengths[:, None]] = 0
    reference = keras.Sequential(
        [
            keras.Input((None, 4)),
            keras.layers.ZeroPadding1D(width - 1),
            keras.layers.Conv1D(6, width, activation="relu"),
            keras.layers.GlobalMaxPooling1D(),
        ]
    )
    kernel, bias = (np.asarray(w) + random.normal(0, 0.3, w.shape).astype(np.float32) for w in reference.get_weights())
    reference.set_weights([kernel, bias])
    maps = Convolution(6, width, "full").apply({"params": {"kernel": kernel, "bias": bias}}, inputs)
    found = max_over_time(nn.relu(maps), lengths + width - 1)
    same = Convolution(6, width, "same").apply({"params": {"kernel": kernel, "bias": bias}}, inputs)
    with jax.numpy_rank_promotion("allow"):
        for row, length in enumerate(lengths):
            expected = np.asarray(reference(inputs[row : row + 1, :length]))[0]
            np.testing.assert_allclose(found[row], expected, atol=1e-5)
        layer = keras.layers.Conv1D(6, width, padding="same")
        layer.build(inputs.shape)
        layer.set_weights([kernel, bias])
        np.testing.assert_allclose(same, np.asarray(layer(inputs)), atol=1e-5)


def test_multi_head_attention():
    random = np.random.default_rng(0)
    lengths = np.array([5, 2], np.int32)
    inputs = random.normal(size=(2, 5, 8)).astype(np.float32)
    mask = np.arange(5)[None, :] < lengths[:, None]
    reference = keras.layers.MultiHeadAttention(num_heads=2, key_dim=4)
    with jax.numpy_rank_promotion("allow"):
        reference.build(inputs.shape, inputs.shape)
        weights = [np.asarray(w) + random.normal(0, 0.1, w.shape).astype(np.float32) for w in reference.get_weights()]
        reference.set_weights(weights)
        expected = np.asarray(reference(inputs, inputs, attention_mask=np.broadcast_to(mask[:, None], (2, 5, 5))))
    names = ("query", "key", "value", "out")
    params = {name: {"kernel": weights[2 * i], "bias": weights[2 * i + 1]} for i, name in enumerate(names)}
    found = nn.MultiHeadDotProductAttention(2).apply({"params": params}, inputs, mask=mask[:, None, None, :])
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(found[row, :length], expected[row, :length], atol=1e-5)
