"""The small model that tests train: the article's LSTM in few numbers, for few epochs."""

from experiments.variants import load_config

SIZES = ("--config.model.embedding_size=8", "--config.model.hidden_size=16", "--config.training.epochs=3")


def small_lstm(*overrides):
    """Its config, with `--config.FIELD=VALUE` on top."""
    return load_config("lstm", [*SIZES, *overrides])
