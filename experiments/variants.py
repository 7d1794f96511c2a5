"""From names and flags to configs: `lstm`, `luong:general`, `path/to/own.py`, with `--config.FIELD=VALUE` on top.

Files and typed overrides are read by `ml_collections.config_flags`; its faults end here in one sentence.
"""

import importlib.util
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import config_flags

import configs
from research.data.assets import ASSETS
from research.errors import UserError, expected
from research.settings import OFF, Config, leaves, names_read
from research.settings_validation import validate

if TYPE_CHECKING:  # imported where used, so that programs that compare nothing start without plots
    from research.comparison.plan import Variant

FOLDER = Path(configs.__file__).parent


def known() -> list[str]:
    """The names of the repository's variants."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def every_variant(listed: str = "ARGUMENTS") -> list[str]:
    """The names of the repository's variants with each of their arguments, the linear baseline first.

    Args:
      listed: where a config file lists its arguments; those in NAMED_ALONE take long, and `all` does without them.
    """
    found = {name: arguments(FOLDER / f"{name}.py", listed) for name in sorted(known(), key=lambda n: n != "linear")}
    return [f"{name}:{argument}" if argument else name for name, of_name in found.items() for argument in of_name]


def space_of(name: str) -> dict[str, tuple]:
    """`SPACE` of a variant's config file, what `tune` searches; the learning rate where there is none."""
    path, _ = _find(name)
    return dict(getattr(_load(path), "SPACE", {"optimizer.learning_rate": ("log", 3e-4, 1e-2)}))


def load_config(
    name: str, overrides: Sequence[str] = (), prepare: Callable[[Config], Config] = lambda config: config
) -> Config:
    """The config of a variant.

    Args:
      name: `NAME[:ARGUMENT]` or `FILE.py[:ARGUMENT]`; `configs/FILE.py` that does not exist where the user stands is
        the repository's.
      overrides: `--config.FIELD=VALUE`, in order.
      prepare: what becomes of the config before them.

    Raises:
      UserError: no such variant, argument or field, or a value of the wrong type or out of range.
    """
    path, argument = _find(name)
    module = _load(path)
    _check_argument(path, module, argument)
    try:
        config = prepare(module.get_config(*filter(None, [argument])))
        fields = {field: value for field, _, value in leaves(config)}
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:  # the file is the user's code: anything may come
        raise UserError(f"{name}: the config cannot be loaded ({type(error).__name__}: {error})") from error
    for override in overrides:
        field = _field_of(override)
        if field not in fields:
            raise UserError(f"{name}: there is no setting {field!r}, {expected(field, sorted(fields))}")
        _check_type(name, override, fields[field])
    values = flags.FlagValues()
    argv = ["", *overrides]
    try:
        config_flags.DEFINE_config_dataclass("config", config, flag_values=values, sys_argv=argv)
        values(argv)
    except (flags.Error, ValueError, TypeError, KeyError) as error:
        said = ": ".join(map(str, error.args))
        raise UserError(f"{name}: {' '.join(said.split())}") from error
    try:
        return _from_anywhere(validate(values.config))
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _check_type(name: str, override: str, there: Any) -> None:
    """Raises UserError where what is given is no number, or neither true nor false, and should be."""
    _, equals, value = override.partition("=")
    kinds = ((bool, _flag, "true or false"), (int, int, "an integer"), (float, float, "a number"))
    read, what = next(((read, what) for kind, read, what in kinds if isinstance(there, kind)), (str, ""))
    if equals or not isinstance(there, bool):  # --config.FIELD alone is true
        try:
            read(value)
        except (ValueError, KeyError):
            raise UserError(f"{name}: {override}, expected {what}") from None


def _flag(value: str) -> bool:
    return {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}[value.lower()]


def _from_anywhere(config: Config) -> Config:
    """With paths that mean the same wherever a command is given."""
    if config.init_from != "none":
        config.init_from = str(Path(config.init_from).resolve())
    if config.data.vectors not in ("none", *ASSETS):
        config.data.vectors = str(Path(config.data.vectors).resolve())
    return config


def settled_otherwise(overrides: Sequence[str], settings: Iterable[str], where: str) -> None:
    """Raises UserError where a setting is given by a flag that would be settled otherwise: it is `where`."""
    for override in overrides:
        field = _field_of(override)
        if field in settings:
            raise UserError(f"{override} is given, but {field} is {where}, expected one or the other")


def _find(name: str) -> tuple[Path, str]:
    """The file and the argument that a variant's name means."""
    base, argument = _split(name)
    if base.endswith(".py"):
        path = Path(base)
        if not path.is_file() and path.parent.name in ("", FOLDER.name):
            path = FOLDER / path.name
    else:
        path = FOLDER / f"{base}.py"
    if not path.is_file() or path.stem == "__init__":
        raise UserError(f"there is no variant {name!r}, {expected(Path(base).stem, known())}, or a config file")
    return path.resolve(), argument


def _split(name: str) -> tuple[str, str]:
    """`NAME[:ARGUMENT]` or `FILE.py[:ARGUMENT]`, whose path may have colons."""
    found = re.fullmatch(r"(.*?\.py|[^:]*)(?::(.*))?", name)
    return (found[1], found[2] or "") if found else (name, "")


def arguments(path: Path, listed: str = "ARGUMENTS") -> tuple[str, ...]:
    """What `ARGUMENTS` or `NAMED_ALONE` of a config file lists; "" stands for none, FOLDER for any of the user's.

    Raises:
      UserError: the file cannot be loaded.
    """
    return _arguments(_load(path), listed)


def _arguments(module: ModuleType, listed: str) -> tuple[str, ...]:
    return tuple(getattr(module, listed, ("",) if listed == "ARGUMENTS" else ()))


def _every_argument(module: ModuleType) -> tuple[str, ...]:
    return _arguments(module, "ARGUMENTS") + _arguments(module, "NAMED_ALONE")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("config", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the file is the user's code: anything may come
        raise UserError(f"{path}: the config cannot be loaded ({type(error).__name__}: {error})") from error
    return module


def _check_argument(path: Path, module: ModuleType, argument: str) -> None:
    known = _every_argument(module)
    if argument and argument not in known and not ("FOLDER" in known and Path(argument).is_dir()):
        listed = ", ".join(f"{path.stem}:{a}" if a else path.stem for a in known)
        raise UserError(f"there is no variant {path.stem}:{argument}, expected {listed}")


def expand(
    names: Sequence[str], overrides: Sequence[str], vary: Sequence[str], drop: Sequence[str] = ()
) -> list["Variant"]:
    """Every variant under every combination of the values to vary.

    Args:
      names: of variants.
      overrides: applied to each.
      vary: `FIELD=VALUE,VALUE...` each; of those that a variant has, the cross product is taken.
      drop: fields; each variant is also taken with each of them that it has switched off.

    Raises:
      UserError: as `load_config`; a field that no variant has.
    """
    variants = list(_expand(names, overrides, vary, drop))
    say_unread(overrides, {variant.name: variant.config for variant in variants})
    return variants


def _expand(
    names: Sequence[str], overrides: Sequence[str], vary: Sequence[str], drop: Sequence[str]
) -> Iterator["Variant"]:
    from research.comparison.plan import Variant

    factors, found = [_factor(text) for text in vary], dict[str, str]()
    has = _who_has([*(field for field, _ in factors), *drop], names, overrides)
    _require_all(overrides, names)
    for name in names:
        own = [factor for factor in factors if name in has[factor[0]]]
        own_drop = [field for field in drop if name in has[field]]
        base, argument = _split(name)
        short = Path(base).stem + (f":{argument}" if argument else "")
        # A folder of the user's:
        if argument and Path(argument).is_dir() and argument not in _every_argument(_load(_find(name)[0])):
            argument = str(Path(argument).resolve())
            short, name = f"{Path(base).stem}:{Path(argument).name}", f"{base}:{argument}"
        for values in itertools.product(*(values for _, values in own)):
            chosen = [f"{field}={value}" for (field, _), value in zip(own, values, strict=True)]
            given = [*overrides, *(f"--config.{choice}" for choice in chosen)]
            path = str(Path(base).resolve()) + (f":{argument}" if argument else "") if Path(base).is_file() else name
            for field in ("", *own_drop):
                off = [f"{field}={_off(name, field, given)}"] if field else []
                label = f"{short}[{','.join([*chosen, *off])}]" if chosen or off else short
                flags_ = (*given, *(f"--config.{choice}" for choice in off))
                config = load_config(name, flags_)
                same = found.setdefault(json.dumps(_what_is_read(config)), label)
                if same != label:
                    raise UserError(f"{same} and {label} are the same settings, expected different ones")
                yield Variant(label, config, (f"--config={path}", *flags_))


def _what_is_read(config: Config) -> dict[str, Any]:
    """The settings that make a difference to a variant."""
    names = names_read(config)
    return {"module": config.model.module} | {name: value for name, _, value in leaves(config) if name in names}


def say_unread(overrides: Sequence[str], configs: Mapping[str, Config]) -> None:
    """Says on stderr which of the settings that are given some variants do not read."""
    for override in overrides:
        field = _field_of(override)
        if without := [name for name, config in configs.items() if field not in names_read(config)]:
            print(f"{field} is not read by {', '.join(without)} and changes nothing there", file=sys.stderr)
        for name, config in configs.items():
            if field == "training.epochs" and config.optimizer.name == "lbfgs":
                steps = config.training.epochs
                print(f"{name}: training.epochs counts steps of L-BFGS, of which it now takes {steps}", file=sys.stderr)


def _field_of(override: str) -> str:
    return re.sub(r"^--(no)?config\.", "", override).partition("=")[0]


def _require_all(overrides: Sequence[str], names: Sequence[str]) -> None:
    """Raises UserError where some variants have a setting that is given to all, and one has not."""
    settings = {name: {field for field, _, _ in leaves(load_config(name))} for name in names}
    for override in overrides:
        field, value = _field_of(override), override.partition("=")[2]
        has = [name for name in names if field in settings[name]]
        if has and len(has) < len(names):
            without = next(name for name in names if name not in has)
            where = f"expected --vary={field}={value}, which sets it where there is one ({', '.join(has)})"
            raise UserError(f"{without}: there is no setting {field!r}, {where}")


def _who_has(fields: Sequence[str], names: Sequence[str], overrides: Sequence[str]) -> dict[str, list[str]]:
    """The variants that read each setting; which do not is said on stderr."""
    if not fields:
        return {}
    configs = {name: load_config(name, overrides) for name in names}
    settings = {name: {field for field, _, _ in leaves(config)} for name, config in configs.items()}
    every, has = sorted(set().union(*settings.values())), {}
    for field in fields:
        # One that none reads as they stand may be read where another one is varied too.
        has[field] = [n for n in names if field in names_read(configs[n])] or [n for n in names if field in settings[n]]
        if not has[field]:
            raise UserError(f"{', '.join(names)}: there is no setting {field!r}, {expected(field, every)}")
        if without := [name for name in names if name not in has[field]]:
            print(f"{field} is not read by {', '.join(without)} and changes nothing there", file=sys.stderr)
    return has


def _off(name: str, field: str, overrides: Sequence[str]) -> str:
    """What switches a setting off: of `OFF` what is of its kind, "none" where that is among its choices."""
    no, zero, nothing = OFF
    value, about = {leaf: (value, about) for leaf, about, value in leaves(load_config(name, overrides))}[field]
    if isinstance(value, bool):
        off = no
    elif isinstance(value, (int, float)) and (about.metadata.get("low") or 0) <= 0:
        off = zero
    elif about.default == "none" or "none" in about.metadata.get("choices", ()):
        off = nothing
    else:
        raise UserError(f"{name}: --drop={field}, but it cannot be switched off, expected --vary with other values")
    if off in (str(value).lower(), f"{value:g}" if isinstance(value, float) else ""):
        raise UserError(f"{name}: --drop={field}, but it is off already, expected a component that is on")
    return off


def _factor(text: str) -> tuple[str, list[str]]:
    field, equals, values = text.partition("=")
    # Commas inside brackets belong to a tuple: widths=(3,4),(3,4,5).
    split = re.findall(r"\([^)]*\)|[^,]+", values)
    if not equals or not field or not split:
        raise UserError(f"--vary is {text!r}, expected FIELD=VALUE,VALUE...")
    if len(set(split)) < len(split):
        raise UserError(f"--vary is {text!r}, expected different values")
    return field.removeprefix("config."), split
