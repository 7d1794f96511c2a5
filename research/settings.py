"""Settings: typed dataclasses whose fields are the flags (`--config.optimizer.learning_rate=3e-4`).

A variant is a function `get_config() -> Config` in `configs/`. Its `model` part is made from the fields of the
linen module that it names (`research.models.settings_for`); everything else is declared here, once, with its limits.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from research.errors import UserError, expected

_PARTS = ("model", "data", "optimizer", "training")
# That name a place, which may be named otherwise: what was there is told by a run's checksums.
PLACES = ("init_from", "data.vectors")
_MOST = 100_000_000  # of an integer setting that names no limit of its own: sizes beyond do not fit into int32 shapes


def setting(
    default: Any,
    what: str = "",
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    limits_length: Callable[[Any], bool] = lambda part: False,
    read: Callable[[Any], bool] = lambda part: True,
) -> Any:
    """A dataclass field with limits that `validate` checks.

    Args:
      default: the value where nothing else is said; its type is the setting's.
      what: it is, where its name does not say so; `--help` shows it.
      choices: one of these.
      low: and high: `low <= value <= high`.
      limits_length: (the settings beside it) -> whether a model then reads no more tokens of a text than this.
      read: (the settings beside it) -> whether anything then reads it.
    """
    about = {"what": what, "choices": choices, "low": low, "high": high, "limits_length": limits_length, "read": read}
    return dataclasses.field(default=default, metadata=about)


# What switches a setting off, as `--drop` does: a bool, a number, a name.
OFF = ("false", "0", "none")


def is_rate(field: dataclasses.Field) -> bool:
    """Whether a setting of a model is a probability, as that of dropping something, whatever its name."""
    low, high = (field.metadata.get(limit) for limit in ("low", "high"))
    return isinstance(field.default, float) and low == 0 and high is not None and high <= 1


@dataclasses.dataclass
class Data:
    """From text to token ids; fitted on the training split alone."""

    vocab_size: int = setting(10_000, "entries with padding and unknown included: the rows of an embedding", low=3)
    max_length: int = setting(100, "tokens kept of a text", low=1)
    keep: str = setting("first", "which end of a longer text is kept", choices=("first", "last"))
    tokens: str = setting(
        "words",
        "words has each Chinese character for one, chinese_words asks a dictionary, pieces come with weights",
        choices=("words", "characters", "chinese_words", "pieces"),
    )
    lowercase: bool = setting(True, "makes A and a the same")
    # "not" is one of them, so off by default.
    stop_words: str = setting("none", "words that are left out", choices=("none", "english", "chinese"))
    train_size: int = setting(0, "training texts that are used; 0: all", low=0)
    vectors: str = setting("none", "that the embedding starts from: glove (50 numbers a word), or a .txt or .vec file")
    weights: str = setting(
        "none", "that the encoder starts from: minilm, or a folder as HuggingFace's libraries save one"
    )
    from_scratch: bool = setting(False, "takes the tokenizer and the sizes of weights alone, and starts at random")


def _has_rate(optimizer: "Optimizer") -> bool:
    return optimizer.name != "lbfgs"


@dataclasses.dataclass
class Optimizer:
    """See `research.training.optimizers`. Plain gradient descent is sgd with `training.batch_size` 0."""

    name: str = setting("adam", "of the optimizer", choices=("adam", "adamw", "sgd", "adadelta", "lion", "lbfgs"))
    learning_rate: float = setting(1e-3, "at its highest; lbfgs searches along a line instead", low=0.0, read=_has_rate)
    schedule: str = setting(
        "constant", "of the rate", choices=("constant", "linear", "cosine", "rsqrt"), read=_has_rate
    )
    warmup: float = setting(
        0.0, "share of the steps over which the rate rises from 0", low=0.0, high=0.9, read=_has_rate
    )
    momentum: float = setting(0.0, "of sgd", low=0.0, high=0.999, read=lambda optimizer: optimizer.name == "sgd")
    weight_decay: float = setting(0.0, "of matrices alone", low=0.0, read=_has_rate)
    clip_norm: float = setting(0.0, "most of the whole gradient's norm; 0: not clipped", low=0.0, read=_has_rate)
    max_norm: float = setting(0.0, "of each column of the classifier's matrix (Kim 2014); 0: no limit", low=0.0)
    layer_decay: float = setting(
        1.0,
        "each layer's rate as a share of that of the layer above it (Howard & Ruder 2018); 1: all learn alike",
        low=0.0,
        high=1.0,
        read=_has_rate,
    )
    frozen: int = setting(0, "lowest layers that stay as they are; the first is the embedding", low=0, read=_has_rate)


_COMPUTE_DTYPE = "of activations; weights are float32"


def _chooses(training: "Training") -> bool:
    return training.select != "last"


@dataclasses.dataclass
class Training:
    """How long a run is trained, on what loss, and which of its epochs is taken; see `research.training.loop`."""

    epochs: int = setting(60, "passes over the training texts, at most: early stopping usually ends a run", low=1)
    batch_size: int = setting(32, "texts of a step; 0: the whole training split", low=0)
    select: str = setting(
        "auto",
        "validation score that chooses the epoch, ties by loss; auto: log_loss with fewer than 50 validation texts, "
        "macro_f1 where one class has more than 80 %, else accuracy",
        choices=("auto", "accuracy", "macro_recall", "macro_f1", "log_loss", "last"),
    )
    patience: int = setting(
        3, "stop after so many epochs without better validation score or loss; 0: never", low=0, read=_chooses
    )
    min_steps: int = setting(900, "of the optimizer, before which patience ends no run", low=0, read=_chooses)
    class_weights: str = setting("none", "of the loss", choices=("none", "balanced"))
    # Scikit-learn's 1 / C.
    l2: float = setting(0.0, "adds l2 / (2 N) * |matrices|^2 to the mean loss over N training texts", low=0.0)
    label_smoothing: float = setting(0.0, low=0.0, high=0.5)
    compute_dtype: str = setting("float32", _COMPUTE_DTYPE, choices=("float32", "bfloat16"))
    random_deletion: float = setting(0.0, "of a training text's tokens, anew each epoch", low=0.0, high=0.9)
    random_swap: float = setting(0.0, "swaps of two tokens, as a share of a training text's length", low=0.0, high=1.0)


@dataclasses.dataclass
class Pretraining:
    """What `pretrain` has in the place of `Training`; see `research.pretraining.pretrain`."""

    epochs: int = setting(10, low=1)
    batch_size: int = setting(64, "rows of a step", low=1)
    accumulation: int = setting(1, "parts that a batch is taken in, one after the other, for want of memory", low=1)
    select: str = setting("last", "which epoch is kept", choices=("last", "log_loss"))
    compute_dtype: str = setting("float32", _COMPUTE_DTYPE, choices=("float32", "bfloat16"))
    patience: ClassVar[int] = 0
    min_steps: ClassVar[int] = 0


@dataclasses.dataclass
class Config:
    """All that a run is a function of but for its corpus, fold and repeat."""

    model: Any  # fields of the module, from research.models.settings_for
    seed: int = setting(0, "the base of every random stream", low=0, high=2**31 - 1)
    init_from: str = setting(
        "none", "a run whose parameters are started from, where they fit; {fold}, {repeat} in it are this run's"
    )
    varies: str = setting(
        "all",
        "what differs between repeats: every random stream, or one alone, to see what it is responsible for",
        choices=("all", "split", "init", "order", "dropout"),
    )
    data: Data = dataclasses.field(default_factory=Data)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    training: Training | Pretraining = dataclasses.field(default_factory=Training)


def repeat_of(config: Config, stream: str, repeat: int) -> int:
    """The repeat that a stream ("split", "init", "order", "dropout") is drawn for: 0 where it does not vary."""
    return repeat if config.varies in ("all", stream) else 0


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """Yields `(dotted name, field, value)` of every setting."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field, value


def names_read(config: Config) -> set[str]:
    """The dotted names of the settings that make a difference to a variant."""
    return {
        f"{prefix}{field.name}"
        for prefix, part in _parts(config)
        for field in dataclasses.fields(part)
        if f"{prefix}{field.name}" not in _PARTS and field.metadata.get("read", lambda part: True)(part)
    }


def _parts(config: Config) -> Iterator[tuple[str, Any]]:
    """The dataclasses that hold settings, with what stands before their names."""
    yield "", config
    for name in _PARTS:
        yield f"{name}.", getattr(config, name)


def leaves_of(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of what `to_dict` wrote."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= leaves_of(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value is of its setting's type; an integer is a number too."""
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, tuple):  # its numbers are looked at one by one
        return isinstance(value, tuple)
    return type(value) is type(default)


def validate(config: Config) -> Config:
    """Returns `config` if there is no setting that it does not have and every value is within its field's limits.

    Raises:
      UserError: an unknown setting; a value of another type, out of range, not among the choices, or that does not go
        with another one.
    """
    for prefix, part in _parts(config):
        if not dataclasses.is_dataclass(part):
            name = f"config.{prefix}".removesuffix(".")
            raise UserError(f"{name} is {part!r}, expected settings, as `Config` and `settings_for` make them")
        known = [field.name for field in dataclasses.fields(part)]
        if unknown := [name for name in vars(part) if name not in known]:
            raise UserError(f"config.{prefix}{unknown[0]} is no setting, {expected(unknown[0], known)}")
    for name, field, value in leaves(config):
        check_value(f"config.{name}", field, value)
    _check_optimizer(config.optimizer)
    _check_texts(config)
    return config


def check_value(name: str, field: dataclasses.Field, value: Any) -> None:
    """Raises UserError where a value is not what its field says."""
    if not _is_like(value, field.default):
        raise UserError(f"{name} is {value!r}, expected a value like {field.default!r}")
    choices, low, high = (field.metadata.get(key) for key in ("choices", "low", "high"))
    if choices and value not in choices:
        raise UserError(f"{name} is {value!r}, expected one of {', '.join(choices)}")
    numbers = value if isinstance(value, tuple) else (value,)
    alike = not isinstance(value, tuple) or all(isinstance(number, type(field.default[0])) for number in numbers)
    if not numbers or not alike:
        raise UserError(f"{name} is {value!r}, expected numbers like {field.default!r}")
    for number in numbers:
        if high is None and isinstance(number, int):
            high = _MOST
        # `not (a <= b)` rather than `a > b`: a NaN is refused too.
        if (low is not None and not low <= number) or (high is not None and not number <= high):
            limits = [f"{word} {limit}" for word, limit in (("at least", low), ("at most", high)) if limit is not None]
            raise UserError(f"{name} is {value!r}, expected {' and '.join(limits)}")
        if isinstance(number, float) and number in (float("inf"), float("-inf")):
            raise UserError(f"{name} is {value!r}, expected a finite number")


def _check_optimizer(optimizer: Optimizer) -> None:
    """Raises UserError where the optimizer does not read a setting, or a schedule lacks one."""
    for field in dataclasses.fields(optimizer):
        value = getattr(optimizer, field.name)
        # Not the rate: who sets it for every variant means those that have one.
        if value != field.default and not field.metadata["read"](optimizer) and field.name != "learning_rate":
            name = f"config.optimizer.{field.name}"
            raise UserError(f"{name} is {value}, expected {field.default}: it is not read by {optimizer.name}")
    if optimizer.schedule == "rsqrt" and not optimizer.warmup:
        raise UserError("config.optimizer.schedule=rsqrt falls from the end of the warmup, expected a warmup above 0")


def _check_texts(config: Config) -> None:
    """Raises UserError where tokens, weights and lengths do not go together."""
    data = config.data
    fits_tokenizer = isinstance(config.training, Pretraining) and data.tokens == "pieces"
    if (data.tokens == "pieces") != (data.weights != "none") and not fits_tokenizer:
        raise UserError("config.data.tokens=pieces and config.data.weights need each other, expected both or neither")
    if data.weights != "none" and (data.vectors, data.stop_words, data.lowercase) != ("none", "none", True):
        raise UserError(
            "config.data.weights come with a tokenizer, expected vectors=none, stop_words=none and lowercase=true"
        )
    moved = next((name for name in ("random_deletion", "random_swap") if getattr(config.training, name, 0)), None)
    if data.tokens == "pieces" and moved:
        raise UserError(
            f"config.training.{moved} would move [CLS] and [SEP], expected 0 with config.data.tokens=pieces"
        )
    if data.from_scratch and data.weights == "none":
        raise UserError("config.data.from_scratch takes the tokenizer of config.data.weights, expected a bert:FOLDER")
    for field in dataclasses.fields(config.model):
        most = getattr(config.model, field.name)
        if field.metadata.get("limits_length", lambda part: False)(config.model) and data.max_length > most:
            limit = f"config.model.{field.name}={most}"
            raise UserError(f"config.data.max_length is {data.max_length}, expected at most {limit}")


def to_dict(config: Config) -> dict[str, Any]:
    """The settings as JSON types; `model.module` names the module that they belong to."""
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    settings["model"] = {"module": config.model.module, **settings["model"]}
    return settings


def config_hash(config: Config) -> str:
    """A hash over the resolved settings."""
    return hashlib.sha256(json.dumps(to_dict(config), sort_keys=True).encode()).hexdigest()[:16]


def is_pretraining(settings: dict[str, Any]) -> bool:
    """Whether what `to_dict` wrote is of a run without labels."""
    return "accumulation" in settings.get("training", {})


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """The settings in which two dictionaries of `to_dict` differ, as `name: value -> value`."""
    a, b = leaves_of(first), leaves_of(second)
    return [f"{n}: {a.get(n)!r} -> {b.get(n)!r}" for n in sorted(a.keys() | b.keys()) if a.get(n) != b.get(n)]
