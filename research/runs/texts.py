"""Prepare the texts of a run: split the corpus, fit the vocabulary on the training texts, and encode all texts."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.data.batches import WIDTH_COST, WIDTH_COST_PRETRAINED, WIDTH_COST_SKIPPING, choose_widths
from research.data.corpora import Corpus
from research.data.splits import Split, split_corpus
from research.data.tokenized_corpus import encode_corpus, fit_vocabulary, intern_corpus
from research.data.tokenizer import Encoded, build_tokenizer, encode
from research.data.tokenizer_files import read_given_tokenizer
from research.data.unlabelled_texts import TextFile, pretraining_split
from research.data.vectors import embedding_rows, extend_vocabulary, read_vectors
from research.errors import UserError
from research.models import load_module
from research.settings import Config, Data, Pretraining, is_tokenizer_file, repeat_of
from research.training.programs import Shapes
from research.training.step import Capacity

_MOST_TEXTS_KEPT = 30_000  # of a corpus whose splits and tokens are kept in memory, for several folds
_PADDING_TOKENS = ("[PAD]", "<pad>")  # what tokenizers call padding


class RunSpec(NamedTuple):
    """All that determines the result of a run."""

    config: Config
    corpus: Corpus | TextFile  # a plain file only in pre-training
    folds: int  # 0 with a corpus that has a test split, or if no text is tested
    fold: int
    repeat: int
    refit_epochs: int = 0  # if set, the run trains on all texts for so many epochs, and holds out nothing


class WordVectors(NamedTuple):
    """The word vectors that an embedding of V words starts from."""

    values: np.ndarray  # float32 [V, D]
    has_vector: np.ndarray  # bool [V], which rows of `values` are vectors


class RunTexts(NamedTuple):
    """The texts of a run, encoded with its vocabulary."""

    split: Split
    vocabulary: dict[str, int]
    tokenizer: str  # `tokenizer.json`
    vectors: WordVectors | None
    train: Encoded
    validation: Encoded
    test: Encoded
    shapes: Shapes


class _Tokens(NamedTuple):
    """The texts of a corpus as tokens of a run's vocabulary."""

    vocabulary: dict[str, int]
    tokenizer: str
    vectors: WordVectors | None
    parts: Sequence[Encoded]  # of train, validation and test
    lengths: np.ndarray  # int [N], of all texts


def split_of(spec: RunSpec) -> Split:
    """Return the run's split of its corpus.

    Raises:
      UserError: the fold does not fit the corpus.
    """
    config = spec.config
    if spec.refit_epochs:
        return _split_of_refit(spec)
    arguments = {
        "folds": spec.folds,
        "fold": spec.fold,
        "repeat": repeat_of(config, "split", spec.repeat),
        "train_size": config.data.train_size,
    }
    if isinstance(config.training, Pretraining):
        return pretraining_split(spec.corpus, config.seed, **arguments)
    fraction = config.training.validation_fraction
    return split_corpus(spec.corpus, config.seed, **arguments, validation_fraction=fraction)


def _split_of_refit(spec: RunSpec) -> Split:
    """Return all texts as training texts."""
    if spec.config.data.train_size:
        raise UserError(
            f"config.data.train_size is {spec.config.data.train_size}, expected 0: a refit trains on all texts"
        )
    nothing = np.empty(0, np.int64)
    return Split(np.arange(len(spec.corpus)), nothing, nothing)


def prepare_texts(spec: RunSpec) -> RunTexts:
    """Split the corpus, fit the vocabulary on the training texts and encode all texts.

    Raises:
      UserError: the fold does not fit the corpus, or vectors, weights or a tokenizer cannot be read.
    """
    split, tokens = _split_and_tokenize(spec)
    if _is_given_tokenizer(spec.config.data):
        _require_padding(spec.config.model.module, tokens.vocabulary)
    train, validation, test = tokens.parts
    # All texts determine the shapes, so that every fold uses the same programs; widths change only the padding.
    capacity = Capacity(tokens=int(tokens.lengths.sum()), texts=len(tokens.lengths))
    return RunTexts(
        split=split,
        vocabulary=tokens.vocabulary,
        tokenizer=tokens.tokenizer,
        vectors=tokens.vectors,
        train=train,
        validation=validation,
        test=test,
        shapes=Shapes(_widths(spec.config, tokens.lengths), capacity),
    )


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """A run whose split and tokens are wanted; equal if all that decides them is equal, whatever the model."""

    corpus: Corpus
    data: str  # as JSON
    place: tuple[int | float, ...]  # of the run among those that share the corpus
    spec: RunSpec = dataclasses.field(compare=False)


def _split_and_tokenize(spec: RunSpec) -> tuple[Split, _Tokens]:
    """Return the split of a run and its tokens, which the runs of other variants on a small corpus share."""
    config = spec.config
    reads_files = _is_given_tokenizer(config.data) or config.data.vectors != "none"  # which may change
    if isinstance(config.training, Pretraining) or reads_files or len(spec.corpus) > _MOST_TEXTS_KEPT:
        return _make_split_and_tokens(spec)
    repeat, fraction = repeat_of(config, "split", spec.repeat), config.training.validation_fraction
    place = (config.seed, spec.folds, spec.fold, repeat, fraction, bool(spec.refit_epochs))
    return _recent_split_and_tokens(_Wanted(spec.corpus, json.dumps(dataclasses.asdict(config.data)), place, spec))


@functools.lru_cache(maxsize=8)
def _recent_split_and_tokens(wanted: _Wanted) -> tuple[Split, _Tokens]:
    return _make_split_and_tokens(wanted.spec)


def _make_split_and_tokens(spec: RunSpec) -> tuple[Split, _Tokens]:
    split, data = split_of(spec), spec.config.data
    tokenize = _tokens_by_given_tokenizer if _is_given_tokenizer(data) else _tokens_of_words
    return split, tokenize(spec.corpus, split, data)


def _is_given_tokenizer(data: Data) -> bool:
    return data.weights != "none" or is_tokenizer_file(data.tokens)


def _require_padding(module: str, vocabulary: dict[str, int]) -> None:
    """Raise UserError if the model reads padding as a token, and the vocabulary has another token in its place."""
    if not getattr(load_module(module), "reads_padding", False):
        return
    first = next((token for token, token_id in vocabulary.items() if token_id == 0), None)
    if first not in _PADDING_TOKENS:
        raise UserError(
            f"{module} reads padding as token 0, which is {first!r} in config.data.tokens, expected a tokenizer whose "
            f"token 0 is {' or '.join(_PADDING_TOKENS)}"
        )


def _widths(config: Config, lengths: np.ndarray) -> tuple[int, ...]:
    if config.data.weights != "none":
        return choose_widths(lengths, most=12, multiple=4, cost=WIDTH_COST_PRETRAINED)
    skips = getattr(load_module(config.model.module), "skips_padding", False)
    return choose_widths(lengths, cost=WIDTH_COST_SKIPPING if skips else WIDTH_COST)


def _tokens_of_words(corpus: Corpus, split: Split, data: Data) -> _Tokens:
    """Encode with the vocabulary of the training split, extended by the words of the word vectors if there are any."""
    interned, rows = intern_corpus(corpus, data), None
    vocabulary = fit_vocabulary(interned, split.train, data.vocab_size)
    if data.vectors != "none":
        vectors = read_vectors(data.vectors, interned.words, commonest=data.vocab_size)
        vocabulary = extend_vocabulary(vocabulary, vectors, data.vocab_size)
        rows = WordVectors(*embedding_rows(vectors, vocabulary, data.vocab_size))
    tokenizer = build_tokenizer(vocabulary, data).to_str(pretty=True)
    parts = [encode(interned, vocabulary, corpus.labels, part, data) for part in split]
    lengths = np.minimum(np.diff(interned.offsets), data.max_length)
    return _Tokens(vocabulary, tokenizer, rows, parts, lengths)


def _tokens_by_given_tokenizer(corpus: Corpus, split: Split, data: Data) -> _Tokens:
    """Encode with the tokenizer of the encoder that the run starts from, or of a file."""
    tokenizer = read_given_tokenizer(data)
    text = tokenizer.to_str(pretty=True)
    encoded = encode_corpus(corpus, text)
    parts = [encoded.take(part, corpus.labels[part]) for part in split]
    return _Tokens(tokenizer.get_vocab(), text, None, parts, encoded.lengths)
