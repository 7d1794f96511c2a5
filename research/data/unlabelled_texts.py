"""Read texts without labels: from a file that may be larger than memory, or from a corpus without its labels."""

import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from research.data.cache import file_checksum
from research.data.corpora import Corpus, load
from research.data.fingerprints import fingerprint_chunks, fingerprint_corpus
from research.data.formats.columns import NoColumn
from research.data.formats.folders import is_archive
from research.data.known_corpora import KNOWN
from research.data.read_options import ReadOptions
from research.data.reader import find_reading
from research.data.splits import Split, split_corpus

_DEFAULT_OPTIONS = ReadOptions()
_HOLD_OUT_EVERY, _MAX_HELD_OUT = 50, 1_000  # without a split, one text in 50 is held out, and at most 1,000 texts
# A sentence ends after its punctuation (Chinese marks need no blank), at a line break, and at <br>.
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+|(?:<br\s*/?>)+", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A file of texts without labels, read row by row."""

    path: Path
    checksum: str  # SHA-256 of its bytes
    class_names: tuple[str, ...] = ()
    options: ReadOptions = _DEFAULT_OPTIONS

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def source(self) -> str:
        return str(self.path.resolve())

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about how the file is read."""
        reading = find_reading(self.path, self.options, labelled=False)
        return () if reading.is_obvious else (reading.describe(),)

    def describe(self) -> dict[str, Any]:
        """Return what `config.json` keeps about the file."""
        return {
            "name": self.name,
            "checksum": self.checksum,
            "source": self.source,
            "columns": list(self.options),
        }

    def __iter__(self) -> Iterator[str]:
        """Yield all texts that are not blank.

        Raises:
          UserError: a row is malformed, a text is too long, or the file is not of its encoding.
        """
        reading = find_reading(self.path, self.options, labelled=False)
        for record in reading.records():
            text = reading.text_of(record)
            if text is not None and text.strip():
                yield text


def open_texts(source: str, options: ReadOptions = ReadOptions()) -> Corpus | TextFile:
    """Open a file that has texts and no labels as such, and anything else as a corpus with `corpora.load`.

    Args:
      source: a known corpus or a path. A `.txt` file is a corpus if it has tabs or another form of label in each line.
      options: the flags that say how to read a file.

    Raises:
      UserError: the corpus cannot be loaded, or the file cannot be read.
    """
    path = Path(source)
    if source in KNOWN or not path.is_file() or is_archive(path):
        return load(source, options)
    try:
        reading = find_reading(path, options)
    except NoColumn as error:
        if "label" not in error.kinds or options.label:
            raise
    else:
        if options.label or reading.choice.by_name or not reading.table.is_usual:
            return load(source, options)
    return TextFile(path, file_checksum(path), options=options)


def pretraining_split(corpus: Corpus, seed: int, *, folds: int, fold: int, repeat: int, train_size: int = 0) -> Split:
    """Return the split of a corpus for pre-training.

    With folds or a test split, it is the split of the run that is fine-tuned later, so test texts stay unseen. Without
    them, there are no test texts. The arguments are those of `split_corpus`.
    """
    if folds or corpus.has("test"):
        return split_corpus(corpus, seed, folds=folds, fold=fold, repeat=repeat, train_size=train_size)
    if corpus.has("validation"):
        held_out = corpus.splits == "validation"
        return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out), np.empty(0, np.int64))
    _, group = np.unique(corpus.groups, return_inverse=True)  # copies of a text stay on one side
    held_out = np.array([_is_held_out(n) for n in group])
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out), np.empty(0, np.int64))


@dataclasses.dataclass(frozen=True)
class Part:
    """The training or the validation texts of a source; every iteration reads them again."""

    texts: Corpus | TextFile
    which: np.ndarray | None  # int [n], indices into a corpus; None for a file
    held_out: bool = False  # validation texts if true, else training texts

    def __iter__(self) -> Iterator[str]:
        if isinstance(self.texts, Corpus):
            return (self.texts.texts[n] for n in self.which)
        numbered = itertools.islice(enumerate(self.texts), _HOLD_OUT_EVERY * _MAX_HELD_OUT if self.held_out else None)
        return (text for n, text in numbered if _is_held_out(n) == self.held_out)

    def fingerprints(self) -> Iterator[np.ndarray]:
        """Yield the fingerprints of the texts in chunks."""
        if not isinstance(self.texts, Corpus):
            yield from fingerprint_chunks(self, trained=not self.held_out)
            return
        prints = fingerprint_corpus(self.texts)[self.which]
        prints["trained"] = not self.held_out
        yield prints


def _is_held_out(n: int) -> bool:
    return n % _HOLD_OUT_EVERY == 0 and n < _HOLD_OUT_EVERY * _MAX_HELD_OUT


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences, at least one; line breaks end a sentence too."""
    return [sentence for sentence in _SENTENCE.split(text) if sentence.strip()] or [text]
