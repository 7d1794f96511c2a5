"""What `research.models` says of a module beside its settings: kernels, and the depth of its parameters."""

import functools

import jax
import numpy as np
import pytest

from experiments.variants import load_config
from research.models import build, layer_depth, load_module, settings_for, with_kernels
from research.models.article import pad_front
from research.models.kernels.options import Kernels
from tests.variant_cases import contract_variants

IDS, LENGTHS = np.full((2, 5), 3, np.int32), np.array([5, 2], np.int32)
PARTS = ("convolution", "norm")
LSTM = {"embedding": 0, "lstm": 1, "head": None}
# Module, settings that stack layers, and the depth of each of its parts; None is the head. A new one may be added.
DEPTHS = {
    "article.Article": ({}, LSTM),
    "bert.Bert": (
        {"layers": 2},
        {
            **dict.fromkeys(("embedding", "embedding_position", "embedding_segment", "embedding_norm"), 0),
            **{"block_0": 1, "block_1": 2, "pooler": None, "head": None},
        },
    ),
    "cnn.CNN": ({"widths": (2, 3)}, {"embedding": 0, "width_2": None, "width_3": None, "head": None}),
    "deep_cnn.DeepCNN": (
        {"stages": (2, 1), "features": 4},
        {
            **{"embedding": 0, "first": 1, "stage_1_block_0_shortcut": 2, "head": None},
            **{f"stage_0_block_{block}_{part}_{i}": 1 for block in (0, 1) for part in PARTS for i in (0, 1)},
            **{f"stage_1_block_0_{part}_{i}": 2 for part in PARTS for i in (0, 1)},
        },
    ),
    "linear.Linear": ({}, {"kernel": None, "bias": None}),
    "luong.Luong": ({}, {**LSTM, "attention": None}),
    "memory.Memory": ({}, {**LSTM, "keys": None, "values": None, "update": None}),
    "mlp.MLP": ({"layers": 2}, {"embedding": 0, "hidden_0": 1, "hidden_1": 2, "head": None}),
    "probe.Probe": ({}, {"head": None}),
    "recurrent.Recurrent": (
        {"layers": 2, "bidirectional": True, "readout": "attention"},
        {
            **{"embedding": 0, "forwards_0": 1, "backwards_0": 1, "forwards_1": 2, "backwards_1": 2},
            **{"pool": None, "head": None},
        },
    ),
    "transformer.Transformer": ({}, {"embedding": 0, "block_0": 1, "block_1": 2, "norm": None, "head": None}),
}


def depths_of(path, settings):
    """Return the depth of each part of a module."""
    module = build(settings_for(path, **settings), vocab_size=9, num_outputs=1)
    init = functools.partial(module.init, deterministic=True)
    params = jax.eval_shape(init, jax.random.key(0), IDS, LENGTHS)["params"]
    depths = {}
    for tree_path, _ in jax.tree_util.tree_leaves_with_path(params):
        names = [key.key for key in tree_path]
        depths[names[1] if names[0] == "encoder" else names[0]] = layer_depth(module, names)
    return depths


@pytest.mark.parametrize("path", DEPTHS)
def test_a_module_says_how_far_its_layers_are_from_the_input(path):
    settings, expected = DEPTHS[path]
    assert depths_of(path, settings) == expected


@pytest.mark.parametrize("path", sorted({load_config(name).model.module for name in contract_variants()}))
def test_a_layer_pattern_fits_the_names_of_the_layers(path):
    """It also holds for a new module, which `DEPTHS` does not list."""
    has_layers = any(depth for depth in depths_of(path, {}).values())
    assert has_layers == bool(getattr(load_module(path), "layer_pattern", None))


def test_kernels_are_no_setting_and_reach_the_modules_that_have_them():
    settings = settings_for("recurrent.Recurrent")
    assert not hasattr(settings, "kernels")
    plain = Kernels(plain=True)
    assert build(settings, vocab_size=9, num_outputs=1).kernels == Kernels()
    assert build(settings, vocab_size=9, num_outputs=1, kernels=plain).kernels == plain
    mlp = build(settings_for("mlp.MLP"), vocab_size=9, num_outputs=1, kernels=plain)
    assert with_kernels(mlp, plain) is mlp


def test_article_reads_padding_as_words():
    """As in the listing: row 0 of the embedding before a text, and the last tokens of a longer one."""
    ids = np.array([[5, 6, 7, 8], [5, 6, 9, 9], [9, 9, 9, 9]], np.int32)
    lengths = np.array([4, 2, 0], np.int32)
    assert np.asarray(pad_front(ids, lengths, 3)).tolist() == [[6, 7, 8], [0, 5, 6], [0, 0, 0]]
