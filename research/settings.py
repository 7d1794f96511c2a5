"""Settings: typed dataclasses whose fields are the flags (`--config.optimizer.learning_rate=3e-4`).

A variant is a function `get_config() -> Config` in `configs/`. Its `model` part is made from the fields of the linen
module that it names (`research.models.settings_for`). Every other setting is declared here, once, with its limits.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

_PARTS = ("model", "data", "optimizer", "training")
# Settings that decide which epoch is kept.
_CHOOSE_EPOCH = {"training.select", "training.patience", "training.min_steps"}
# Path-valued settings. They are ignored when two configs are compared; the content is compared by checksum.
_PLACES = ("init_from", "data.vectors")
METRIC = "METRIC"  # stands for metrics, which are defined in a layer above
# The kinds of tokens; any other value of `data.tokens` is the path of a tokenizer.
TOKENS = ("words", "characters", "chinese_words", "pieces")
# The values that switch a setting off, as `--drop` does: of a bool, a number, a name.
OFF = ("false", "0", "none")


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
    """Declare a dataclass field with the limits that `validate` checks (`research.settings_validation`).

    Args:
      default: the default value; its type is the type of the setting.
      what: one phrase for `--help`; empty if the name says it all.
      choices: the allowed values; `METRIC` among them stands for the names of the metrics that can choose epochs.
      low: the smallest allowed value.
      high: the largest allowed value.
      limits_length: whether the model reads no more tokens of a text than this value. It is called with the dataclass
        that holds the setting, as is `read`.
      read: whether the setting has an effect.
    """
    about = {"what": what, "choices": choices, "low": low, "high": high, "limits_length": limits_length, "read": read}
    return dataclasses.field(default=default, metadata=about)


def is_rate(field: dataclasses.Field) -> bool:
    """Return whether a setting of a model is a probability, such as a dropout rate, whatever its name."""
    low, high = (field.metadata.get(limit) for limit in ("low", "high"))
    return isinstance(field.default, float) and low == 0 and high is not None and high <= 1


@dataclasses.dataclass
class Data:
    """How texts become token ids. Tokenizer and vocabulary are fitted on the training split alone."""

    vocab_size: int = setting(10_000, "size of the vocabulary, with the padding and unknown tokens", low=3)
    max_length: int = setting(100, "number of tokens that are kept of each text", low=1)
    keep: str = setting(
        "first", "which tokens of a longer text are kept: the first or the last", choices=("first", "last")
    )
    tokens: str = setting(
        "words",
        "what a token is. words: each word, and each Chinese character. characters. chinese_words: Chinese words, by a "
        "dictionary. pieces: those of data.weights. FILE: the tokens of a tokenizer.json; vocab_size is then its size",
    )
    lowercase: bool = setting(True, "turn texts into lower case")
    # "not" is a stop word, so they are kept by default.
    stop_words: str = setting(
        "none", "the language whose stop words are removed", choices=("none", "english", "chinese")
    )
    train_size: int = setting(0, "number of training texts to use; 0 uses all", low=0)
    vectors: str = setting(
        "none", "pretrained word vectors for the embedding: glove (50 numbers a word), or a .txt or .vec file"
    )
    weights: str = setting(
        "none", "pretrained weights for the encoder: minilm, or a folder that HuggingFace's libraries saved"
    )
    from_scratch: bool = setting(
        False, "start at random: take the tokenizer and the sizes from data.weights, but not the weights"
    )


def _has_rate(optimizer: "Optimizer") -> bool:
    return optimizer.name != "lbfgs"


@dataclasses.dataclass
class Optimizer:
    """The optimizer; see `research.training.optimizers`.

    Plain gradient descent is `name="sgd"` with `training.batch_size=0`.
    """

    name: str = setting(
        "adam",
        "optimizer; lbfgs is L-BFGS with a line search",
        choices=("adam", "adamw", "sgd", "adadelta", "lion", "lbfgs"),
    )
    learning_rate: float = setting(
        1e-3, "the highest learning rate of the schedule; lbfgs uses a line search instead", low=0.0, read=_has_rate
    )
    schedule: str = setting(
        "constant", "learning-rate schedule", choices=("constant", "linear", "cosine", "rsqrt"), read=_has_rate
    )
    warmup: float = setting(
        0.0, "fraction of the steps in which the learning rate rises from 0", low=0.0, high=0.9, read=_has_rate
    )
    momentum: float = setting(
        0.0, "momentum of sgd", low=0.0, high=0.999, read=lambda optimizer: optimizer.name == "sgd"
    )
    weight_decay: float = setting(
        0.0, "weight decay, applied to weight matrices and not to biases", low=0.0, read=_has_rate
    )
    clip_norm: float = setting(
        0.0, "clip the global gradient norm to this value; 0 disables clipping", low=0.0, read=_has_rate
    )
    max_norm: float = setting(
        0.0, "largest norm of a column of the classifier's weight matrix (Kim 2014); 0 disables the limit", low=0.0
    )
    layer_decay: float = setting(
        1.0,
        "learning rate of a layer, relative to the layer above it (Howard & Ruder 2018); 1 gives all the same rate",
        low=0.0,
        high=1.0,
        read=_has_rate,
    )
    frozen: int = setting(
        0,
        "number of layers that are not trained, from the lowest up; the first is the embedding",
        low=0,
        read=_has_rate,
    )


_COMPUTE_DTYPE = "dtype of the activations; weights stay float32"


def _selects_epoch(training: "Training") -> bool:
    return training.select != "last"


@dataclasses.dataclass
class Training:
    """How long a run is trained, with which loss, and which epoch is kept; see `research.training.loop`."""

    epochs: int = setting(
        60, "largest number of passes over the training texts; early stopping usually ends a run sooner", low=1
    )
    batch_size: int = setting(32, "texts per step; 0 puts the whole training split into one step", low=0)
    select: str = setting(
        "auto",
        "validation metric that selects the epoch; ties are broken by the loss. last: keep the last epoch. auto: "
        "log_loss with fewer than 50 validation texts, macro_f1 if one class has more than 80 %, else accuracy",
        choices=("auto", "last", METRIC),
    )
    validation_fraction: float = setting(
        0.1,
        "share of the training texts that is held out for validation; a corpus's own validation split takes precedence",
        low=0.01,
        high=0.9,
    )
    patience: int = setting(
        3,
        "early stopping: number of epochs without a better validation metric or loss; 0 disables it",
        low=0,
        read=_selects_epoch,
    )
    min_steps: int = setting(900, "early stopping waits for this number of optimizer steps", low=0, read=_selects_epoch)
    class_weights: str = setting(
        "none",
        "weights of the classes in the loss; balanced: each class has the same total weight",
        choices=("none", "balanced"),
    )
    # 1 / C of scikit-learn.
    l2: float = setting(
        0.0, "L2 penalty: adds l2 / (2 N) * |weight matrices|^2 to the mean loss over N training texts", low=0.0
    )
    label_smoothing: float = setting(
        0.0, "label smoothing: share of the label's probability that is spread over all classes", low=0.0, high=0.5
    )
    compute_dtype: str = setting("float32", _COMPUTE_DTYPE, choices=("float32", "bfloat16"))
    random_deletion: float = setting(
        0.0, "probability that a token of a training text is deleted, drawn again each epoch", low=0.0, high=0.9
    )
    random_swap: float = setting(
        0.0, "number of swaps of two tokens, as a fraction of the length of a training text", low=0.0, high=1.0
    )


@dataclasses.dataclass
class Pretraining:
    """The settings that `pretrain` has in place of `Training`; see `research.pretraining.pretrain`."""

    epochs: int = setting(10, "passes over the texts", low=1)
    batch_size: int = setting(64, "rows per step", low=1)
    accumulation: int = setting(
        1, "gradient accumulation: number of parts in which a batch is computed, to save memory", low=1
    )
    select: str = setting(
        "last", "the epoch that is kept: the last, or the one of lowest loss", choices=("last", "log_loss")
    )
    compute_dtype: str = setting("float32", _COMPUTE_DTYPE, choices=("float32", "bfloat16"))
    patience: ClassVar[int] = 0
    min_steps: ClassVar[int] = 0


@dataclasses.dataclass
class Config:
    """All settings of a run. With the corpus, the fold and the repeat they determine it."""

    model: Any  # from research.models.settings_for: the fields of the module, its `module` and whether it `fits_itself`
    seed: int = setting(
        0, "random seed: splits, initial weights, data order and dropout follow from it", low=0, high=2**31 - 1
    )
    init_from: str = setting(
        "none", "run folder to take initial parameters from, where they fit; {fold} and {repeat} stand for this run's"
    )
    varies: str = setting(
        "all",
        "random streams that differ between repeats: all, or one alone to measure its effect",
        choices=("all", "split", "init", "order", "dropout"),
    )
    data: Data = dataclasses.field(default_factory=Data)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    training: Training | Pretraining = dataclasses.field(default_factory=Training)


def repeat_of(config: Config, stream: str, repeat: int) -> int:
    """Return the repeat whose random stream ("split", "init", "order", "dropout") is drawn; 0 if it does not vary."""
    return repeat if config.varies in ("all", stream) else 0


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """Yield `(dotted name, field, value)` of every setting."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field, value


def is_fitted_whole(config: Config) -> bool:
    """Return whether the model of a run fits itself to all texts at once, so that no epoch is chosen among several."""
    training = config.training
    if not isinstance(training, Training) or config.optimizer.name != "lbfgs" or training.batch_size:
        return False
    return config.model.fits_itself and not (training.random_deletion or training.random_swap)


def names_read(config: Config) -> set[str]:
    """Return the dotted names of the settings that have an effect on a variant."""
    read = {
        f"{prefix}{field.name}"
        for prefix, part in parts(config)
        for field in dataclasses.fields(part)
        if f"{prefix}{field.name}" not in _PARTS and field.metadata.get("read", lambda part: True)(part)
    }
    return read - _CHOOSE_EPOCH if is_fitted_whole(config) else read


def parts(config: Config) -> Iterator[tuple[str, Any]]:
    """Yield `(prefix of the dotted names, dataclass)` of each part of a config."""
    yield "", config
    for name in _PARTS:
        yield f"{name}.", getattr(config, name)


def leaves_of(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{dotted name: value}` of a dictionary that `to_dict` made."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= leaves_of(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def to_dict(config: Config) -> dict[str, Any]:
    """Return the settings as JSON types; `model.module` names the module of the model."""
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    settings["model"] = {"module": config.model.module, **settings["model"]}
    return settings


def config_hash(config: Config) -> str:
    """Return a hash of the resolved settings."""
    return hashlib.sha256(json.dumps(to_dict(config), sort_keys=True).encode()).hexdigest()[:16]


def is_pretraining(settings: dict[str, Any]) -> bool:
    """Return whether a dictionary that `to_dict` made is of a pre-training run."""
    return "accumulation" in settings.get("training", {})


def is_tokenizer_file(tokens: str) -> bool:
    """Return whether the value of `data.tokens` is the path of a tokenizer."""
    return tokens not in TOKENS


def without_places(settings: dict[str, Any]) -> dict[str, Any]:
    """Return `{dotted name: value}` of a dictionary that `to_dict` made, without paths, whose content may be equal."""
    flat = {name: value for name, value in leaves_of(settings).items() if name not in _PLACES}
    if is_tokenizer_file(flat.get("data.tokens", TOKENS[0])):
        flat["data.tokens"] = "a tokenizer file"
    return flat


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return the settings in which two dictionaries of `to_dict` differ, as `name: value -> value`."""
    before, after = leaves_of(first), leaves_of(second)
    names = sorted(before.keys() | after.keys())
    return [f"{n}: {before.get(n)!r} -> {after.get(n)!r}" for n in names if before.get(n) != after.get(n)]
