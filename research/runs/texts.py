"""What a run trains on: its split of a corpus, the vocabulary of its training texts, and all texts as ids."""

import functools
import importlib.metadata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.data.batches import WIDTH_COST, WIDTH_COST_PRETRAINED, WIDTH_COST_SKIPPING, choose_widths
from research.data.cache import cached_of_texts
from research.data.corpora import Corpus
from research.data.splits import Split, split_corpus
from research.data.tokenizer import (
    Encoded,
    Interned,
    build_tokenizer,
    encode,
    encode_texts,
    intern_texts,
    pipeline_text,
    pretrained_tokenizer,
    read_tokenizer,
)
from research.data.unlabelled_texts import TextFile
from research.data.vectors import embedding_rows, extend_vocabulary, read_vectors
from research.data.vocabulary import fit_vocabulary
from research.models import load_module
from research.settings import Config, Data, repeat_of
from research.training.feed import Room


class RunSpec(NamedTuple):
    """What a run is a function of."""

    config: Config
    corpus: Corpus | TextFile  # a plain file in pre-training alone
    folds: int  # 0 with a corpus that has a test split
    fold: int
    repeat: int


class Prepared(NamedTuple):
    """The texts of a run, encoded with its vocabulary."""

    split: Split
    vocabulary: dict[str, int]
    tokenizer: str  # `tokenizer.json`
    # Rows that the embeddings start from, float32 [V, D], and which of them have a vector, bool [V].
    vectors: tuple[np.ndarray, np.ndarray] | None
    train: Encoded
    validation: Encoded
    test: Encoded
    widths: tuple[int, ...]
    room: Room


def split_into_tokens(corpus: Corpus, data: Data) -> Interned | Encoded:
    """The words of a corpus or, with weights, the pieces of their tokenizer; once for all runs that split alike."""
    if data.weights == "none":
        return intern_corpus(corpus, data)
    return _encode_corpus(corpus, pretrained_tokenizer(data).to_str(pretty=True))


def cut_sentence(corpus: Corpus, data: Data) -> str:
    """What is not read of the texts, in a sentence; empty where that is hardly any."""
    found, most = split_into_tokens(corpus, data), data.max_length
    # Pieces were cut already, with what stands around them.
    share = np.mean(np.diff(found.offsets) > (most - isinstance(found, Encoded)))
    if share < 0.005:
        return ""
    return (
        f"{100 * share:.0f} % of the texts have more than data.max_length={most} tokens, "
        f"of which the {data.keep} {most} are read"
    )


def intern_corpus(corpus: Corpus, data: Data) -> Interned:
    """`intern_texts` of a corpus, once for all runs that clean and split alike."""
    return _intern(corpus, data.tokens, data.lowercase, data.stop_words)


@functools.lru_cache(maxsize=4)
def _intern(corpus: Corpus, tokens: str, lowercase: bool, stop_words: str) -> Interned:
    data = Data(tokens=tokens, lowercase=lowercase, stop_words=stop_words)

    def make() -> dict[str, np.ndarray]:
        words, *arrays = intern_texts(corpus.texts, data)
        lines = "".join(f"{word}\n" for word in words).encode()  # no word holds white space
        return {"lines": np.frombuffer(lines, np.uint8), "tokens": arrays[0], "offsets": arrays[1]}

    found = cached_of_texts(corpus.texts, "words", f"{pipeline_text(data)} {corpus.checksum}", make)
    return Interned(tuple(found["lines"].tobytes().decode().split("\n")[:-1]), found["tokens"], found["offsets"])


class _Words(NamedTuple):
    """What the texts of a corpus are to a run."""

    vocabulary: dict[str, int]
    tokenizer: str
    vectors: tuple[np.ndarray, np.ndarray] | None
    parts: Sequence[Encoded]  # of train, validation and test
    lengths: np.ndarray  # int [N], of all texts


def prepare(spec: RunSpec) -> Prepared:
    """Splits and encodes.

    Raises:
      UserError: the fold does not fit the corpus, or vectors or weights cannot be read.
    """
    data, corpus = spec.config.data, spec.corpus
    which = {"folds": spec.folds, "fold": spec.fold, "repeat": repeat_of(spec.config, "split", spec.repeat)}
    split = split_corpus(corpus, spec.config.seed, **which, train_size=data.train_size)
    words = (_fitted_words if data.weights == "none" else _pretrained_pieces)(corpus, split, data)
    train, validation, test = words.parts
    return Prepared(
        split=split,
        vocabulary=words.vocabulary,
        tokenizer=words.tokenizer,
        vectors=words.vectors,
        train=train,
        validation=validation,
        test=test,
        # From the lengths of all texts, so that every fold uses the same programs; widths change only the padding.
        widths=_widths(spec.config, words.lengths),
        room=Room(tokens=int(words.lengths.sum()), texts=len(words.lengths)),
    )


def _widths(config: Config, lengths: np.ndarray) -> tuple[int, ...]:
    if config.data.weights != "none":
        return choose_widths(lengths, most=12, multiple=4, cost=WIDTH_COST_PRETRAINED)
    skips = getattr(load_module(config.model.module), "skips_padding", False)
    return choose_widths(lengths, cost=WIDTH_COST_SKIPPING if skips else WIDTH_COST)


def _fitted_words(corpus: Corpus, split: Split, data: Data) -> _Words:
    """With the vocabulary of the training split and, with vectors, of theirs."""
    interned = intern_corpus(corpus, data)
    vocabulary, rows = fit_vocabulary(interned, split.train, data.vocab_size), None
    if data.vectors != "none":
        vectors = read_vectors(data.vectors, interned.words, commonest=data.vocab_size)
        vocabulary = extend_vocabulary(vocabulary, vectors, data.vocab_size)
        rows = embedding_rows(vectors, vocabulary, data.vocab_size)
    tokenizer = build_tokenizer(vocabulary, data).to_str(pretty=True)
    parts = [encode(interned, vocabulary, corpus.labels, part, data) for part in split]
    lengths = np.minimum(np.diff(interned.offsets), data.max_length)
    return _Words(vocabulary, tokenizer, rows, parts, lengths)


def _pretrained_pieces(corpus: Corpus, split: Split, data: Data) -> _Words:
    """With the vocabulary of the encoder that is started from."""
    tokenizer = pretrained_tokenizer(data)
    every = _encode_corpus(corpus, text := tokenizer.to_str(pretty=True))
    parts = [every.take(part, corpus.labels[part]) for part in split]
    return _Words(tokenizer.get_vocab(), text, None, parts, every.lengths)


@functools.lru_cache(maxsize=4)
def _encode_corpus(corpus: Corpus, tokenizer: str) -> Encoded:
    """All texts as pieces."""

    def make() -> dict[str, np.ndarray]:
        return vars(encode_texts(read_tokenizer(tokenizer), corpus.texts, Data(tokens="pieces")))

    made_from = f"format 2 {corpus.checksum} {tokenizer} {importlib.metadata.version('tokenizers')}"
    return Encoded(**cached_of_texts(corpus.texts, "pieces", made_from, make))
