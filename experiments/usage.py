"""What `--help` prints: what a program does, its flags, and the settings of what it trains."""

import dataclasses
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from research.settings import Config, Pretraining, leaves, names_read


def print_help(own: Sequence[flags.Flag], trains: type | None, argv: Sequence[str]) -> None:
    """Prints the help of the program that runs.

    Args:
      own: its flags.
      trains: the class of its training settings; None of one that trains nothing.
      argv: its arguments; where they name a variant by `--config`, the settings of its model are listed too.
    """
    print(f"{(sys.modules['__main__'].__doc__ or '').strip()}\n\nflags:")
    for flag in own:
        default = "" if flag.value in (None, "", [], False) else f" (default {flag.value})"
        print(f"  --{flag.name}: {flag.help}{default}")
    if trains is not None:
        named = next((argument.partition("=")[2] for argument in argv if re.match(r"--?config=", argument)), None)
        listed = [f"  --config.{n}={_shown(value)}{_meaning(field)}" for n, field, value in _settings(trains, named)]
        print(
            "\nsettings" + ("" if named else " (and those of a variant's model: train --config=VARIANT --help)") + ":"
        )
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
        print("\n".join(textwrap.fill(line, width, subsequent_indent="      ") for line in listed))


def _settings(trains: type, named: str | None) -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """Of a variant where one is named, those that it reads; those that all have come without JAX, which takes long."""
    if trains is Pretraining:
        from experiments.variants import load_config
        from research.pretraining.preparation import for_pretraining

        return leaves(load_config(named or flags.FLAGS["config"].value, (), for_pretraining))
    if named:
        from experiments.variants import load_config

        config = load_config(named)
        read = names_read(config)
        return (leaf for leaf in leaves(config) if leaf[0] in read)
    return (leaf for leaf in leaves(Config(model=None)) if leaf[0] != "model")


def _shown(value: Any) -> str:
    shown = str(value).replace(" ", "") if isinstance(value, tuple) else str(value)
    return shown.lower() if isinstance(value, bool) else shown


def _meaning(field: dataclasses.Field) -> str:
    """In words, where its name does not say it, with what it may be."""
    about = field.metadata
    limits = [f"{word} {about[key]}" for key, word in (("low", "at least"), ("high", "at most")) if about.get(key)]
    if choices := about.get("choices"):
        limits = [f"one of {', '.join(choices)}"]
    what = f": {about['what']}" if about.get("what") else ""
    return what + (f" ({', '.join(limits)})" if limits else "")
