"""Prepare pre-training: check the settings, learn the vocabulary, and write the tokens of the texts to disk."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from research.atomic_files import write_text
from research.data.corpora import Corpus
from research.data.fingerprints import no_fingerprints
from research.data.pretrained_encoders import NAMES, read_pretraining
from research.data.splits import resolve_folds
from research.data.token_stream import Rows, Stream, make_row_filler, write_stream
from research.data.tokenized_corpus import learn_vocabulary
from research.data.tokenizer import (
    build_tokenizer,
    make_raw_encoder,
    read_tokenizer,
    set_truncation,
)
from research.data.tokenizer_files import read_given_tokenizer
from research.data.unlabelled_texts import Part, TextFile
from research.data.word_pieces import END, MASK, START, Special, learn_word_pieces
from research.errors import UserError
from research.models import guesser_shapes, load_module
from research.runs import run_files
from research.runs.source import find_seen_texts
from research.runs.texts import RunSpec, split_of
from research.settings import Config, Optimizer, Pretraining, is_tokenizer_file
from research.training.initial_state import require_memory


class PreparedStream(NamedTuple):
    """The texts as tokens on disk, with the tokenizer that made them."""

    tokenizer: str  # `tokenizer.json`
    special: Special | None  # the ids of special tokens; None for a language model
    num_ids: int  # the number of token ids in use
    train: Stream
    validation: Stream  # may be empty
    fill: Callable[..., Rows]  # see `make_row_filler`


def for_pretraining(config: Config) -> Config:
    """Return the settings to pre-train a variant: its model, matching tokens, and an optimizer for small models."""
    if isinstance(config.training, Pretraining):
        return config
    data, masked = config.data, getattr(load_module(config.model.module), "objective", "") == "masked"
    if masked:
        data = dataclasses.replace(data, tokens="pieces", max_length=min(128, config.model.max_positions))
    optimizer = Optimizer(
        name="adamw", learning_rate=1e-3, schedule="linear", warmup=0.05, weight_decay=0.01, clip_norm=1.0
    )
    return dataclasses.replace(config, data=data, optimizer=optimizer, training=Pretraining())


def resolve_pretraining_folds(texts: Corpus | TextFile, folds: int | None, fold: int) -> int:
    """Return the number of folds; 0 means that no fold is held out (see `pretraining_split`).

    Raises:
      UserError: the texts cannot be split into these folds.
    """
    if isinstance(texts, TextFile):
        if folds or fold:
            raise UserError(
                f"{texts.path} is read without labels to make folds by. Name them with --label_column, or leave out "
                "--folds and --fold"
            )
        return 0
    if fold and not folds and not texts.has("test"):
        raise UserError(f"--fold is {fold}, expected --folds with it; without --folds, no fold is held out")
    return resolve_folds(texts, folds or 0, needs_test=False)


def check_spec(spec: RunSpec) -> None:
    """Check the settings of a pre-training run.

    Raises:
      UserError: a setting is not used, contradicts another one, or needs more memory than there is.
    """
    config = spec.config
    if spec.repeat < 0:
        raise UserError(f"--repeat is {spec.repeat}, expected at least 0")
    require_memory(guesser_shapes(config))
    masked = load_module(config.model.module).objective == "masked"
    data, shortest = config.data, 5 if masked else 2
    if masked and config.model.family != "bert":
        raise UserError(
            f"config.model.family is {config.model.family}, expected bert, the only one that pretrain continues"
        )
    if masked != (data.tokens == "pieces"):
        expected = "pieces" if masked else "words, characters or a tokenizer file"
        raise UserError(f"config.data.tokens is {data.tokens}, expected {expected} for {config.model.module}")
    if data.max_length < shortest:
        raise UserError(
            f"config.data.max_length is {data.max_length}, expected at least {shortest}, to leave a token to guess"
        )
    if masked and data.vocab_size < 20:
        raise UserError(f"config.data.vocab_size is {data.vocab_size}, expected at least 20 for a vocabulary of pieces")
    if data.train_size and not (spec.folds or _has_test(spec)):
        raise UserError("config.data.train_size is not read in pre-training without --folds; leave it out")
    unused = {
        "init_from": config.init_from != "none",
        "data.vectors": data.vectors != "none",
        "data.stop_words": masked and data.stop_words != "none",
        "data.from_scratch": data.from_scratch,
        "optimizer.name=lbfgs": config.optimizer.name == "lbfgs",
        "optimizer.max_norm": config.optimizer.max_norm > 0,
    }
    if wrong := [name for name, is_set in unused.items() if is_set]:
        raise UserError(f"config.{wrong[0]} is not read in pre-training; leave it out")


def _has_test(spec: RunSpec) -> bool:
    return isinstance(spec.corpus, Corpus) and spec.corpus.has("test")


def check_batch(training: Pretraining, devices: int) -> None:
    """Raise UserError if a batch cannot be divided into equal parts."""
    parts = training.accumulation * devices
    if training.batch_size % parts:
        raise UserError(
            f"config.training.batch_size is {training.batch_size}, expected a multiple of {parts}, which is "
            f"config.training.accumulation={training.accumulation} times {devices} device(s)"
        )


def split_texts(spec: RunSpec) -> tuple[Part, Part]:
    """Return the training texts and the validation texts. A file is read completely, so errors come before writing.

    Raises:
      UserError: there are fewer than two texts, or a line of the file cannot be read.
    """
    texts = spec.corpus
    if isinstance(texts, TextFile):
        if sum(1 for _ in texts) < 2:
            raise UserError(f"{texts.path}: fewer than two texts, expected one to train on and one for validation")
        return Part(texts, None), Part(texts, None, held_out=True)
    split = split_of(spec)
    return Part(texts, split.train), Part(texts, split.validation, held_out=True)


def write_seen(folder: Path, train: Part, validation: Part, weights: str) -> None:
    """Write the fingerprints of the texts seen in this run and by the encoder that it starts from, if not done yet."""
    if (folder / run_files.SEEN).exists():
        return
    earlier = no_fingerprints()
    if weights not in ("none", *NAMES):
        seen = find_seen_texts(Path(weights), read_pretraining(weights), None)
        if not seen.is_complete:  # without the file, later runs know that the texts are unknown
            return
        earlier = seen.fingerprints
    count = len(earlier) + sum(1 for part in (train, validation) for _ in part)
    run_files.write_seen(folder, itertools.chain([earlier], train.fingerprints(), validation.fingerprints()), count)


def prepare_stream(spec: RunSpec, train: Part, validation: Part, folder: Path) -> PreparedStream:
    """Learn the vocabulary and write the tokens, unless this was done before an interruption.

    Raises:
      UserError: the tokenizer lacks special tokens, or the texts have no tokens.
    """
    data, batch_size = spec.config.data, spec.config.training.batch_size
    path = folder / run_files.TOKENIZER
    if path.exists():
        tokenizer = read_tokenizer(path.read_text("utf-8"))
    elif data.weights != "none" or is_tokenizer_file(data.tokens):
        tokenizer = read_given_tokenizer(data)
    elif data.tokens == "pieces":
        tokenizer = set_truncation(learn_word_pieces(lambda: iter(train), data), data)
    else:
        tokenizer = build_tokenizer(learn_vocabulary(train, data), data)
    vocabulary, text = tokenizer.get_vocab(), tokenizer.to_str(pretty=True)
    objective, special = load_module(spec.config.model.module).objective, None
    if objective == "masked":
        if missing := [token for token in (START, END, MASK) if token not in vocabulary]:
            raise UserError(f"{data.weights}: its tokenizer has no {', '.join(missing)}, expected that of a BERT")
        special = Special(*(vocabulary[token] for token in (START, END, MASK)))
    write_text(path, text)
    most, end = data.max_length, None
    if special is not None:  # a row is [CLS] a [SEP] b [SEP]
        most, end = (data.max_length - 3) // 2, special.end
    write = functools.partial(
        write_stream, encode=make_raw_encoder(tokenizer, data), vocab_size=data.vocab_size, most=most, end=end
    )
    train_stream = write(folder / run_files.STREAM / "train", train)
    validation_stream = write(folder / run_files.STREAM / "validation", validation)
    if not len(train_stream.rows):
        raise UserError(f"{spec.corpus.name}: its texts have no tokens, expected some to train on")
    fill = make_row_filler(objective, (batch_size, data.max_length), special)
    return PreparedStream(text, special, len(vocabulary), train_stream, validation_stream, fill)
