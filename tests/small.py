"""A small LSTM that tests train for few epochs, and the files of its run that must not change."""

from experiments.variants import load_config
from research.runs import run_files

SIZES = ("--config.model.embedding_size=8", "--config.model.hidden_size=16", "--config.training.epochs=3")


def small_lstm(*overrides):
    """Return its config, with overrides `--config.FIELD=VALUE`."""
    return load_config("lstm", [*SIZES, *overrides])


def contents(folder):
    """Return the bytes of the files that are equal whenever the same run is trained."""
    names = (run_files.METRICS, run_files.PREDICTIONS, run_files.TOKENIZER, run_files.CONFIG)
    return {name: (folder / name).read_bytes() for name in names}
