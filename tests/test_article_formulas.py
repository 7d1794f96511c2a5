"""The formulas of the article's section 4 in NumPy, forwards and backwards, equal to the variants and `jax.grad`.

The article's backward recursions are corrected in two places, and the tests show that its own versions are wrong: the
activation's derivative is taken at its argument z, sigmoid'(z) = a (1 - a), not at the activation a itself; and the
RNN's recursion runs back over time, not over layers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models import build, settings_for
from research.training.metric_sums import cross_entropy

VOCAB_SIZE = 20
LENGTHS = np.array([7, 3, 5, 1], np.int32)
IDS = np.random.default_rng(0).integers(2, VOCAB_SIZE, (4, 7)).astype(np.int32)
LABELS = np.array([1, 0, 0, 1], np.int32)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def slope(a):
    """Return sigmoid'(z), computed from a = sigmoid(z)."""
    return a * (1 - a)


def slope_of_the_activation(a):
    """Return the derivative at a instead of at z, as the article writes it."""
    return slope(sigmoid(a))


def jax_loss_and_gradient(settings):
    """Return `(params, loss, gradient)` of the mean loss, with weights so large that nothing is near zero."""
    module = build(settings, vocab_size=VOCAB_SIZE, num_outputs=1)
    params = module.init(jax.random.key(0), IDS, LENGTHS, deterministic=True)["params"]
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: random.normal(0, 0.5, leaf.shape).astype(np.float32), params)

    def loss_of(params):
        logits = module.apply({"params": params}, IDS, LENGTHS, deterministic=True)
        return jnp.mean(cross_entropy(logits, LABELS))

    loss, gradient = jax.value_and_grad(loss_of)(params)
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params), loss, gradient


def by_hand(params, forward_and_backward, derivative):
    """Sum the loss and gradients of `forward_and_backward(params, x, derivative) -> (top, back)`, text by text.

    `top` is the vector below the output layer. `back(gradient of top, gradients)` adds the gradients of the layers
    below it and returns the gradient of the inputs x.
    """
    gradients = jax.tree.map(np.zeros_like, params)
    loss = 0.0
    for ids, length, label in zip(IDS, LENGTHS, LABELS, strict=True):
        tokens = ids[:length]
        top, back = forward_and_backward(params, params["embedding"]["embedding"][tokens], derivative)
        head, head_gradients = params["head"], gradients["head"]
        probability = sigmoid(top @ head["kernel"][:, 0] + head["bias"][0])
        loss -= np.log(probability if label else 1 - probability) / len(LABELS)
        delta = (probability - label) / len(LABELS)
        head_gradients["kernel"][:, 0] += delta * top
        head_gradients["bias"][0] += delta
        d_inputs = back(delta * head["kernel"][:, 0], gradients)
        np.add.at(gradients["embedding"]["embedding"], tokens, d_inputs)
    return loss, gradients


def mlp(params, x, derivative):
    """a^l = sigmoid(W^l a^(l-1) + b^l); delta^l = (W^(l+1) delta^(l+1)) * sigmoid'(z^l); dW^l = a^(l-1) delta^l."""
    layers = [f"hidden_{i}" for i in range(2)]
    activations = [x.mean(axis=0)]
    for name in layers:
        activations.append(sigmoid(activations[-1] @ params[name]["kernel"] + params[name]["bias"]))

    def back(d_top, gradients):
        for i in (1, 0):
            delta = d_top * derivative(activations[i + 1])
            gradients[layers[i]]["kernel"] += np.outer(activations[i], delta)
            gradients[layers[i]]["bias"] += delta
            d_top = params[layers[i]]["kernel"] @ delta
        return np.tile(d_top / len(x), (len(x), 1))

    return activations[-1], back


def cnn(params, x, derivative):
    """h_t = sigmoid(sum_k x_(t+k) W_k + b), the maximum over t; its gradient goes to where the maximum was."""
    kernel, bias = params["width_3"]["kernel"], params["width_3"]["bias"]
    padded = np.pad(x, ((2, 2), (0, 0)))
    maps = sigmoid(np.stack([np.einsum("ke,kef->f", padded[t : t + 3], kernel) + bias for t in range(len(x) + 2)]))
    winners = maps.argmax(axis=0)

    def back(d_top, gradients):
        d_padded = np.zeros_like(padded)
        for feature, t in enumerate(winners):
            delta = d_top[feature] * derivative(maps[t, feature])
            gradients["width_3"]["kernel"][:, :, feature] += delta * padded[t : t + 3]
            gradients["width_3"]["bias"][feature] += delta
            d_padded[t : t + 3] += delta * kernel[:, :, feature]
        return d_padded[2:-2]

    return maps.max(axis=0), back


def rnn(params, x, derivative):
    """h_t = sigmoid(x_t W + h_(t-1) U + b); delta_t = (what reaches h_t) * sigmoid'(z_t), back over time."""
    p = params["forwards_0"]
    states = [np.zeros(len(p["recurrent_kernel"]))]
    for x_t in x:
        states.append(sigmoid(x_t @ p["kernel"] + states[-1] @ p["recurrent_kernel"] + p["bias"]))

    def back(d_top, gradients):
        d_inputs = np.zeros_like(x)
        for t in reversed(range(len(x))):
            delta = d_top * derivative(states[t + 1])
            gradients["forwards_0"]["kernel"] += np.outer(x[t], delta)
            gradients["forwards_0"]["recurrent_kernel"] += np.outer(states[t], delta)
            gradients["forwards_0"]["bias"] += delta
            d_inputs[t] = p["kernel"] @ delta
            d_top = p["recurrent_kernel"] @ delta
        return d_inputs

    return states[-1], back


FORMULAS = {
    "mlp": (mlp, settings_for("mlp.MLP", activation="sigmoid", layers=2, embedding_size=5, hidden_size=4)),
    "cnn": (cnn, settings_for("cnn.CNN", activation="sigmoid", widths=(3,), features=6, embedding_size=5)),
    "rnn": (
        rnn,
        settings_for("recurrent.Recurrent", cell="rnn", activation="sigmoid", embedding_size=5, hidden_size=4),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_forward_formula_and_corrected_backward_recursion(name):
    formula, settings = FORMULAS[name]
    params, loss, gradient = jax_loss_and_gradient(settings)
    expected_loss, expected = by_hand(params, formula, slope)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    jax.tree.map(
        lambda found, by_hand: np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-6), gradient, expected
    )


@pytest.mark.parametrize("name", FORMULAS)
def test_the_derivative_at_the_activation_is_another_gradient(name):
    formula, settings = FORMULAS[name]
    params, _, gradient = jax_loss_and_gradient(settings)
    _, wrong = by_hand(params, formula, slope_of_the_activation)
    layer = {"mlp": "hidden_0", "cnn": "width_3", "rnn": "forwards_0"}[name]
    found, article = gradient[layer]["kernel"], wrong[layer]["kernel"]
    assert np.abs(found - article).max() > 0.05 * np.abs(found).max()


def test_without_the_way_back_over_time_the_rnn_learns_from_the_last_word_alone():
    params, _, gradient = jax_loss_and_gradient(FORMULAS["rnn"][1])

    def last_step_alone(params, x, derivative):
        top, back = rnn(params, x, derivative)

        def back_once(d_top, gradients):
            kept = jax.tree.map(np.zeros_like, gradients)
            return np.vstack([np.zeros_like(x[:-1]), back(d_top, kept)[-1:]])

        return top, back_once

    _, wrong = by_hand(params, last_step_alone, slope)
    difference = np.abs(np.asarray(gradient["embedding"]["embedding"]) - wrong["embedding"]["embedding"])
    earlier = np.unique(np.concatenate([ids[: n - 1] for ids, n in zip(IDS, LENGTHS, strict=True)]))
    assert (difference[earlier].max(axis=1) > 0).all()
    np.testing.assert_allclose(difference[np.setdiff1d(np.arange(VOCAB_SIZE), earlier)], 0, atol=1e-6)
