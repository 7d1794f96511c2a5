"""The variants: one linen module a file, `(token_ids [B, L], lengths [B], *, deterministic) -> logits [B, C]`.

A config names its module as `file.Class`, and it is imported by that name. So a new variant is one model file and one
config file. The fields of a module are its settings, except three that the caller of `build` decides:
`vocab_size` (rows of the embedding), `num_outputs` (1 for two classes, else the number of classes) and `kernels`.

A module may have these class attributes:
  layer_pattern: a regular expression for the names of its stacked layers, see `layer_depth`.
  skips_padding: True if its work follows the longest text of a batch, however far the batch is padded.
  only_looks_up: True if it reads token ids only to look them up in `embedding`, so that another numbering of the rows
    would do. Its rows may then wait, see `research.training.waiting_rows`.
  reads_padding: True if it reads padding as the token 0.
  objective: how it is pre-trained, "next" or "masked". It then defines `guess`, see `layers/vocabulary.py`.
  pretrained_collection: the collection that its `start_from` takes, if it is not "params".
A module whose encoder is frozen defines `embed` (texts to vectors), `classify` (vectors to logits) and `fit`, see
`probe.py`. It is then fitted to vectors that are computed once for a corpus.
"""

import dataclasses
import functools
import importlib
import re
import typing
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.errors import UserError, expected
from research.models.kernels.options import Kernels
from research.settings import Config, Data, Optimizer, Pretraining, Training, is_pretraining

_NO_SETTINGS = ("vocab_size", "num_outputs", "kernels", "parent", "name")


def load_module(path: str) -> type[nn.Module]:
    """Import `file.Class` from this package.

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
    """Return the settings of a module: a dataclass with its fields, defaults replaced by `values`.

    Args:
      path: `file.Class`, see `load_module`.
      **values: fields that differ from the module's defaults.

    Returns:
      an instance with the class attributes `module`, the path, and `fits_itself`, whether the module has a `fit`.

    Raises:
      UserError: the module has no such field.
    """
    module = load_module(path)
    hints = typing.get_type_hints(module)
    fields = [field for field in dataclasses.fields(module) if field.name not in _NO_SETTINGS]
    known = [field.name for field in fields]
    if unknown := sorted(values.keys() - set(known)):
        raise UserError(f"{path}: there is no setting {unknown[0]!r}, {expected(unknown[0], known)}")
    settings = dataclasses.make_dataclass(
        module.__name__,
        [(f.name, hints[f.name], dataclasses.field(default=f.default, metadata=f.metadata)) for f in fields],
        namespace={"module": path, "fits_itself": hasattr(module, "fit")},
    )
    return settings(**values)


def build(settings: Any, *, vocab_size: int, num_outputs: int, kernels: Kernels = Kernels()) -> nn.Module:
    """Return the linen module that `settings` describe.

    Args:
      settings: as `settings_for` returns them.
      vocab_size: rows of the embedding.
      num_outputs: 1 for two classes, else the number of classes.
      kernels: how recurrences are computed. Parameters do not depend on it.
    """
    fields = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    module = load_module(settings.module)(vocab_size=vocab_size, num_outputs=num_outputs, **fields)
    return with_kernels(module, kernels)


def with_kernels(module: nn.Module, kernels: Kernels) -> nn.Module:
    """Return a module of `build` that computes its recurrences by `kernels`; itself if it has none."""
    return module.clone(kernels=kernels) if hasattr(type(module), "kernels") else module


def layer_depth(module: nn.Module | type[nn.Module], names: Sequence[str]) -> int | None:
    """Return how far a parameter is from the input: 0 for embeddings, 1 for the lowest layer, None for the head.

    Args:
      module: `layer_pattern` is matched with the start of each name. Its group 1 is the number of the layer, counted
        from 0; an empty group is 0. A module without stacked layers has None instead of a pattern, or no attribute.
      names: the names on the way to the parameter, such as `("encoder", "block_0", "expand", "kernel")`.
    """
    pattern = getattr(module, "layer_pattern", None)
    for name in names if pattern else ():
        if match := re.match(pattern, name):
            return 1 + int(match[1] or 0)
    return 0 if any("embedding" in name for name in names) else None


def init_guesser(module: nn.Module, key: jax.Array) -> dict[str, Any]:
    """Return fresh variables of a module that is pre-trained, including those that only `guess` reads."""
    row = jnp.zeros((1, 2), jnp.int32)
    return module.init(key, row, row, jnp.full(1, 2, jnp.int32), row, deterministic=True, method="guess")


def guesser_shapes(config: Config) -> Any:
    """Return the shapes of `init_guesser`'s variables.

    Raises:
      UserError: the model cannot be pre-trained, or its settings do not fit each other.
    """
    module = build(config.model, vocab_size=config.data.vocab_size, num_outputs=1)
    if not hasattr(module, "objective"):
        raise UserError(f"{config.model.module} cannot be pre-trained, expected a variant of bert, lstm, gru or rnn")
    return jax.eval_shape(functools.partial(init_guesser, module), jax.eval_shape(jax.random.key, 0))


def config_from_dict(settings: dict[str, Any]) -> Config:
    """Return the config that `research.settings.to_dict` wrote.

    Raises:
      UserError: a field is unknown to this version.
    """
    try:
        model = {n: tuple(v) if isinstance(v, list) else v for n, v in settings["model"].items() if n != "module"}
        kind = Pretraining if is_pretraining(settings) else Training
        # Configs from before `min_steps` existed: early stopping did not wait for any steps.
        stops_early = kind is Training and settings["training"]["select"] != "last"
        earlier = {"min_steps": 0} if stops_early else {}
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
