"""The variants: one linen module a file, `(token_ids [B, L], lengths [B], *, deterministic) -> logits [B, C]`.

A config names its module as `file.Class` and it is imported by that name, so that a new variant is one model file and
one config file. The fields of a module are its settings, but for the two that the corpus decides:
`vocab_size` (rows of the embedding) and `num_outputs` (1 for two classes, else the number of classes).
"""

import dataclasses
import functools
import importlib
import typing
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.errors import UserError, expected
from research.settings import Config, Data, Optimizer, Pretraining, Training, is_pretraining

_FROM_CORPUS = ("vocab_size", "num_outputs")
_OF_LINEN = ("parent", "name")


def load_module(path: str) -> type[nn.Module]:
    """Imports `file.Class` from this package.

    Raises:
      UserError: there is no such file or class, or the class is no linen module.
    """
    file, _, class_name = path.rpartition(".")
    if not file.isidentifier():  # a dotted or relative path could import code from outside this package
        raise UserError(f"the model is {path!r}, expected FILE.CLASS with FILE in research/models")
    try:
        module = getattr(importlib.import_module(f"research.models.{file}"), class_name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise UserError(f"the model is {path!r}, expected FILE.CLASS with FILE in research/models ({error})") from error
    if not (isinstance(module, type) and issubclass(module, nn.Module)):
        raise UserError(f"the model is {path!r}, expected a linen module")
    return module


def settings_for(path: str, **values: Any) -> Any:
    """The settings of a module: a dataclass with its fields, defaults replaced by `values`.

    Args:
      path: `file.Class`, see `load_module`.
      **values: fields that differ from the module's defaults.

    Returns:
      an instance with a class attribute `module`, the path.

    Raises:
      UserError: the module has no such field.
    """
    module = load_module(path)
    hints = typing.get_type_hints(module)
    fields = [field for field in dataclasses.fields(module) if field.name not in _FROM_CORPUS + _OF_LINEN]
    known = [field.name for field in fields]
    if unknown := sorted(values.keys() - set(known)):
        raise UserError(f"{path}: there is no setting {unknown[0]!r}, {expected(unknown[0], known)}")
    settings = dataclasses.make_dataclass(
        module.__name__,
        [(f.name, hints[f.name], dataclasses.field(default=f.default, metadata=f.metadata)) for f in fields],
        namespace={"module": path},
    )
    return settings(**values)


def build(settings: Any, *, vocab_size: int, num_outputs: int) -> nn.Module:
    """The linen module that `settings` (of `settings_for`) describe."""
    fields = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return load_module(settings.module)(vocab_size=vocab_size, num_outputs=num_outputs, **fields)


def init_guesser(module: nn.Module, key: jax.Array) -> dict[str, Any]:
    """The variables of a module that is pre-trained, those included that only `guess` reads."""
    row = jnp.zeros((1, 2), jnp.int32)
    return module.init(key, row, row, jnp.full(1, 2, jnp.int32), row, deterministic=True, method="guess")


def guesser_shapes(config: Config) -> Any:
    """The shapes of `init_guesser`'s variables.

    Raises:
      UserError: the model cannot be pre-trained, or its settings do not fit each other.
    """
    module = build(config.model, vocab_size=config.data.vocab_size, num_outputs=1)
    if not hasattr(module, "objective"):
        raise UserError(f"{config.model.module} cannot be pre-trained, expected a variant of bert, lstm, gru or rnn")
    return jax.eval_shape(functools.partial(init_guesser, module), jax.eval_shape(jax.random.key, 0))


def config_from_dict(settings: dict[str, Any]) -> Config:
    """The config that `research.settings.to_dict` wrote.

    Raises:
      UserError: a field is unknown to this version.
    """
    try:
        model = {n: tuple(v) if isinstance(v, list) else v for n, v in settings["model"].items() if n != "module"}
        kind = Pretraining if is_pretraining(settings) else Training
        # Before there was this setting, early stopping waited for no steps.
        stops = kind is Training and settings["training"]["select"] != "last"
        earlier = {"min_steps": 0} if stops else {}
        return Config(
            model=settings_for(settings["model"]["module"], **model),
            seed=settings["seed"],
            **{name: settings[name] for name in ("varies", "init_from") if name in settings},
            data=Data(**settings["data"]),
            optimizer=Optimizer(**settings["optimizer"]),
            training=kind(**earlier | settings["training"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"the settings are not of this version ({error}), expected those of a run that it can read"
        ) from error
