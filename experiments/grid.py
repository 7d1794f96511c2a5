"""The variants of a comparison: each name under every combination of `--vary`, and without each of `--drop`."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.variants import (
    field_of,
    load_config,
    print_unread,
    print_without_effect,
)
from research.errors import UserError, expected
from research.runs.named_configs import is_folder_argument, split_name, variant_label
from research.settings import OFF, Config, leaves, names_read

if TYPE_CHECKING:  # imported where it is used, so that programs that compare nothing start without plots
    from research.comparison.plan import Variant


class _Factor(NamedTuple):
    """A setting to vary."""

    field: str
    values: list[str]


def expand(
    names: Sequence[str], overrides: Sequence[str], vary: Sequence[str], drop: Sequence[str] = ()
) -> list["Variant"]:
    """Return every variant under every combination of the values to vary.

    Args:
      names: names of variants.
      overrides: `--config.FIELD=VALUE`, applied to each variant.
      vary: each `FIELD=VALUE,VALUE...`. A variant takes the cross product of the fields that it has.
      drop: fields. Each variant also comes with one of its fields switched off, for each of them.

    Raises:
      UserError: as `load_config`; no variant has the field; two variants have the same settings.
    """
    factors = [_parse_factor(text) for text in vary]
    readers = _who_reads([*(factor.field for factor in factors), *drop], names, overrides)
    _require_all(overrides, names)
    variants, label_of = [], dict[str, str]()
    for name in names:
        own_factors = [factor for factor in factors if name in readers[factor.field]]
        own_drop = [field for field in drop if name in readers[field]]
        for variant in _combinations(name, overrides, own_factors, own_drop):
            same = label_of.setdefault(json.dumps(_settings_with_effect(variant.config)), variant.name)
            if same != variant.name:
                raise UserError(f"{same} and {variant.name} are the same settings, expected different ones")
            variants.append(variant)
    print_unread(overrides, {variant.name: variant.config for variant in variants})
    return variants


def _combinations(
    name: str, overrides: Sequence[str], factors: Sequence[_Factor], drop: Sequence[str]
) -> Iterator["Variant"]:
    """Yield one variant under every combination of values, whole and with each field of `drop` switched off."""
    from research.comparison.plan import Variant

    base, argument = split_name(name)
    label = variant_label(name)
    if is_folder_argument(name):
        argument = str(Path(argument).resolve())
        name = f"{base}:{argument}"
    source = name
    if Path(base).is_file():
        source = str(Path(base).resolve()) + (f":{argument}" if argument else "")
    for values in itertools.product(*(factor.values for factor in factors)):
        chosen = [f"{factor.field}={value}" for factor, value in zip(factors, values, strict=True)]
        complete = [*overrides, *(f"--config.{choice}" for choice in chosen)]
        switched_off = [[f"{field}={_value_off(name, field, complete)}"] for field in drop]
        for off in [[], *switched_off]:
            variant_flags = (*complete, *(f"--config.{choice}" for choice in off))
            differs = ",".join([*chosen, *off])
            config = load_config(name, variant_flags)
            yield Variant(f"{label}[{differs}]" if differs else label, config, (f"--config={source}", *variant_flags))


def _parse_factor(text: str) -> _Factor:
    field, _, listed = text.partition("=")
    # Commas inside brackets belong to a tuple: widths=(3,4),(3,4,5).
    values = re.findall(r"\([^)]*\)|[^,]+", listed)
    if not field or not values:
        raise UserError(f"--vary is {text!r}, expected FIELD=VALUE,VALUE...")
    if len(set(values)) < len(values):
        raise UserError(f"--vary is {text!r}, expected different values")
    return _Factor(field.removeprefix("config."), values)


def _who_reads(fields: Sequence[str], names: Sequence[str], overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return the variants that read each setting; print on stderr which do not."""
    if not fields:
        return {}
    configs = {name: load_config(name, overrides) for name in names}
    settings = {name: _field_names(config) for name, config in configs.items()}
    readers = {}
    for field in fields:
        # A setting without effect in all variants may have one when another setting varies too.
        readers[field] = [name for name in names if field in names_read(configs[name])]
        readers[field] = readers[field] or [name for name in names if field in settings[name]]
        if not readers[field]:
            every = sorted(set().union(*settings.values()))
            raise UserError(f"{', '.join(names)}: there is no setting {field!r}, {expected(field, every)}")
        print_without_effect(field, [name for name in names if name not in readers[field]])
    return readers


def _require_all(overrides: Sequence[str], names: Sequence[str]) -> None:
    """Raise UserError if a setting is given to all variants, and some but not all have it."""
    settings = {name: _field_names(load_config(name)) for name in names}
    for override in overrides:
        field, value = field_of(override), override.partition("=")[2]
        having = [name for name in names if field in settings[name]]
        lacking = [name for name in names if field not in settings[name]]
        if having and lacking:
            advice = f"expected --vary={field}={value}, which sets it where there is one ({', '.join(having)})"
            raise UserError(f"{lacking[0]}: there is no setting {field!r}, {advice}")


def _field_names(config: Config) -> set[str]:
    return {field for field, _, _ in leaves(config)}


def _settings_with_effect(config: Config) -> dict[str, Any]:
    """Return the module and the settings that have an effect; equal for two variants that train the same."""
    names = names_read(config)
    return {"module": config.model.module} | {name: value for name, _, value in leaves(config) if name in names}


def _value_off(name: str, field: str, overrides: Sequence[str]) -> str:
    """Return the value that switches a setting off: false, 0 or none, whichever it can have."""
    false, zero, none = OFF
    settings = {leaf: (value, about) for leaf, about, value in leaves(load_config(name, overrides))}
    value, about = settings[field]
    if isinstance(value, bool):
        off = false
    elif isinstance(value, (int, float)) and (about.metadata.get("low") or 0) <= 0:
        off = zero
    elif about.default == "none" or "none" in about.metadata.get("choices", ()):
        off = none
    else:
        raise UserError(f"{name}: --drop={field}, but it cannot be switched off, expected --vary with other values")
    if off in (str(value).lower(), f"{value:g}" if isinstance(value, float) else ""):
        raise UserError(f"{name}: --drop={field}, but it is off already, expected a component that is on")
    return off
