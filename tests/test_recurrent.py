"""Dropout in recurrent networks, against NumPy from the equations and by looking at the masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType

from research.models import build, settings_for
from research.models.kernels.options import Kernels
from research.models.kernels.plain_recurrence import Weights, plain_recurrence
from research.models.kernels.row_shards import BATCH
from research.models.layers.dropout import drop_word_types, dropout_mask
from research.models.layers.pooling import AttentivePooling, max_over_time, mean_over_time
from research.models.layers.recurrence import RecurrentLayer, run_recurrence
from research.models.recurrent import average_probabilities
from research.training.metric_sums import probabilities

VOCAB_SIZE = 30
IDS = np.random.default_rng(0).integers(2, 8, (5, 9)).astype(np.int32)  # few words, so that they repeat
LENGTHS = np.array([9, 4, 1, 0, 7], np.int32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_recurrent_mask_is_one_mask_for_all_steps():
    """Gal & Ghahramani 2016, eq. 7 with tied weights: h * m before the product, the same m at every step."""
    random = np.random.default_rng(0)
    inputs, hidden = random.normal(size=(3, 6, 2)).astype(np.float32), 4
    kernel, recurrent = (random.normal(size=(rows, 16)).astype(np.float32) for rows in (2, hidden))
    bias, mask = (
        random.normal(size=16).astype(np.float32),
        np.asarray(dropout_mask(jax.random.key(0), (3, hidden), 0.5)),
    )
    h, c = np.zeros((3, hidden)), np.zeros((3, hidden))
    expected = []
    for t in range(6):
        i, f, g, o = np.split(inputs[:, t] @ kernel + (h * mask) @ recurrent + bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        expected.append(h)
    for run in (plain_recurrence, run_recurrence):
        states, last = run("lstm", "tanh", inputs, np.full(3, 6), Weights(kernel, recurrent, bias), mask)
        np.testing.assert_allclose(states, np.stack(expected, axis=1), atol=1e-5)
        np.testing.assert_allclose(last, expected[-1], atol=1e-5)


CELLS = [
    *(("lstm", "tanh"), ("gru", "tanh"), ("rnn", "tanh")),
    *(pytest.param(cell, name, marks=pytest.mark.extra) for cell in ("gru", "rnn") for name in ("sigmoid", "relu")),
]


def weights_of(random, cell, inputs, hidden):
    """Random weights of a cell that reads `inputs` features."""
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell] * hidden
    shapes = (inputs, gates), (hidden, gates), (2, gates) if cell == "gru" else (gates,)
    return Weights(*(random.normal(size=shape).astype(np.float32) for shape in shapes))


@functools.cache
def _weighted_sum(run, cell, activation):
    """Return a function: a weighted sum of sines of the states, with its gradient. It is compiled once a shape."""

    def scalar(arguments, lengths, mask, real, weights):
        inputs, *cell_weights = arguments
        states, last = run(cell, activation, inputs, lengths, Weights(*cell_weights), mask)
        of_states = jnp.where(real[:, :, None], jnp.sin(states), 0)
        return jnp.sum(of_states * weights[0]) + jnp.sum(jnp.sin(last) * weights[1])

    return jax.jit(jax.value_and_grad(scalar))


@pytest.mark.accelerator
@pytest.mark.parametrize(("cell", "activation"), CELLS)
@given(data=st.data())
@settings(max_examples=20)
def test_the_written_out_derivative_is_that_of_the_plain_recurrence(cell, activation, data):
    # Few shapes, because each is compiled for; over several blocks of steps, the last perhaps partial, or part of one.
    rows, hidden, features, width = data.draw(st.sampled_from([(6, 4, 3, 20), (1, 1, 1, 1), (3, 6, 2, 9)]))
    lengths = np.array(data.draw(st.lists(st.integers(0, width), min_size=rows, max_size=rows)), np.int32)
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    arguments = [random.normal(size=(rows, width, features)).astype(np.float32)]
    # Small enough for states that do not grow from step to step, whose sines would be a matter of rounding.
    arguments += [0.5 * weights / np.float32(hidden**0.5) for weights in weights_of(random, cell, features, hidden)]
    dropout = data.draw(st.sampled_from([0.0, 0.5]))
    mask = np.asarray(dropout_mask(jax.random.key(0), (rows, hidden), dropout))
    real = np.arange(width)[None, :] < lengths[:, None]
    weights = random.normal(size=(rows, width, hidden)), random.normal(size=(rows, hidden))

    weights = [of_sum.astype(np.float32) for of_sum in weights]
    both = [
        _weighted_sum(run, cell, activation)(arguments, lengths, mask, real, weights)
        for run in (plain_recurrence, run_recurrence)
    ]
    for expected, found in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(expected).max()))
    assert (np.asarray(both[1][1][0])[~real] == 0).all()


@pytest.mark.accelerator
@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_a_derivative_under_vmap_is_that_of_a_loop(cell, activation):
    """The members' longest texts differ, and so would the turns of their loops."""
    random = np.random.default_rng(0)
    members = [
        (
            random.normal(size=(3, 20, 2)).astype(np.float32),
            np.array(lengths, np.int32),
            *weights_of(random, cell, 2, 4),
        )
        for lengths in ((3, 0, 5), (20, 1, 9), (0, 0, 0))
    ]

    def loss(inputs, lengths, *weights):
        states, last = run_recurrence(cell, activation, inputs, lengths, Weights(*weights), np.ones((1, 1), np.float32))
        real = jnp.arange(20)[None, :] < lengths[:, None]
        return jnp.sum(jnp.where(real[:, :, None], jnp.sin(states), 0)) + jnp.sum(jnp.cos(last))

    grad = jax.grad(loss, argnums=(0, 2, 3, 4))
    loop = [jax.jit(grad)(*member) for member in members]
    stacked = [np.stack(arrays) for arrays in zip(*members, strict=True)]
    for found, expected in zip(jax.jit(jax.vmap(grad))(*stacked), zip(*loop, strict=True), strict=True):
        np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.accelerator
def test_time_ends_with_the_longest_text():
    """Inputs behind the longest text are never read: not even a NaN there does harm."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(2, 64, 3)).astype(np.float32)
    weights, lengths = weights_of(random, "lstm", 3, 4), np.array([5, 2], np.int32)
    expected = plain_recurrence("lstm", "tanh", inputs, lengths, weights, np.ones((1, 1), np.float32))[1]
    inputs[:, 5:] = np.nan
    found = run_recurrence("lstm", "tanh", inputs, lengths, weights, np.ones((1, 1), np.float32))[1]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.extra
def test_kernels_choose_how_a_module_computes_and_change_no_parameter(two_devices):
    """The plain reference, and rows split over devices; 5 rows cannot be split evenly and stay together."""
    mesh = jax.make_mesh((2,), (BATCH,), (AxisType.Auto,), devices=jax.devices()[:2])
    settings = settings_for("recurrent.Recurrent", cell="gru", bidirectional=True, dropout=0.5)
    ids, lengths = np.concatenate([IDS, IDS[:1]]), np.concatenate([LENGTHS, LENGTHS[:1]])
    values = []
    for kernels in (Kernels(), Kernels(plain=True), Kernels(mesh=mesh)):
        module = build(settings, vocab_size=VOCAB_SIZE, num_outputs=1, kernels=kernels)
        init = jax.jit(functools.partial(module.init, deterministic=True))
        variables = init(jax.random.key(0), ids, lengths)

        def loss(params, ids, lengths, module=module):
            rngs = {"dropout": jax.random.key(1)}
            logits = module.apply({"params": params}, ids, lengths, deterministic=False, rngs=rngs)
            return jnp.sum(jnp.sin(logits))

        loss_and_gradient = jax.jit(jax.value_and_grad(loss))
        values.append([loss_and_gradient(variables["params"], ids[:rows], lengths[:rows]) for rows in (5, 6)])
        text = loss_and_gradient.lower(variables["params"], ids, lengths).as_text()
        assert ("shard" in text) == (kernels.mesh is not None)
    for other in values[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), other, values[0])


def made(outputs=1, **settings):
    """A module and the variables that it begins with."""
    module = build(settings_for("recurrent.Recurrent", **settings), vocab_size=VOCAB_SIZE, num_outputs=outputs)
    return module, jax.jit(functools.partial(module.init, deterministic=True))(jax.random.key(0), IDS, LENGTHS)


def seen_by_the_layers(**settings):
    """The inputs and recurrent masks of every recurrent layer in one forward pass."""
    module, variables = made(**settings)

    @jax.jit
    def forward(variables):
        seen = []

        def record(call, arguments, keywords, context):
            if isinstance(context.module, RecurrentLayer) and context.method_name == "__call__":
                seen.append((arguments[0], arguments[2]))
            return call(*arguments, **keywords)

        with nn.intercept_methods(record):
            module.apply(variables, IDS, LENGTHS, deterministic=False, rngs={"dropout": jax.random.key(3)})
        return seen

    return jax.tree.map(np.asarray, forward(variables))


def test_variational_dropout_draws_one_mask_a_text():
    inputs, mask = seen_by_the_layers(dropout=0.5)[0]
    dropped = inputs == 0
    assert 0.3 < dropped.mean() < 0.7
    assert (dropped == dropped[:, :1]).all()  # the same features at every step
    assert not (dropped == dropped[:1]).all()  # others in every text
    assert mask.shape == (5, 128)
    assert set(np.unique(mask)) == {0.0, 2.0}
    assert not (mask == mask[:1]).all()


def test_each_layer_and_direction_has_masks_of_its_own():
    seen = seen_by_the_layers(dropout=0.5, layers=2, bidirectional=True)
    assert len(seen) == 4
    masks = [mask for _, mask in seen]
    assert all((masks[i] != masks[j]).any() for i in range(4) for j in range(i))


def test_naive_dropout_draws_a_mask_a_step_and_none_for_the_state():
    inputs, mask = seen_by_the_layers(dropout=0.5, dropout_kind="naive")[0]
    dropped = inputs == 0
    assert 0.3 < dropped.mean() < 0.7
    assert not (dropped == dropped[:, :1]).all()
    assert mask is None


def test_word_dropout_drops_whole_types():
    mask = np.asarray(drop_word_types(jax.random.key(0), IDS, 0.5))
    assert set(np.unique(mask)) == {0.0, 2.0}
    for row in range(len(IDS)):
        for word in set(IDS[row]):
            assert len(set(mask[row, IDS[row] == word])) == 1
    rates = [np.mean(np.asarray(drop_word_types(jax.random.key(k), IDS, 0.3)) == 0) for k in range(40)]
    assert np.mean(rates) == pytest.approx(0.3, abs=0.03)
    inputs, _ = seen_by_the_layers(word_dropout=0.5)[0]
    gone = (inputs == 0).all(axis=-1)
    assert 0.1 < gone.mean() < 0.9
    assert (gone == (inputs == 0).any(axis=-1)).all()


@pytest.mark.parametrize("shape", [(200, 200), (3, 40, 301), (20_001,)])
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.9])
def test_masks_leave_the_expectation_and_no_pair_of_neighbours_hangs_together(shape, rate):
    mask = np.asarray(dropout_mask(jax.random.key(0), shape, rate))
    assert mask.shape == shape
    kept = mask.reshape(-1) > 0
    deviation = np.sqrt(rate * (1 - rate) / len(kept))
    assert kept.mean() == pytest.approx(1 - rate, abs=5 * deviation)
    np.testing.assert_allclose(mask.reshape(-1)[kept], 1 / (1 - rate), rtol=2e-4)
    both = kept[:-1] & kept[1:]
    assert both.mean() == pytest.approx((1 - rate) ** 2, abs=8 * deviation)


@pytest.mark.parametrize("settings", [{"dropout": 0.4, "word_dropout": 0.2}, {"dropout": 0.4, "dropout_kind": "naive"}])
def test_dropout_is_off_when_deterministic_unless_sampled(settings):
    variables = jax.tree.map(lambda leaf: leaf * 8, made()[1])

    def logits(**more):
        module = build(settings_for("recurrent.Recurrent", **settings | more), vocab_size=VOCAB_SIZE, num_outputs=1)
        return np.asarray(jax.jit(functools.partial(module.apply, deterministic=True))(variables, IDS, LENGTHS))

    plain = logits(dropout=0.0, word_dropout=0.0)
    np.testing.assert_array_equal(logits(), plain)
    sampled = logits(monte_carlo=4)
    assert np.abs(sampled - plain).max() > 1e-3
    np.testing.assert_array_equal(sampled, logits(monte_carlo=4))


@pytest.mark.parametrize("outputs", [1, pytest.param(3, marks=pytest.mark.extra)])
@pytest.mark.parametrize("settings", [{"dropout": 0.4, "word_dropout": 0.2}, {"dropout": 0.4, "dropout_kind": "naive"}])
def test_a_sampled_prediction_does_not_depend_on_its_batch(settings, outputs):
    module, variables = made(outputs, **settings, monte_carlo=3, readout="max")
    apply = jax.jit(functools.partial(module.apply, deterministic=True))
    together = apply(variables, IDS, LENGTHS)
    np.testing.assert_allclose(apply(variables, np.pad(IDS, ((0, 0), (0, 4))), LENGTHS), together, atol=1e-6)
    for row in range(len(IDS)):
        alone = apply(variables, IDS[row : row + 1], LENGTHS[row : row + 1])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6)


def test_samples_average_probabilities():
    random = np.random.default_rng(0)
    for classes in (1, 3):
        samples = jnp.asarray(random.normal(0, 3, (4, 5, classes)).astype(np.float32))
        expected = np.mean([np.asarray(probabilities(sample)) for sample in samples], axis=0)
        np.testing.assert_allclose(probabilities(average_probabilities(samples)), expected, atol=1e-6)


def test_readouts_against_numpy():
    random = np.random.default_rng(0)
    states = random.normal(size=(5, 9, 4)).astype(np.float32)
    rows = [states[i, :length] for i, length in enumerate(LENGTHS)]
    mean = [row.mean(axis=0) if len(row) else np.zeros(4) for row in rows]
    largest = [row.max(axis=0) if len(row) else np.zeros(4) for row in rows]
    np.testing.assert_allclose(mean_over_time(states, LENGTHS), mean, atol=1e-6)
    np.testing.assert_allclose(max_over_time(states, LENGTHS), largest, atol=1e-6)
    (pooled, weights), variables = AttentivePooling().init_with_output(jax.random.key(0), states, LENGTHS)
    p = jax.tree.map(np.asarray, variables["params"])
    for i, row in enumerate(rows):
        scores = np.tanh(row @ p["hidden"]["kernel"] + p["hidden"]["bias"]) @ p["context"]["kernel"][:, 0]
        a = np.exp(scores) / np.exp(scores).sum() if len(row) else np.zeros(0)
        np.testing.assert_allclose(weights[i, : len(row)], a, atol=1e-5)
        np.testing.assert_allclose(pooled[i], a @ row if len(row) else np.zeros(4), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("cell", cell) for cell in ("rnn", "gru")),
        *(("readout", readout) for readout in ("mean", "max", "attention")),
        ("activation", "sigmoid"),
        ("layers", 2),
        ("bidirectional", True),
    ],
)
def test_every_setting_changes_the_model(name, value):
    def logits(**settings):
        module, variables = made(**settings)
        return jax.jit(functools.partial(module.apply, deterministic=True))(variables, IDS, LENGTHS)

    assert np.abs(logits() - logits(**{name: value})).max() > 1e-6
