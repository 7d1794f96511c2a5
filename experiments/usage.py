"""What `--help` prints: what a program does, its flags, and the settings of what it trains."""

import dataclasses
import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags

from experiments.variants import every_variant, load_config
from research.settings import Config, Pretraining, leaves, names_read
from research.settings_validation import choices_of


def print_help(program: ModuleType, trains: type | None) -> None:
    """Print the help of a program; with `--config` or `--variants` beside `--help`, also the settings of these models.

    Args:
      program: its module.
      trains: the class of its training settings; None if it has no settings.

    Raises:
      UserError: there is no such variant.
    """
    print((program.__doc__ or "").strip())
    _, _, flag_list = flags.FLAGS.module_help(program).partition(":\n")  # without the name of the module
    if flag_list:
        print(f"\nflags:\n{flag_list}")
    if trains is None:
        return
    variants = _named_variants()
    if not variants and trains is not Pretraining:
        own_flag = "config=lstm" if "config" in flags.FLAGS else "variants=lstm,cnn"
        example = f"./launch.sh {program_name()} --{own_flag} --help"
        _print_settings(f"settings of all variants (also those of a model: {example})", _lines(Config(model=None)))
        return
    lines_of = {name: _lines(_load(name, trains)) for name in variants or [flags.FLAGS["config"].default]}
    shared = [line for line in next(iter(lines_of.values())) if all(line in lines for lines in lines_of.values())]
    if len(lines_of) > 1:
        _print_settings(f"settings of {', '.join(lines_of)}", shared)
    for name, lines in lines_of.items():
        own = [line for line in lines if line not in shared] if len(lines_of) > 1 else lines
        _print_settings(f"settings of {name}{' beside these' if len(lines_of) > 1 else ''}", own)


def program_name() -> str:
    """Return the name of this program as `launch.sh` takes it."""
    return Path(sys.argv[0]).stem


def _named_variants() -> list[str]:
    """Return the variants that the command line names with `--config` or `--variants`."""
    for argument, following in itertools.pairwise([*sys.argv, ""]):
        flag, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and flag in ("config", "variants"):
            names = (value if equals else following).split(",")
            return every_variant() if names == ["all"] else [name for name in names if name]
    return []


def _load(name: str, trains: type) -> Config:
    """Return the config of a variant as the program trains it."""
    if trains is not Pretraining:
        return load_config(name)
    from research.pretraining.preparation import for_pretraining

    return load_config(name, (), for_pretraining)


def _lines(config: Config) -> list[str]:
    """Return a line about each setting of a variant; without a model, those that all variants have."""
    read = names_read(config) if config.model is not None else None
    return [
        f"--config.{name}={_as_typed(value)}{_meaning(field)}"
        + ("" if read is None or name in read else " No effect with these settings.")
        for name, field, value in leaves(config)
        if name != "model"
    ]


def _print_settings(title: str, lines: list[str]) -> None:
    print(f"\n{title}:")
    for line in lines:
        print(flags.text_wrap(line, indent="      ", firstline_indent="  "))


def _as_typed(value: Any) -> str:
    """Return a value as a user types it: `true`, `(3,4,5)`."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace(" ", "") if isinstance(value, tuple) else str(value)


def _meaning(field: dataclasses.Field) -> str:
    """Return what a setting is and which values it may have."""
    about = field.metadata
    if choices := choices_of(field):
        values = f"one of {', '.join(choices)}"
    else:
        low, high = about.get("low"), about.get("high")
        limits = [
            f"{word} {_number(limit)}" for word, limit in (("at least", low), ("at most", high)) if limit is not None
        ]
        values = ", ".join(filter(None, [_kind(field.default), " and ".join(limits)]))
    meaning = f": {about['what']}" if about.get("what") else ""
    return f"{meaning} ({values})"


def _number(limit: float) -> str:
    return f"{int(limit):,}" if float(limit).is_integer() else f"{limit:g}"


def _kind(default: Any) -> str:
    """Return in words the type of a setting with this default."""
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, tuple):
        return f"{_kind(default[0])}s with commas"
    return {int: "integer", float: "number"}.get(type(default), "name or path")
