"""Optimizers and schedules: a contract that all optimizers keep, and each one against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.variants import load_config
from research.errors import UserError
from research.settings import Optimizer
from research.training.optimizers import layer_depths, limit_columns, make_optimizer, rate_factor, rates_of
from research.training.programs import Programs


class Layered:
    """Stands for a module with stacked layers."""

    layer_pattern = r"block_(\d+)"


NAMES = Optimizer.__dataclass_fields__["name"].metadata["choices"]
PARAMS = {"matrix": jnp.array([[1.0, -2.0], [3.0, 4.0]]), "bias": jnp.array([1.0, -1.0])}
GRADIENTS = {"matrix": jnp.array([[0.1, 0.2], [-0.3, 0.4]]), "bias": jnp.array([0.5, -0.5])}

BEST = {"matrix": jnp.array([[0.5, 1.0], [-1.0, 2.0]]), "bias": jnp.array([-1.0, 0.5])}


def distance(params):
    """Return a quadratic loss that is steeper in some directions than in others."""
    return sum(jnp.sum((1 + jnp.arange(a.size).reshape(a.shape)) * jnp.square(a - BEST[n])) for n, a in params.items())


def first_update(settings, gradients, params):
    optimizer = make_optimizer(settings, Layered)
    inputs = {"rates": rates_of(settings), "step": jnp.int32(0), "num_steps": jnp.float32(1.0)}
    return optimizer.update(gradients, optimizer.init(params), params, **inputs)[0]


def steps(settings, count=3):
    optimizer, params = make_optimizer(settings, Layered), PARAMS
    state = optimizer.init(params)
    for step in range(count):
        inputs = {"rates": rates_of(settings), "step": jnp.int32(step), "num_steps": jnp.float32(count)}
        updates, state = optimizer.update(GRADIENTS, state, params, **inputs)
        params = optax.apply_updates(params, updates)
    return params


def reference_steps(optimizer, count=3):
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(count):
        updates, state = optimizer.update(GRADIENTS, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_finds_the_minimum_with_one_compilation(name):
    rate = {"sgd": 0.02, "adadelta": 20.0, "lbfgs": 1e-3}.get(name, 0.05)
    schedule = "constant" if name == "lbfgs" else "linear"
    settings, traced, count = Optimizer(name=name, learning_rate=rate, schedule=schedule), [], 400
    optimizer = make_optimizer(settings, Layered)

    @jax.jit
    def step(params, state, number):
        traced.append(1)
        value, gradients = jax.value_and_grad(distance)(params)
        of_lbfgs = {"value": value, "grad": gradients, "value_fn": distance}
        inputs = {"rates": rates_of(settings), "step": number, "num_steps": jnp.float32(count), **of_lbfgs}
        updates, state = optimizer.update(gradients, state, params, **inputs)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, jax.tree.map(np.asarray, optimizer.init(PARAMS))  # without JAX's weak types
    types = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
    for number in range(count):
        params, state = step(params, state, jnp.int32(number))
    assert float(distance(params)) < 1e-3 < float(distance(PARAMS))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == types
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    assert len(traced) == 1


def test_the_schedule_is_part_of_the_optimizer():
    """A step of SGD is the gradient times the rate."""
    settings = Optimizer(name="sgd", learning_rate=0.1, schedule="linear")
    moved = jax.tree.map(lambda a, b: a - b, PARAMS, steps(settings, count=4))  # at 1, 3/4, 1/2 and 1/4
    for name, gradient in GRADIENTS.items():
        np.testing.assert_allclose(moved[name], 0.25 * gradient, rtol=1e-5)


def matrices(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        (Optimizer(name="sgd", learning_rate=0.1), optax.sgd(0.1)),
        (Optimizer(name="sgd", learning_rate=0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)),
        (Optimizer(name="adam", learning_rate=0.1), optax.adam(0.1, eps=1e-7)),
        (
            Optimizer(name="adamw", learning_rate=0.1, weight_decay=0.2),
            optax.adamw(0.1, eps=1e-7, weight_decay=0.2, mask=matrices),
        ),
        (Optimizer(name="adadelta", learning_rate=1.0), optax.adadelta(1.0, rho=0.95, eps=1e-6)),
        (
            Optimizer(name="lion", learning_rate=0.1, weight_decay=0.2),
            optax.lion(0.1, weight_decay=0.2, mask=matrices),
        ),
    ],
)
def test_optimizers_are_those_of_optax(settings, reference):
    for one, other in zip(jax.tree.leaves(steps(settings)), jax.tree.leaves(reference_steps(reference)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "lbfgs"])
def test_weight_decay_shrinks_matrices_and_not_biases(name):
    """Without a gradient, decay moves a matrix towards 0; with a wrong sign it would grow."""
    settings = Optimizer(name=name, learning_rate=0.1, weight_decay=0.5)
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    after = optax.apply_updates(PARAMS, first_update(settings, zeros, PARAMS))
    assert (jnp.abs(after["matrix"]) < jnp.abs(PARAMS["matrix"])).all()
    np.testing.assert_array_equal(after["bias"], PARAMS["bias"])


def test_a_bias_of_several_axes_does_not_decay():
    """The biases of the GRU and of attention have two axes."""
    settings, params = Optimizer(weight_decay=0.5), {"gru": {"bias": jnp.ones((2, 3)), "kernel": jnp.ones((2, 3))}}
    updates = first_update(settings, jax.tree.map(jnp.zeros_like, params), params)
    assert (updates["gru"]["kernel"] < 0).all()
    assert (updates["gru"]["bias"] == 0).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lstm", {"embedding": 0, "forwards_0": 1, "head": 2}),
        ("mlp:dan", {"embedding": 0, "hidden_0": 1, "hidden_1": 2, "head": 3}),
        ("transformer:pre", {"embedding": 0, "block_0": 1, "block_1": 2, "norm": 3, "head": 3}),
        (
            "bert:tiny",
            {"embedding_position": 0, "embedding_norm": 0, "block_0": 1, "block_1": 2, "pooler": 3, "head": 3},
        ),
        ("luong:general", {"embedding": 0, "lstm": 1, "head": 2}),
        ("memory", {"embedding": 0, "lstm": 1, "head": 2}),
        ("article", {"embedding": 0, "lstm": 1, "head": 2}),
        ("deep_cnn:dpcnn", {"embedding": 0, "first": 1, "stage_0_block_0_norm_0": 1, "head": 5}),
        ("cnn", {"embedding": 0, "width_3": 1, "width_5": 1, "head": 1}),
        ("linear", {"kernel": 1, "bias": 1}),
    ],
)
def test_layers_are_counted_from_the_input(name, expected):
    programs = Programs(load_config(name), 2)
    ids, lengths = np.zeros((1, 8), np.int32), np.ones(1, np.int32)
    params = programs.init(jax.random.key(0), ids, lengths)["params"]
    depth_of = {}
    for path, depth in jax.tree_util.tree_leaves_with_path(layer_depths(params, programs.module)):
        depth_of |= {key.key: depth for key in path}
    assert {name: depth_of[name] for name in expected} == expected


LAYERS = {"embedding": jnp.ones((2, 2)), "block_0": jnp.ones(2), "block_1": jnp.ones((2, 2)), "head": jnp.ones(2)}


def move(settings):
    """Return how far a gradient of ones moves each layer in the first step."""
    updates = first_update(settings, jax.tree.map(jnp.ones_like, LAYERS), LAYERS)
    return {name: float(-update.mean()) for name, update in updates.items()}


def test_layer_decay_lowers_the_rate_of_each_lower_layer():
    moves = move(Optimizer(name="sgd", learning_rate=1.0, layer_decay=0.5))
    assert moves == {"embedding": 0.125, "block_0": 0.25, "block_1": 0.5, "head": 1.0}


def test_frozen_layers_do_not_move_and_do_not_count_in_the_norm_that_is_clipped():
    settings = Optimizer(name="sgd", learning_rate=1.0, weight_decay=0.5, clip_norm=1.0, frozen=2, layer_decay=0.5)
    moves = move(settings)
    assert moves["embedding"] == moves["block_0"] == 0
    clipped = 1 / optax.tree.norm({name: LAYERS[name] for name in ("block_1", "head")})
    assert moves["head"] == pytest.approx(float(clipped))
    assert moves["block_1"] == pytest.approx(0.5 * float(clipped + 0.5))
    with pytest.raises(UserError, match="frozen is 4, expected at most 3"):
        move(Optimizer(frozen=4))


def test_clipping_limits_the_norm_of_the_global_gradient():
    after = steps(Optimizer(name="sgd", learning_rate=1.0, clip_norm=0.01), count=1)
    moved = jax.tree.map(lambda a, b: a - b, after, PARAMS)
    assert optax.tree.norm(moved) == pytest.approx(0.01, rel=1e-4)


def factors(settings, count):
    return [float(rate_factor(settings, jnp.int32(step), jnp.float32(count))) for step in range(count)]


@given(
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    warmup=st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.5, 0.9]),
    count=st.integers(1, 40),
)
def test_schedules_are_those_of_optax(schedule, warmup, count):
    warm = int(warmup * count + 1e-6)
    left = count - warm
    falls = {
        "constant": optax.constant_schedule(1.0),
        "linear": optax.linear_schedule(1.0, 0.0, left),
        "cosine": optax.cosine_decay_schedule(1.0, left),
    }[schedule]
    expected = optax.join_schedules([optax.linear_schedule(0.0, 1.0, max(warm, 1)), falls], [warm])
    shares = factors(Optimizer(schedule=schedule, warmup=warmup), count)
    np.testing.assert_allclose(shares, [float(expected(step)) for step in range(count)], atol=1e-6)
    assert max(shares) > 0  # however few the steps, one of them changes the parameters


def test_rsqrt_falls_with_the_root_of_the_steps_after_the_warmup():
    settings = Optimizer(schedule="rsqrt", warmup=0.25)
    np.testing.assert_allclose(factors(settings, 4), [0, 1, 0.7071068, 0.5773503], atol=1e-6)
    np.testing.assert_allclose(factors(settings, 2), [1, 1], atol=1e-6)  # too few to warm up


@pytest.mark.parametrize("schedule", ["linear", "cosine", "rsqrt"])
def test_a_run_of_one_step_learns_with_any_schedule(schedule):
    settings = Optimizer(schedule=schedule, warmup=0.1)
    updates = first_update(settings, GRADIENTS, PARAMS)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(updates))


def test_columns_of_the_head_are_scaled_down_to_the_maximum_norm():
    params = {"head": {"kernel": jnp.array([[3.0, 0.3], [4.0, 0.4]]), "bias": jnp.ones(2)}, "x": jnp.ones(1)}
    limited = limit_columns(params, 2.0)
    np.testing.assert_allclose(jnp.linalg.norm(limited["head"]["kernel"], axis=0), [2.0, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(limited["head"]["bias"], params["head"]["bias"])
