"""What may be wrong with a corpus: texts that repeat, across splits above all, and texts under several labels."""

import collections
import dataclasses
import re
import unicodedata
from typing import NamedTuple

import numpy as np

from research.data.corpora import Corpus, make_corpus
from research.data.files import Row

_WORD = re.compile(r"\w+")
_KEEP_FIRST = ("test", "validation", "train", "all")  # of equal texts, the one that is kept


class Audit(NamedTuple):
    """Counts of texts."""

    exact: int  # that are equal to another that comes before them
    near: int  # that have the very words of another, but for case, order and punctuation, and are not equal to it
    across: int  # training or validation texts that are, in one of these senses, also test texts (a fixed test split)
    conflicting: int  # under more than one label, all of them counted


def audit(corpus: Corpus) -> Audit:
    """Looks for repeated and contradictory texts."""
    alike = _alike(corpus)
    exact = len(corpus) - len({i.partition("-")[0] for i in corpus.ids})
    labels = collections.defaultdict(set)
    tested = set(alike[corpus.splits == "test"])
    for kind, label in zip(alike, corpus.labels, strict=True):
        labels[kind].add(int(label))
    return Audit(
        exact=exact,
        near=len(corpus) - len(labels) - exact,
        across=sum(kind in tested for kind in alike[corpus.splits != "test"]),
        conflicting=sum(len(labels[kind]) > 1 for kind in alike),
    )


def clean(corpus: Corpus) -> Corpus:
    """The corpus without texts under several labels, and with one of those that are alike, a test text if there is one.

    Raises:
      UserError: what is left cannot be learnt.
    """
    alike = _alike(corpus)
    labels = collections.defaultdict(set)
    for kind, label in zip(alike, corpus.labels, strict=True):
        labels[kind].add(int(label))
    kept: dict[int, int] = {}
    for i in sorted(range(len(corpus)), key=lambda i: _KEEP_FIRST.index(corpus.splits[i])):
        if len(labels[alike[i]]) == 1:
            kept.setdefault(alike[i], i)
    rows: dict[str, list[Row]] = {str(split): [] for split in np.unique(corpus.splits)}
    for i in sorted(kept.values()):
        label = corpus.class_names[corpus.labels[i]]
        rows[str(corpus.splits[i])].append(Row(corpus.texts[i], label, str(corpus.groups[i]), corpus.name))
    cleaned = make_corpus(corpus.name, {split: found for split, found in rows.items() if found})
    return dataclasses.replace(cleaned, source=corpus.source, columns=corpus.columns, cleaned=True)


def sentence(found: Audit, corpus: Corpus) -> str:
    """What a user should know; empty where nothing was found."""
    parts = []
    if found.exact or found.near:
        parts.append(f"{found.exact:,} texts repeat another and {found.near:,} have the very words of another")
    if found.across:
        parts.append(f"{found.across:,} training or validation texts are also test texts")
    if found.conflicting:
        parts.append(f"{found.conflicting:,} texts stand under several labels")
    return f"{corpus.name}: {'; '.join(parts)} (--clean drops them)" if parts else ""


def _alike(corpus: Corpus) -> np.ndarray:
    """int64 [N]: equal for texts of the same words, whatever their case, order and punctuation."""
    number: dict[tuple[str, ...], int] = {}
    found = np.empty(len(corpus), np.int64)
    for i, text in enumerate(corpus.texts):
        words = sorted(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))
        # Without words (an emoji, a question mark), only equal texts are alike.
        found[i] = number.setdefault(tuple(words) or ("", text), len(number))
    return found
