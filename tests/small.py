"""The small model that tests train, the article's LSTM in few numbers for few epochs; and what its run must be."""

from experiments.variants import load_config
from research.runs import run_files

SIZES = ("--config.model.embedding_size=8", "--config.model.hidden_size=16", "--config.training.epochs=3")


def small_lstm(*overrides):
    """Its config, with `--config.FIELD=VALUE` on top."""
    return load_config("lstm", [*SIZES, *overrides])


def contents(folder):
    """The bytes that must not differ between two makings of the same run."""
    names = (run_files.METRICS, run_files.PREDICTIONS, run_files.TOKENIZER, run_files.CONFIG)
    return {name: (folder / name).read_bytes() for name in names}
