"""Small settings for pre-training that tests share."""

from experiments.variants import load_config
from research.data.word_pieces import Special
from research.pretraining.preparation import for_pretraining

SPECIAL = Special(start=2, end=3, mask=4)
NUM_IDS = 300  # token ids in use, special tokens included
TEXTS = ["One two. Three four five! Six?", "a b c d e f g", "Line one\nline two<br /><br />three", "x", "好的。不好。"]
SIZES = {
    "bert:tiny": (
        *("model.hidden_size=16", "model.feed_forward=32", "model.layers=1"),
        *("data.max_length=24", f"data.vocab_size={NUM_IDS}"),
    ),
    "lstm": ("model.embedding_size=8", "model.hidden_size=16", "data.max_length=24", f"data.vocab_size={NUM_IDS}"),
}


def flags(*overrides):
    """Return overrides like `data.max_length=24` as flags."""
    return [f"--config.{override}" for override in overrides]


def small_config(variant, *overrides):
    """Return the settings to pre-train a small variant."""
    return load_config(variant, flags(*SIZES[variant], *overrides), for_pretraining)
