"""The product of dense layers against JAX's own derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.models.kernels.dense_product import dot_general


@pytest.mark.parametrize("features", [(3, 2), (2, 1)])  # as many as the inputs and more, and fewer
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("rows", [(3,), (2, 5), (0, 5)])
def test_a_dense_layer_with_it_has_the_same_values_and_gradients(rows, axes, features):
    inputs = jax.random.normal(jax.random.key(0), (*rows, 4, 6)[: len(rows) + 2])
    layers = [
        nn.DenseGeneral(features, axis=tuple(range(-axes, 0)), dot_general=given) for given in (None, dot_general)
    ]
    variables = layers[0].init(jax.random.key(1), inputs)

    def of(layer):
        def loss(variables, inputs):
            values = layer.apply(variables, inputs)
            return jnp.sum(jnp.sin(values)), values

        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(variables, inputs)

    plain, ours = map(of, layers)
    assert plain[1].shape == (*inputs.shape[: inputs.ndim - axes], *features)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), plain, ours)


def test_it_is_batched_by_vmap():
    inputs, kernels = jax.random.normal(jax.random.key(0), (4, 5, 6)), jax.random.normal(jax.random.key(1), (4, 6, 3))

    def gradient(inputs, kernel):
        return jax.grad(lambda k: jnp.sum(jnp.square(dot_general(inputs, k, (((1,), (0,)), ((), ()))))))(kernel)

    together = jax.vmap(gradient)(inputs, kernels)
    for inputs_of, kernel, found in zip(inputs, kernels, together, strict=True):
        np.testing.assert_allclose(gradient(inputs_of, kernel), found, rtol=1e-5, atol=1e-5)
