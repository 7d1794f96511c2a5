"""The flag `--tensorboard` of programs that train: curves that TensorBoard shows while runs are trained."""

import contextlib
from pathlib import Path

from absl import flags

flags.disclaim_key_flags()  # the flags that are defined here belong to the program that asks for them


def define_tensorboard() -> None:
    """Define `--tensorboard`."""
    text = "Write live curves to tensorboard/ while training: tensorboard --logdir=WORKDIR shows them."
    flags.DEFINE_bool("tensorboard", False, text)


def live_curves(folder: Path, pattern: str = "") -> contextlib.AbstractContextManager[None]:
    """Return the context that writes live curves with `--tensorboard`, and does nothing without; see `live_events`."""
    if not flags.FLAGS.tensorboard:
        return contextlib.nullcontext()
    from research.reporting.tensorboard import live_events

    return live_events(folder, pattern)
