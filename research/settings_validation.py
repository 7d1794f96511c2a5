"""Checks of a config: types, limits, choices, and settings that contradict each other."""

import dataclasses
from pathlib import Path
from typing import Any

from research.errors import UserError, expected
from research.evaluation.metrics import metrics_to_select_by
from research.settings import METRIC, TOKENS, Config, Optimizer, Pretraining, is_tokenizer_file, leaves, parts

_LARGEST_INTEGER = 100_000_000  # for settings without an upper limit: larger sizes do not fit into int32 shapes


def _is_like(value: Any, default: Any) -> bool:
    """Return whether a value has the type of its setting; an integer is a number too."""
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, tuple):  # `check_value` looks at its numbers one by one
        return isinstance(value, tuple)
    return type(value) is type(default)


def validate(config: Config) -> Config:
    """Return `config` if it has no unknown setting and every value is allowed.

    Raises:
      UserError: a setting is unknown; a value has the wrong type, is out of range or not among the choices; or two
        settings contradict each other.
    """
    for prefix, part in parts(config):
        if not dataclasses.is_dataclass(part):
            name = f"config.{prefix}".removesuffix(".")
            raise UserError(f"{name} is {part!r}, expected settings, as `Config` and `settings_for` make them")
        known = [field.name for field in dataclasses.fields(part)]
        unknown = [name for name in vars(part) if name not in known]
        if unknown:
            raise UserError(f"config.{prefix}{unknown[0]} is no setting, {expected(unknown[0], known)}")
    for name, field, value in leaves(config):
        check_value(f"config.{name}", field, value)
    _check_optimizer(config.optimizer)
    _check_tokens(config)
    _check_length(config)
    return config


def choices_of(field: dataclasses.Field) -> tuple[str, ...]:
    """Return the names that a setting may have as its value; none if it is a number, a path or a switch."""
    choices = field.metadata.get("choices", ())
    metrics = metrics_to_select_by() if METRIC in choices else ()
    return (*(choice for choice in choices if choice != METRIC), *metrics)


def check_value(name: str, field: dataclasses.Field, value: Any) -> None:
    """Raise UserError if a value has the wrong type, is out of range or is not among the choices of its field."""
    if not _is_like(value, field.default):
        raise UserError(f"{name} is {value!r}, expected a value like {field.default!r}")
    choices = choices_of(field)
    if choices and value not in choices:
        raise UserError(f"{name} is {value!r}, expected one of {', '.join(choices)}")
    numbers = value if isinstance(value, tuple) else (value,)
    alike = not isinstance(value, tuple) or all(isinstance(number, type(field.default[0])) for number in numbers)
    if not numbers or not alike:
        raise UserError(f"{name} is {value!r}, expected numbers like {field.default!r}")
    low, high = (field.metadata.get(limit) for limit in ("low", "high"))
    if high is None and isinstance(numbers[0], int):
        high = _LARGEST_INTEGER
    for number in numbers:
        # `not (a <= b)` instead of `a > b` refuses NaN too.
        if (low is not None and not low <= number) or (high is not None and not number <= high):
            limits = [f"{word} {limit}" for word, limit in (("at least", low), ("at most", high)) if limit is not None]
            raise UserError(f"{name} is {value!r}, expected {' and '.join(limits)}")
        if isinstance(number, float) and number in (float("inf"), float("-inf")):
            raise UserError(f"{name} is {value!r}, expected a finite number")


def _check_optimizer(optimizer: Optimizer) -> None:
    """Raise UserError for a setting that this optimizer does not read, and for a schedule without its warmup."""
    for field in dataclasses.fields(optimizer):
        value = getattr(optimizer, field.name)
        # The learning rate is exempt: a flag for every variant of a comparison means those that have one.
        if value != field.default and not field.metadata["read"](optimizer) and field.name != "learning_rate":
            raise UserError(
                f"config.optimizer.{field.name} is {value}, but {optimizer.name} does not read it. Leave it out, or "
                "choose another --config.optimizer.name"
            )
    if optimizer.schedule == "rsqrt" and not optimizer.warmup:
        raise UserError(
            "config.optimizer.schedule=rsqrt needs a warmup. Add --config.optimizer.warmup=0.1, or another fraction"
        )


def _check_tokens(config: Config) -> None:
    """Raise UserError if tokens, pretrained weights and augmentation contradict each other."""
    data, is_file = config.data, is_tokenizer_file(config.data.tokens)
    if is_file and not Path(data.tokens).exists():
        raise UserError(
            f"config.data.tokens is {data.tokens!r}, expected one of {', '.join(TOKENS)}, or a tokenizer.json file"
        )
    fits_tokenizer = isinstance(config.training, Pretraining) and data.tokens == "pieces"
    if (data.tokens == "pieces") != (data.weights != "none") and not fits_tokenizer:
        raise UserError(
            "config.data.tokens=pieces and config.data.weights need each other. Set both, as --config=bert:minilm "
            "does, or neither"
        )
    if is_file or data.weights != "none":
        source = "config.data.tokens names a tokenizer" if is_file else "config.data.weights come with a tokenizer"
        for name, default in (("vectors", "none"), ("stop_words", "none"), ("lowercase", True)):
            value = getattr(data, name)
            if value != default:
                raise UserError(f"config.data.{name} is {value}, but {source}, expected --config.data.{name}={default}")
    augmented = [name for name in ("random_deletion", "random_swap") if getattr(config.training, name, 0)]
    if data.tokens == "pieces" and augmented:
        raise UserError(
            f"config.training.{augmented[0]} would move [CLS] and [SEP], expected 0 with config.data.tokens=pieces"
        )
    if data.from_scratch and data.weights == "none":
        raise UserError(
            "config.data.from_scratch needs config.data.weights, whose tokenizer it takes. Use --config=bert:FOLDER"
        )


def _check_length(config: Config) -> None:
    """Raise UserError if texts are longer than the model can read."""
    for field in dataclasses.fields(config.model):
        most = getattr(config.model, field.name)
        is_limit = field.metadata.get("limits_length", lambda part: False)(config.model)
        if is_limit and config.data.max_length > most:
            limit = f"config.model.{field.name}={most}"
            raise UserError(f"config.data.max_length is {config.data.max_length}, expected at most {limit}")
