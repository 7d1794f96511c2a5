"""The counted floating-point operations of a program equal the formulas."""

import jax
import jax.numpy as jnp
import numpy as np

from research.models import build, settings_for
from research.models.kernels.options import Kernels
from research.runs.flops import count_flops


def test_products_loops_and_functions_are_counted():
    x, w = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
    assert count_flops(lambda x, w: x @ w, x, w) == 2 * 3 * 4 * 5
    assert count_flops(lambda x, w: jnp.tanh(x @ w) + 1.0, x, w) == 120 + 15 + 15
    assert count_flops(lambda x: jnp.sum(x), x) == 12
    assert count_flops(lambda n: n + 1, 3) == 0  # integers are free
    loop = jax.jit(lambda x, w: jax.lax.scan(lambda c, _: (c + x @ w, None), jnp.zeros((3, 5)), None, length=7)[0])
    assert count_flops(loop, x, w) == 7 * (120 + 15)


def test_an_lstm_costs_little_more_than_its_products():
    module = build(settings_for("recurrent.Recurrent"), vocab_size=50, num_outputs=1, kernels=Kernels(plain=True))
    ids, lengths = np.ones((2, 30), np.int32), np.full(2, 30, np.int32)
    variables = module.init(jax.random.key(0), ids, lengths, deterministic=True)
    flops = count_flops(lambda v: module.apply(v, ids, lengths, deterministic=True), variables)
    products = 2 * 30 * 2 * (64 + 128) * 512 + 2 * 2 * 128
    assert products < flops < 1.05 * products
