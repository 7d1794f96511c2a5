"""Texts without labels: of a plain file that may be larger than memory, or of a corpus whose labels are not read."""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from research.data.cache import file_checksum
from research.data.corpora import KNOWN, Corpus, load
from research.data.fingerprints import in_chunks, of_corpus
from research.data.reader import Columns, Lines
from research.data.splits import Split, split_corpus
from research.errors import UserError

_MOST_BYTES = 10_000_000  # of a line
_EVERY, _MOST = 50, 1_000  # one text in so many is held out, and at most so many, where no split says which
# Where a sentence ends: behind its mark (of Chinese too, whatever follows), at a line, at what breaks one in HTML.
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+|(?:<br\s*/?>)+", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A plain file, one text a line, that is read from the front, a line at a time."""

    path: Path
    checksum: str  # SHA-256 of its bytes
    class_names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def source(self) -> str:
        return str(self.path.resolve())

    def about(self) -> dict[str, str]:
        """What `config.json` says of it."""
        return {"name": self.name, "checksum": self.checksum, "source": self.source}

    def __iter__(self) -> Iterator[str]:
        """Its lines but for the empty ones.

        Raises:
          UserError: a line with a tab, too long, or not UTF-8.
        """
        with self.path.open("rb") as file:
            lines = Lines(file, str(self.path), _MOST_BYTES)
            for line in lines:
                if "\t" in line:
                    raise UserError(
                        f"{lines.place}: a tab where the first line has none, expected a text a line without tabs"
                    )
                if line.strip():
                    yield line.rstrip("\r\n")


def open_texts(source: str, columns: Columns = Columns()) -> Corpus | TextFile:
    """A plain file where `source` is a `.txt` whose first line that is not empty has no tab; else `corpora.load`.

    Raises:
      UserError: as `load`, or the file cannot be read.
    """
    path = Path(source)
    if source in KNOWN or path.suffix.lower() != ".txt" or not path.is_file():
        return load(source, columns)
    try:
        with path.open("rb") as file:
            first = next(
                (line for line in iter(functools.partial(file.readline, _MOST_BYTES), b"") if line.strip()), b""
            )
            if b"\t" in first:
                return load(source, columns)
        return TextFile(path, file_checksum(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def pretraining_split(corpus: Corpus, seed: int, *, folds: int, fold: int, repeat: int, train_size: int = 0) -> Split:
    """What of a corpus is trained on without labels, what only looked at, and what belongs to others.

    With folds or a test split this is the split of the run that will be fine-tuned; without, no text is kept for tests.
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
    """Some of the texts, read anew whenever they are asked for."""

    texts: Corpus | TextFile
    which: np.ndarray | None  # int [n], of a corpus
    held_out: bool = False  # whether they are only looked at, or trained on

    def __iter__(self) -> Iterator[str]:
        if isinstance(self.texts, Corpus):
            return (self.texts.texts[n] for n in self.which)
        numbered = itertools.islice(enumerate(self.texts), _EVERY * _MOST if self.held_out else None)
        return (text for n, text in numbered if _is_held_out(n) == self.held_out)

    def seen(self) -> Iterator[np.ndarray]:
        """Yields the fingerprints of the texts, piece by piece (`data.seen.SEEN`)."""
        if not isinstance(self.texts, Corpus):
            yield from in_chunks(self, trained=not self.held_out)
            return
        found = of_corpus(self.texts)[self.which]
        found["trained"] = not self.held_out
        yield found


def _is_held_out(n: int) -> bool:
    return n % _EVERY == 0 and n < _EVERY * _MOST


def sentences(text: str) -> list[str]:
    """A text cut behind the marks that end a sentence, and at its lines; at least one."""
    return [sentence for sentence in _SENTENCE.split(text) if sentence.strip()] or [text]
