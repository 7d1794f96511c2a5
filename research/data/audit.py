"""What may be wrong with a corpus: texts that repeat, across splits above all, and texts under several labels.

Texts are *alike* if they have one label and the same words, whatever their case, order and punctuation, and *nearly
alike* if they have one label and at least nine tenths of the words of both in common (Jaccard), as edited copies have.
Texts *contradict* each other if they have different labels and are the same but for case and white space.
"""

import bisect
import collections
import dataclasses
import difflib
import functools
import itertools
import math
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.data.cache import cached_of_texts
from research.data.corpora import KNOWN, Corpus, connected, load, make_corpus
from research.data.fingerprints import WORD
from research.data.reader import Columns, Row
from research.errors import UserError

_KEEP_FIRST = ("test", "validation", "train", "all")  # of equal texts, the one that is kept
_NEARLY = 0.9
_LEAST_WORDS = 10  # in fewer, one other word may mean another thing
_MOST_CANDIDATES = 200  # for one word; of texts made from a template, some pairs are passed over
_FORMAT = 1  # of the cached near copies; raise it when other texts are found to be alike


_FEW, _SMALL = 5, 0.02  # a class of fewer texts, and of a smaller share, may be a misspelt label
_MOST_NAMED = 5  # such classes


class Audit(NamedTuple):
    """Counts of texts."""

    exact: int  # that are equal to another that comes before them
    near: int  # that are alike or nearly alike to another, and not equal to it
    across: int  # training or validation texts that are, in one of these senses, also test texts (a fixed test split)
    conflicting: int  # that are equal to another of another label


@functools.lru_cache(maxsize=4)
def audit(corpus: Corpus) -> Audit:
    """Looks for repeated and contradictory texts."""
    near = _near(corpus)
    _, different = np.unique([i.partition("-")[0] for i in corpus.ids], return_index=True)
    return Audit(
        exact=len(corpus) - len(different),
        near=len(different) - len(np.unique(near[different])),
        across=int(np.isin(near[corpus.splits != "test"], near[corpus.splits == "test"]).sum()),
        conflicting=int(_contradicted(corpus).sum()),
    )


def clean(corpus: Corpus, classes: tuple[str, ...] | None = None) -> Corpus:
    """The corpus without texts under several labels, and with one of those that are alike, a test text if there is one.

    Args:
      corpus: labelled texts.
      classes: that labels may be of, where that is known, as in `load`; some of them may then have no text.

    Raises:
      UserError: what is left cannot be learnt.
    """
    near, contradicted = _near(corpus), _contradicted(corpus)
    kept: dict[int, int] = {}
    for i in sorted(range(len(corpus)), key=lambda i: _KEEP_FIRST.index(corpus.splits[i])):
        if not contradicted[i]:
            kept.setdefault(int(near[i]), i)
    rows: dict[str, list[Row]] = {str(split): [] for split in np.unique(corpus.splits)}
    for i in sorted(kept.values()):
        label = corpus.class_names[corpus.labels[i]]
        rows[str(corpus.splits[i])].append(Row(corpus.texts[i], label, str(corpus.groups[i]), corpus.name))
    cleaned = make_corpus(corpus.name, {split: found for split, found in rows.items() if found}, classes)
    return dataclasses.replace(cleaned, source=corpus.source, columns=corpus.columns, cleaned=True)


def load_again(about: dict[str, Any], classes: tuple[str, ...]) -> Corpus:
    """The corpus of which `Corpus.about` said this, from where it was.

    Raises:
      UserError: it is not there any more, or is another one now.
    """
    source = about.get("source") or about["name"]
    if source not in KNOWN and not Path(source).exists():
        raise UserError(f"the run was trained on {source}, which is not there: name it with --corpus")
    corpus = load(source, Columns(*about.get("columns", ())), classes)
    corpus = clean(corpus, classes) if about.get("cleaned") else corpus
    if corpus.checksum != about["checksum"]:
        raise UserError(f"{source} has changed since the run was trained on it: name it with --corpus all the same")
    return corpus


def sentence(found: Audit, corpus: Corpus) -> str:
    """What a user should know; empty where nothing was found."""
    parts = []
    if found.exact:
        parts.append(f"{found.exact:,} text(s) repeat another (never across a split that is made here)")
    if found.near:
        parts.append(f"{found.near:,} text(s) with all or nearly all words of another")
    if found.across:
        parts.append(f"{found.across:,} training or validation text(s) are also test texts")
    if found.conflicting:
        parts.append(f"{found.conflicting:,} text(s) stand under several labels")
    parts = ["; ".join(parts) + " (--clean drops them)"] if parts else []
    if empty := sum(not text.strip() for text in corpus.texts):
        parts.append(f"{empty:,} text(s) are empty")
    counts = np.bincount(corpus.labels[corpus.splits != "test"], minlength=len(corpus.class_names))
    for label in np.flatnonzero(counts < min(_FEW, _SMALL * len(corpus)))[:_MOST_NAMED]:
        parts.append(f"the label {corpus.class_names[label]!r} has {counts[label]} text(s) to learn it from")
        if like := difflib.get_close_matches(corpus.class_names[label], _others(corpus, label), n=1, cutoff=0.8):
            parts[-1] += f", perhaps a misspelt {like[0]!r}"
    folded = collections.Counter(name.casefold() for name in corpus.class_names)
    if twice := [name for name in corpus.class_names if folded[name.casefold()] > 1]:
        parts.append(f"the labels {', '.join(map(repr, twice))} differ in case alone")
    return f"{corpus.name}: {'; '.join(parts)}" if parts else ""


def _others(corpus: Corpus, label: int) -> list[str]:
    return [name for i, name in enumerate(corpus.class_names) if i != label]


class _Kinds(NamedTuple):
    """Texts that are alike are of one kind."""

    words: list[tuple[int, ...]]  # of each kind, sorted; empty where a text has none
    labels: list[int]
    of_texts: np.ndarray  # int64 [N], the kind of each text


def _contradicted(corpus: Corpus) -> np.ndarray:
    """bool [N]: the texts that contradict another."""
    same = [" ".join(text.casefold().split()) for text in corpus.texts]
    labels = collections.defaultdict(set)
    for text, label in zip(same, corpus.labels, strict=True):
        labels[text].add(int(label))
    return np.array([len(labels[text]) > 1 for text in same], bool)


def _near(corpus: Corpus) -> np.ndarray:
    """int32 [N]: equal for texts that are alike or nearly alike, or linked by others that are."""

    def make() -> dict[str, np.ndarray]:
        kinds = _alike(corpus)
        return {"near": connected(len(kinds.words), _nearly_alike(kinds))[kinds.of_texts]}

    made_from = f"format {_FORMAT} {corpus.checksum}"
    return cached_of_texts(corpus.texts, "near", made_from, make)["near"]


def _alike(corpus: Corpus) -> _Kinds:
    """The kinds of texts."""
    vocabulary: dict[str, int] = {}
    number: dict[tuple[tuple[int, ...] | str, int], int] = {}
    of_texts = np.empty(len(corpus), np.int64)
    for i, text in enumerate(corpus.texts):
        found = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
        words = tuple(sorted([vocabulary.setdefault(word, len(vocabulary)) for word in found]))
        # Without words (an emoji, a question mark), only equal texts are alike.
        of_texts[i] = number.setdefault((words or text, int(corpus.labels[i])), len(number))
    words_of = [() if isinstance(words, str) else words for words, _ in number]
    return _Kinds(words_of, [label for _, label in number], of_texts)


def _nearly_alike(kinds: _Kinds) -> Iterator[tuple[int, int]]:
    """Kinds that are nearly alike, two by two.

    Of two sets that have nine tenths of their union in common, the larger, of n words, has one of its
    n - ceil(0.9 n) + 1 rarest words in common with as many of the other, so few pairs need to be looked at (prefix
    filtering: Chaudhuri, Ganti & Kaushik 2006).
    """
    rare_first = _rare_first(kinds.words)
    # Of each word, sizes and numbers of the kinds that have it among their rarest, the smallest first.
    holders: dict[int, tuple[list[int], list[int]]] = collections.defaultdict(lambda: ([], []))
    for kind in sorted(range(len(rare_first)), key=lambda kind: len(rare_first[kind])):
        size = len(rare_first[kind])
        if size < _LEAST_WORDS:
            continue
        least = math.ceil(_NEARLY * size)
        candidates: set[int] = set()
        for word in rare_first[kind][: size - least + 1].tolist():
            sizes, numbers = holders[word]
            candidates.update(numbers[bisect.bisect_left(sizes, least) :][-_MOST_CANDIDATES:])
            sizes.append(size)
            numbers.append(kind)
        for other in candidates:
            if kinds.labels[other] == kinds.labels[kind]:
                common = len(np.intersect1d(rare_first[kind], rare_first[other], assume_unique=True))
                if common >= _NEARLY * (size + len(rare_first[other]) - common):
                    yield kind, other


def _rare_first(words: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Of each, the different words, numbered by how many have them."""
    lengths = [len(of_kind) for of_kind in words]
    flat = np.fromiter(itertools.chain.from_iterable(words), np.int64, sum(lengths))
    count = int(flat.max(initial=0)) + 1
    kind, word = np.divmod(np.unique(np.repeat(np.arange(len(words)), lengths) * count + flat), count)
    rank = np.argsort(np.argsort(np.bincount(word), kind="stable"), kind="stable")[word]
    rank = np.sort(kind * count + rank) % count
    return np.split(rank, np.cumsum(np.bincount(kind, minlength=len(words)))[:-1])
