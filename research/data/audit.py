"""Find problems in a corpus: repeated texts, test texts among the training texts, and texts with several labels.

Two texts with the same label are *alike* if they have the same words in any order; case and punctuation are ignored.
They are *nearly alike* if at least 90 % of the words in either are in both (Jaccard similarity), as in edited copies.
Texts *contradict* each other if they have different labels and differ only in case and white space.
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
from research.data.components import label_components
from research.data.corpora import Corpus, load, make_corpus
from research.data.fingerprints import WORD
from research.data.known_corpora import KNOWN
from research.data.label_checks import joined_labels
from research.data.read_options import ReadOptions
from research.data.reader import Row
from research.errors import UserError, shorten

_KEEP_FIRST = ("test", "validation", "train", "all")  # which split keeps its copy when texts are alike
_NEARLY = 0.9  # Jaccard similarity
_MIN_WORDS = 10  # in shorter texts, one different word may change the meaning
_MAX_CANDIDATES = 200  # compared for one word, to bound the time for texts made from a template
_FORMAT = 1  # version of the cached groups; raise it when the rules for similar texts change
# A class with fewer texts than both limits may be a misspelt label.
_RARE_TEXTS, _RARE_SHARE = 5, 0.02
_MAX_NAMED = 5  # named in a message


class Audit(NamedTuple):
    """Numbers of texts with problems."""

    exact: int  # texts equal to an earlier text
    near: int  # texts alike or nearly alike to an earlier text, but not equal
    across: int  # training or validation texts that are copies of texts in the corpus's own test split
    conflicting: int  # texts that contradict another text


@functools.lru_cache(maxsize=4)
def audit(corpus: Corpus) -> Audit:
    """Count repeated and contradictory texts."""
    near = _near(corpus)
    _, different = np.unique([i.partition("-")[0] for i in corpus.ids], return_index=True)
    return Audit(
        exact=len(corpus) - len(different),
        near=len(different) - len(np.unique(near[different])),
        across=int(np.isin(near[corpus.splits != "test"], near[corpus.splits == "test"]).sum()),
        conflicting=int(_contradicted(corpus).sum()),
    )


def clean(corpus: Corpus, classes: tuple[str, ...] | None = None) -> Corpus:
    """Return the corpus without contradictory texts and with one text from each group of copies.

    If a group has a test text, the test text stays.

    Args:
      corpus: labelled texts.
      classes: the classes of a trained run, as in `load`; some of them may then have no text.

    Raises:
      UserError: too little is left to learn from.
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
    cleaned = make_corpus(corpus.name, {split: kept_rows for split, kept_rows in rows.items() if kept_rows}, classes)
    how_read = {name: getattr(corpus, name) for name in ("source", "options", "notes", "unlabelled")}
    return dataclasses.replace(cleaned, **how_read, cleaned=True)


def reload_corpus(description: dict[str, Any], classes: tuple[str, ...]) -> Corpus:
    """Load a corpus again, given what `Corpus.describe` returned.

    Raises:
      UserError: the source does not exist any more, or its content has changed.
    """
    source = description.get("source", description["name"])
    if not source:
        raise UserError(
            f"the corpus {description['name']!r} was made in Python and is in no file: pass --corpus, "
            "a file with the same texts, or in Python the same corpus"
        )
    if source not in KNOWN and not Path(source).exists():
        raise UserError(f"the run was trained on {source}, which is not there: name it with --corpus")
    corpus = load(source, ReadOptions(*description.get("columns", ())), classes)
    corpus = clean(corpus, classes) if description.get("cleaned") else corpus
    if corpus.checksum != description["checksum"]:
        raise UserError(f"{source} has changed since the run was trained on it: name it with --corpus all the same")
    return corpus


def describe_problems(counts: Audit, corpus: Corpus) -> str:
    """Return a message about the problems of a corpus; empty if there are none."""
    copies = []
    if counts.exact:
        copies.append(f"{counts.exact:,} text(s) repeat another (never across a split that is made here)")
    if counts.near:
        copies.append(f"{counts.near:,} text(s) with all or nearly all words of another")
    if counts.across:
        copies.append(f"{counts.across:,} training or validation text(s) are also test texts")
    if counts.conflicting:
        copies.append(f"{counts.conflicting:,} text(s) have several labels")
    parts = ["; ".join(copies) + " (--clean drops them)"] if copies else []
    if empty := sum(not text.strip() for text in corpus.texts):
        parts.append(f"{empty:,} text(s) are empty (--drop_missing leaves them out)")
    parts += _describe_labels(corpus)
    return f"{corpus.name}: {'; '.join(parts)}" if parts else ""


def _describe_labels(corpus: Corpus) -> list[str]:
    """Return messages about labels that may be misspelt, or several in one."""
    messages, names = [], corpus.class_names
    if joined := joined_labels(names):
        shown = ", ".join(repr(shorten(name)) for name in joined[:_MAX_NAMED])
        more = ", ..." if len(joined) > _MAX_NAMED else ""
        looks = "label looks" if len(joined) == 1 else "labels look"
        messages.append(
            f"{len(joined):,} {looks} like several labels in one ({shown}{more}): each is treated as a class of its own"
        )
    counts = np.bincount(corpus.labels[corpus.splits != "test"], minlength=len(names))
    for label in np.flatnonzero(counts < min(_RARE_TEXTS, _RARE_SHARE * len(corpus)))[:_MAX_NAMED]:
        others = [name for name in names if name != names[label]]
        similar = difflib.get_close_matches(names[label], others, n=1, cutoff=0.8)
        hint = f", perhaps a misspelt {shorten(similar[0])!r}" if similar else ""
        messages.append(f"the label {shorten(names[label])!r} has {counts[label]} text(s) to learn it from{hint}")
    folded = collections.Counter(name.casefold() for name in names)
    if same := [name for name in names if folded[name.casefold()] > 1]:
        shown = ", ".join(repr(shorten(name)) for name in same)
        messages.append(f"the labels {shown} differ only in case")
    return messages


def _contradicted(corpus: Corpus) -> np.ndarray:
    """Return which texts contradict another, bool [N]."""
    normalized = [" ".join(text.casefold().split()) for text in corpus.texts]
    labels = collections.defaultdict(set)
    for text, label in zip(normalized, corpus.labels, strict=True):
        labels[text].add(int(label))
    return np.array([len(labels[text]) > 1 for text in normalized], bool)


def _near(corpus: Corpus) -> np.ndarray:
    """Return a group number for each text, int32 [N]; similar texts share it, also if only other texts link them."""

    def make() -> dict[str, np.ndarray]:
        kinds = _group_by_words(corpus)
        return {"near": label_components(len(kinds.words), _nearly_alike(kinds))[kinds.of_texts]}

    made_from = f"format {_FORMAT} {corpus.checksum}"
    return cached_of_texts(corpus.texts, "near", made_from, make)["near"]


class _Kinds(NamedTuple):
    """The different texts of a corpus; texts that are alike are one kind."""

    words: list[tuple[int, ...]]  # sorted word numbers of each kind; empty for texts without words
    labels: list[int]
    of_texts: np.ndarray  # int64 [N], the kind of each text


def _group_by_words(corpus: Corpus) -> _Kinds:
    vocabulary: dict[str, int] = {}
    kind_of: dict[tuple[tuple[int, ...] | str, int], int] = {}
    of_texts = np.empty(len(corpus), np.int64)
    for i, text in enumerate(corpus.texts):
        tokens = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
        words = tuple(sorted([vocabulary.setdefault(word, len(vocabulary)) for word in tokens]))
        # Texts without words (an emoji, a question mark) are alike only if they are equal.
        of_texts[i] = kind_of.setdefault((words or text, int(corpus.labels[i])), len(kind_of))
    words_of = [() if isinstance(words, str) else words for words, _ in kind_of]
    return _Kinds(words_of, [label for _, label in kind_of], of_texts)


def _nearly_alike(kinds: _Kinds) -> Iterator[tuple[int, int]]:
    """Yield pairs of kinds that are nearly alike.

    Prefix filtering (Chaudhuri, Ganti & Kaushik 2006) leaves few pairs to compare. If two sets share 90 % of their
    union and the larger has n words, then their n - ceil(0.9 n) + 1 rarest words have one in common.
    """
    rare_first = _rare_first(kinds.words)
    # word -> sizes and numbers of the kinds that have it among their rarest words, in ascending order of size
    holders: dict[int, tuple[list[int], list[int]]] = collections.defaultdict(lambda: ([], []))
    for kind in sorted(range(len(rare_first)), key=lambda kind: len(rare_first[kind])):
        size = len(rare_first[kind])
        if size < _MIN_WORDS:
            continue
        min_size = math.ceil(_NEARLY * size)
        candidates: set[int] = set()
        for word in rare_first[kind][: size - min_size + 1].tolist():
            sizes, numbers = holders[word]
            candidates.update(numbers[bisect.bisect_left(sizes, min_size) :][-_MAX_CANDIDATES:])
            sizes.append(size)
            numbers.append(kind)
        for other in candidates:
            if kinds.labels[other] == kinds.labels[kind]:
                common = len(np.intersect1d(rare_first[kind], rare_first[other], assume_unique=True))
                if common >= _NEARLY * (size + len(rare_first[other]) - common):
                    yield kind, other


def _rare_first(words: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Return the different words of each kind, rarest first, numbered by the number of kinds that have them."""
    lengths = [len(of_kind) for of_kind in words]
    flat = np.fromiter(itertools.chain.from_iterable(words), np.int64, sum(lengths))
    count = int(flat.max(initial=0)) + 1
    kind, word = np.divmod(np.unique(np.repeat(np.arange(len(words)), lengths) * count + flat), count)
    rank = np.argsort(np.argsort(np.bincount(word), kind="stable"), kind="stable")[word]
    rank = np.sort(kind * count + rank) % count
    return np.split(rank, np.cumsum(np.bincount(kind, minlength=len(words)))[:-1])
