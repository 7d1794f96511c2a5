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
_NOT_OF_LBFGS = ("schedule", "warmup", "weight_decay", "clip_norm", "layer_decay", "frozen")
_MOST = 100_000_000  # of an integer setting that names no limit of its own: sizes beyond do not fit into int32 shapes


def setting(
    default: Any,
    what: str = "",
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    limits_length: Callable[[Any], bool] | None = None,
) -> Any:
    """A dataclass field with limits that `validate` checks.

    Args:
      default: the value where nothing else is said; its type is the setting's.
      what: it is, where its name does not say so; `--help` shows it.
      choices: one of these.
      low: and high: `low <= value <= high`.
      limits_length: (settings of the model) -> whether it then reads no more tokens of a text than this.
    """
    about = {"what": what, "choices": choices, "low": low, "high": high, "limits_length": limits_length}
    return dataclasses.field(default=default, metadata=about)


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


@dataclasses.dataclass
class Optimizer:
    """See `research.training.optimizers`. Plain gradient descent is sgd with `training.batch_size` 0."""

    name: str = setting("adam", "of the optimizer", choices=("adam", "adamw", "sgd", "adadelta", "lion", "lbfgs"))
    learning_rate: float = setting(1e-3, "at its highest; lbfgs searches along a line instead", low=0.0)
    schedule: str = setting("constant", "of the rate", choices=("constant", "linear", "cosine", "rsqrt"))
    warmup: float = setting(0.0, "share of the steps over which the rate rises from 0", low=0.0, high=0.9)
    momentum: float = setting(0.0, "of sgd", low=0.0, high=0.999)
    weight_decay: float = setting(0.0, "of matrices alone", low=0.0)
    clip_norm: float = setting(0.0, "most of the whole gradient's norm; 0: not clipped", low=0.0)
    max_norm: float = setting(0.0, "of each column of the classifier's matrix (Kim 2014); 0: no limit", low=0.0)
    layer_decay: float = setting(
        1.0,
        "each layer's rate as a share of that of the layer above it (Howard & Ruder 2018); 1: all learn alike",
        low=0.0,
        high=1.0,
    )
    frozen: int = setting(0, "lowest layers that stay as they are; the first is the embedding", low=0)


_COMPUTE_DTYPE = "of activations; weights are float32"


@dataclasses.dataclass
class Training:
    epochs: int = setting(10, "at most", low=1)
    batch_size: int = setting(32, "texts of a step; 0: the whole training split", low=0)
    select: str = setting(
        "accuracy",
        "what chooses the epoch, on validation",
        choices=("accuracy", "macro_recall", "macro_f1", "log_loss", "last"),
    )
    patience: int = setting(3, "stop after so many epochs without a better one; 0: never", low=0)
    class_weights: str = setting("none", "of the loss", choices=("none", "balanced"))
    # Scikit-learn's 1 / C.
    l2: float = setting(0.0, "adds l2 / (2 N) * |matrices|^2 to the mean loss over N training texts", low=0.0)
    label_smoothing: float = setting(0.0, low=0.0, high=0.5)
    compute_dtype: str = setting("float32", _COMPUTE_DTYPE, choices=("float32", "bfloat16"))
    random_deletion: float = setting(0.0, "of a training text's tokens, anew each epoch", low=0.0, high=0.9)
    random_swap: float = setting(0.0, "swaps of two tokens, as a share of a training text's length", low=0.0, high=1.0)


@dataclasses.dataclass
class Pretraining:
    """What `pretrain` has in the place of `Training`; see `research.training.pretrain`."""

    epochs: int = setting(10, low=1)
    batch_size: int = setting(64, "rows of a step", low=1)
    accumulation: int = setting(1, "parts that a batch is taken in, one after the other, for want of memory", low=1)
    select: str = setting("last", "which epoch is kept", choices=("last", "log_loss"))
    compute_dtype: str = setting("float32", _COMPUTE_DTYPE, choices=("float32", "bfloat16"))
    patience: ClassVar[int] = 0


@dataclasses.dataclass
class Config:
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
    names = {name for name, _, _ in leaves(config)}
    if config.optimizer.name == "lbfgs":
        names -= {f"optimizer.{name}" for name in ("learning_rate", *_NOT_OF_LBFGS)}
    return names


def leaves_of(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of what `to_dict` wrote."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= leaves_of(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _moving(training: Any) -> str:
    """The setting that deletes or moves tokens, if one does."""
    return next((name for name in ("random_deletion", "random_swap") if getattr(training, name, 0)), "")


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value is of its setting's type; an integer is a number too."""
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, tuple):  # its numbers are looked at one by one
        return isinstance(value, tuple)
    return type(value) is type(default)


def validate(config: Config) -> Config:
    """Returns `config` if there is no setting that nothing reads and every value is within its field's limits.

    Raises:
      UserError: an unknown setting, or a value of another type, out of range or not among the choices.
    """
    for prefix, part in (("", config), *((f"{n}.", getattr(config, n)) for n in _PARTS)):
        if not dataclasses.is_dataclass(part):
            raise UserError(f"config.{prefix.removesuffix('.')} is {part!r}, expected settings as `settings_for` makes")
        known = [field.name for field in dataclasses.fields(part)]
        if unknown := [name for name in vars(part) if name not in known]:
            raise UserError(f"config.{prefix}{unknown[0]} is no setting, {expected(unknown[0], known)}")
    for name, field, value in leaves(config):
        if not _is_like(value, field.default):
            raise UserError(f"config.{name} is {value!r}, expected a value like {field.default!r}")
        choices, low, high = (field.metadata.get(key) for key in ("choices", "low", "high"))
        if choices and value not in choices:
            raise UserError(f"config.{name} is {value!r}, expected one of {', '.join(choices)}")
        values = value if isinstance(value, tuple) else (value,)
        if not values:
            raise UserError(f"config.{name} is (), expected numbers like {field.default!r}")
        for number in values:
            if isinstance(value, tuple) and not isinstance(number, type(field.default[0])):
                raise UserError(f"config.{name} is {value!r}, expected numbers like {field.default!r}")
            if high is None and isinstance(number, int):
                high = _MOST
            # `not (a <= b)` rather than `a > b`: a NaN is refused too.
            if (low is not None and not low <= number) or (high is not None and not number <= high):
                upper = "" if high is None else f" and at most {high}"
                raise UserError(f"config.{name} is {value!r}, expected at least {low}{upper}")
            if isinstance(number, float) and number in (float("inf"), float("-inf")):
                raise UserError(f"config.{name} is {value!r}, expected a finite number")
    optimizer = config.optimizer
    if optimizer.momentum and optimizer.name != "sgd":
        raise UserError(f"config.optimizer.momentum is {optimizer.momentum}, expected 0: it is read by sgd alone")
    if optimizer.schedule == "rsqrt" and not optimizer.warmup:
        raise UserError("config.optimizer.schedule=rsqrt falls from the end of the warmup, expected a warmup above 0")
    if optimizer.name == "lbfgs":
        for name in _NOT_OF_LBFGS:
            value, default = getattr(optimizer, name), getattr(Optimizer(), name)
            if value != default:
                raise UserError(f"config.optimizer.{name} is {value}, expected {default}: it is not read by lbfgs")
    data = config.data
    fits_tokenizer = isinstance(config.training, Pretraining) and data.tokens == "pieces"
    if (data.tokens == "pieces") != (data.weights != "none") and not fits_tokenizer:
        raise UserError("config.data.tokens=pieces and config.data.weights need each other, expected both or neither")
    if data.weights != "none" and (data.vectors, data.stop_words, data.lowercase) != ("none", "none", True):
        raise UserError(
            "config.data.weights come with a tokenizer, expected vectors=none, stop_words=none and lowercase=true"
        )
    if data.tokens == "pieces" and (moved := _moving(config.training)):
        raise UserError(
            f"config.training.{moved} would move [CLS] and [SEP], expected 0 with config.data.tokens=pieces"
        )
    if data.from_scratch and data.weights == "none":
        raise UserError("config.data.from_scratch takes the tokenizer of config.data.weights, expected a bert:FOLDER")
    for name, field, value in leaves(config.model, "config.model."):
        limits = field.metadata.get("limits_length")
        if limits is not None and limits(config.model) and data.max_length > value:
            raise UserError(f"config.data.max_length is {data.max_length}, expected at most {name}={value}")
    return config


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
