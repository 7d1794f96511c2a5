"""Read texts without labels: from a text file that may be larger than memory, or from a corpus without its labels."""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from research.data.cache import file_checksum
from research.data.corpora import KNOWN, Corpus, load
from research.data.fingerprints import fingerprint_chunks, fingerprint_corpus
from research.data.reader import Columns, Lines
from research.data.splits import Split, split_corpus
from research.errors import UserError

_MAX_LINE_BYTES = 10_000_000
_HOLD_OUT_EVERY, _MAX_HELD_OUT = 50, 1_000  # without a split, one text in 50 is held out, and at most 1,000 texts
# A sentence ends after its punctuation (Chinese marks need no blank), at a line break, and at <br>.
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+|(?:<br\s*/?>)+", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A text file with one text per line, read line by line."""

    path: Path
    checksum: str  # SHA-256 of its bytes
    class_names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def source(self) -> str:
        return str(self.path.resolve())

    def describe(self) -> dict[str, str]:
        """Return what `config.json` keeps about the file."""
        return {"name": self.name, "checksum": self.checksum, "source": self.source}

    def __iter__(self) -> Iterator[str]:
        """Yield all lines that are not blank.

        Raises:
          UserError: a line has a tab, is too long, or is not UTF-8.
        """
        with self.path.open("rb") as file:
            lines = Lines(file, str(self.path), _MAX_LINE_BYTES)
            for line in lines:
                if "\t" in line:
                    raise UserError(
                        f"{lines.place}: a tab where the first line has none, expected a text a line without tabs"
                    )
                if line.strip():
                    yield line.rstrip("\r\n")


def open_texts(source: str, columns: Columns = Columns()) -> Corpus | TextFile:
    """Open a `.txt` file without tabs as plain texts, and anything else as a corpus with `corpora.load`.

    Args:
      source: a known corpus or a path. A `.txt` file is a corpus if its first line that is not blank has a tab.
      columns: column names of CSV and JSONL files.

    Raises:
      UserError: the corpus cannot be loaded, or the file cannot be read.
    """
    path = Path(source)
    if source in KNOWN or path.suffix.lower() != ".txt" or not path.is_file():
        return load(source, columns)
    try:
        with path.open("rb") as file:
            lines = iter(functools.partial(file.readline, _MAX_LINE_BYTES), b"")
            if b"\t" in next((line for line in lines if line.strip()), b""):
                return load(source, columns)
        return TextFile(path, file_checksum(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


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
