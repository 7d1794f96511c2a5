"""What a run trains on: its split of a corpus, the vocabulary of its training texts, and all texts as ids."""

import functools
from typing import NamedTuple

import numpy as np

from research.data.batches import WIDTH_COST, WIDTH_COST_SKIPPING, choose_widths
from research.data.cache import cached
from research.data.corpora import Corpus
from research.data.splits import Split, split_corpus
from research.data.tokenizer import Encoded, Interned, encode, fit_vocabulary, intern_texts, pipeline_text
from research.data.vectors import embedding_rows, extend_vocabulary, read_vectors
from research.models import load_module
from research.settings import Config, Data, repeat_of
from research.training.feed import Room

_LONG = 2_000_000  # characters of a corpus whose words are kept in the cache: a second's work


class Plan(NamedTuple):
    """What a run is a function of."""

    config: Config
    corpus: Corpus
    folds: int  # 0 with a corpus that has a test split
    fold: int
    repeat: int


class Prepared(NamedTuple):
    """The texts of a run, encoded with its vocabulary."""

    split: Split
    vocabulary: dict[str, int]
    pretrained: tuple[np.ndarray, np.ndarray] | None  # the rows that the embeddings start from
    train: Encoded
    validation: Encoded
    test: Encoded
    widths: tuple[int, ...]
    room: Room


def intern_corpus(corpus: Corpus, data: Data) -> Interned:
    """`intern_texts` of a corpus, once for all runs that clean and split alike."""
    return _intern(corpus, data.tokens, data.lowercase, data.stop_words)


@functools.lru_cache(maxsize=4)
def _intern(corpus: Corpus, tokens: str, lowercase: bool, stop_words: str) -> Interned:
    data = Data(tokens=tokens, lowercase=lowercase, stop_words=stop_words)
    if sum(map(len, corpus.texts)) < _LONG:
        return intern_texts(corpus.texts, data)

    def make() -> dict[str, np.ndarray]:
        words, *arrays = intern_texts(corpus.texts, data)
        joined = "\n".join(words).encode()  # no word holds white space
        return {"words": np.frombuffer(joined, np.uint8), "tokens": arrays[0], "offsets": arrays[1]}

    found = cached("words", f"{corpus.checksum} {pipeline_text(data)}", make)
    return Interned(tuple(found["words"].tobytes().decode().split("\n")), found["tokens"], found["offsets"])


def prepare(plan: Plan) -> Prepared:
    """Splits and encodes; the vocabulary is that of the training split and, with vectors, of theirs."""
    data, corpus = plan.config.data, plan.corpus
    which = {"folds": plan.folds, "fold": plan.fold, "repeat": repeat_of(plan.config, "split", plan.repeat)}
    split = split_corpus(corpus, plan.config.seed, **which, train_size=data.train_size)
    interned = intern_corpus(corpus, data)
    vocabulary, pretrained = fit_vocabulary(interned, split.train, data.vocab_size), None
    if data.vectors != "none":
        vectors = read_vectors(data.vectors, interned.words, commonest=data.vocab_size)
        vocabulary = extend_vocabulary(vocabulary, vectors, data.vocab_size)
        pretrained = embedding_rows(vectors, vocabulary, data.vocab_size)
    encoded = [encode(interned, vocabulary, corpus.labels, part, data) for part in split]
    # From the lengths of all texts, so that every fold uses the same programs; widths change only the padding.
    skips = getattr(load_module(plan.config.model.module), "skips_padding", False)
    cost = WIDTH_COST_SKIPPING if skips else WIDTH_COST
    lengths = np.minimum(np.diff(interned.offsets), data.max_length)
    room = Room(tokens=int(lengths.sum()), texts=len(lengths))
    return Prepared(split, vocabulary, pretrained, *encoded, choose_widths(lengths, cost=cost), room)
