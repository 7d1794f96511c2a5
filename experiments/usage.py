"""What `--help` prints: what a program does, its flags, and the settings of what it trains."""

import dataclasses
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from absl import flags

from research.settings import Config, Pretraining, leaves, names_read
from research.settings_validation import choices_of


def print_help(program: ModuleType, trains: type | None) -> None:
    """Print the help of a program; with `--config=VARIANT` beside `--help`, also the settings of its model.

    Args:
      program: its module.
      trains: the class of its training settings; None if it has no settings.
    """
    print((program.__doc__ or "").strip())
    _, _, flag_list = flags.FLAGS.module_help(program).partition(":\n")  # without the name of the module
    if flag_list:
        print(f"\nflags:\n{flag_list}")
    if trains is None:
        return
    variant = next((a.partition("=")[2] for a in sys.argv if a.startswith(("--config=", "-config="))), None)
    more = "" if variant else " (those of a model too: ./launch.sh train --config=VARIANT --help)"
    print(f"\nsettings{more}:")
    for name, field, value in _settings(trains, variant):
        line = f"--config.{name}={_as_typed(value)}{_meaning(field)}"
        print(flags.text_wrap(line, indent="      ", firstline_indent="  "))


def _settings(trains: type, variant: str | None) -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """Return the settings that a variant reads; without a variant those that all have, which needs no JAX."""
    if trains is Pretraining:
        from experiments.variants import load_config
        from research.pretraining.preparation import for_pretraining

        return leaves(load_config(variant or flags.FLAGS["config"].default, (), for_pretraining))
    if variant:
        from experiments.variants import load_config

        config = load_config(variant)
        read = names_read(config)
        return (leaf for leaf in leaves(config) if leaf[0] in read)
    return (leaf for leaf in leaves(Config(model=None)) if leaf[0] != "model")


def _as_typed(value: Any) -> str:
    """Return a value as a user types it: `true`, `(3,4,5)`."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace(" ", "") if isinstance(value, tuple) else str(value)


def _meaning(field: dataclasses.Field) -> str:
    """Return what a setting is and which values it may have."""
    about = field.metadata
    limits = [f"{word} {about[key]}" for key, word in (("low", "at least"), ("high", "at most")) if about.get(key)]
    if choices := choices_of(field):
        limits = [f"one of {', '.join(choices)}"]
    meaning = f": {about['what']}" if about.get("what") else ""
    return meaning + (f" ({', '.join(limits)})" if limits else "")
