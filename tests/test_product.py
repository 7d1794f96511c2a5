"""`kernels/dense_product.py` against JAX's own product and derivative."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.models.kernels.dense_product import dot_general


@pytest.mark.parametrize("features", [(3, 2), (2, 1)])  # at least as many as the inputs, and fewer
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("rows", [(3,), (2, 5), (0, 5)])
def test_a_dense_layer_with_it_has_the_same_values_and_gradients(rows, axes, features):
    inputs = jax.random.normal(jax.random.key(0), (*rows, 4, 6)[: len(rows) + 2])
    axis = tuple(range(-axes, 0))
    reference, layer = (nn.DenseGeneral(features, axis=axis, dot_general=dot) for dot in (None, dot_general))
    variables = reference.init(jax.random.key(1), inputs)

    def gradients_and_values(layer):
        def loss(variables, inputs):
            values = layer.apply(variables, inputs)
            return jnp.sum(jnp.sin(values)), values

        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(variables, inputs)

    expected = gradients_and_values(reference)
    assert expected[1].shape == (*inputs.shape[: inputs.ndim - axes], *features)
    assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(assert_close, gradients_and_values(layer), expected)


def test_vmap_computes_each_member():
    inputs, kernels = jax.random.normal(jax.random.key(0), (4, 5, 6)), jax.random.normal(jax.random.key(1), (4, 6, 3))

    def gradient(inputs, kernel):
        return jax.grad(lambda k: jnp.sum(jnp.square(dot_general(inputs, k, (((1,), (0,)), ((), ()))))))(kernel)

    expected = np.stack([gradient(*member) for member in zip(inputs, kernels, strict=True)])
    np.testing.assert_allclose(jax.vmap(gradient)(inputs, kernels), expected, rtol=1e-5, atol=1e-5)
