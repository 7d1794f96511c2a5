"""Very deep convolutional networks over text: small filters are stacked, as in VGG.

*vdcnn* (Conneau et al. 2017): a convolution of width 3, then stages of blocks. A block has two convolutions of width 3
and a shortcut. Between stages, max-pooling halves the length and the number of features doubles. The paper ends with
k-max pooling, k = 8, and a classifier of three layers. Here k = 1, and the classifier is one layer.
*dpcnn* (Johnson & Zhang 2017): every stage has the same number of features. Its blocks add two convolutions, each after
its activation.

The papers normalise over the batch or not at all. Here layer normalisation treats each position by itself. Batch
normalisation would let the rows of a batch, and padding, change each other's predictions.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.layers.convolution import Convolution
from research.models.layers.dropout import Dropout
from research.models.layers.embedding import embedding, head
from research.models.layers.masks import masked
from research.models.layers.pooling import max_over_time
from research.settings import setting


def halve(states: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pool the real positions by their maximum, width 3 and stride 2.

    Args:
      states: float [B, L, F]; values at padding are not read.
      lengths: int32 [B].

    Returns:
      `(states [B, ceil(L / 2), F], lengths ceil(length / 2))`, zero at padding.
    """
    lowest = jnp.finfo(states.dtype).min
    padded = jnp.pad(masked(states, lengths, lowest), ((0, 0), (1, 1), (0, 0)), constant_values=lowest)
    count = (states.shape[1] + 1) // 2
    left, centre, right = (padded[:, k : k + 2 * count - 1 : 2] for k in range(3))
    pooled = jnp.maximum(jnp.maximum(left, centre), right)
    lengths = (lengths + 1) // 2
    return masked(pooled, lengths), lengths


class DeepCNN(nn.Module):
    """`(token_ids int32 [B, L], lengths int32 [B]) -> logits float32 [B, C]`."""

    only_looks_up = True
    layer_pattern = r"stage_(\d+)|first$"

    vocab_size: int
    num_outputs: int
    kind: str = setting(
        "vdcnn", "architecture: VDCNN (Conneau et al. 2017) or DPCNN (Johnson & Zhang 2017)", choices=("vdcnn", "dpcnn")
    )
    embedding_size: int = setting(64, "size of the word vectors", low=1)
    features: int = setting(64, "number of filters: of the first stage in vdcnn, of all stages in dpcnn", low=1)
    stages: tuple[int, ...] = setting(
        (1, 1, 1, 1), "number of convolution blocks in each stage; pooling halves the length between stages", low=1
    )
    dropout: float = setting(0.0, "dropout rate before the classifier", low=0.0, high=0.95)

    @nn.compact
    def __call__(self, token_ids: jax.Array, lengths: jax.Array, *, deterministic: bool) -> jax.Array:
        states = masked(embedding(self.vocab_size, self.embedding_size)(token_ids), lengths)
        states = masked(Convolution(self.features, 3, name="first")(states), lengths)
        for stage, blocks in enumerate(self.stages):
            features = self.features * (2**stage if self.kind == "vdcnn" else 1)
            if stage:
                states, lengths = halve(states, lengths)
            for block in range(blocks):
                name = f"stage_{stage}_block_{block}"
                shortcut = states
                if features != states.shape[-1]:
                    shortcut = masked(nn.Dense(features, use_bias=False, name=f"{name}_shortcut")(states), lengths)
                for i in range(2):
                    convolution = Convolution(features, 3, name=f"{name}_convolution_{i}")
                    normalise = nn.LayerNorm(name=f"{name}_norm_{i}")
                    if self.kind == "vdcnn":
                        states = masked(nn.relu(normalise(convolution(states))), lengths)
                    else:
                        states = masked(convolution(masked(nn.relu(normalise(states)), lengths)), lengths)
                states = states + shortcut
        pooled = max_over_time(states, lengths)
        return head(self.num_outputs)(Dropout(self.dropout)(pooled, deterministic=deterministic))
