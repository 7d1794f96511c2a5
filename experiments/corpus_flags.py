"""The flags that name a corpus and its folds, and the corpus that they name."""

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments import program
from research.data.read_options import HEADERS, SEPARATORS, ReadOptions
from research.data.reader import SeveralReadings
from research.errors import UserError

if TYPE_CHECKING:  # imported where it is used, so that programs without a corpus start quickly
    from research.data.corpora import Corpus
    from research.data.unlabelled_texts import TextFile

flags.disclaim_key_flags()  # the flags that are defined here belong to the program that asks for them
_FIELD_OF_FLAG = {
    **{"text_column": "text", "label_column": "label", "group_column": "group", "encoding": "encoding"},
    **{"header": "header", "drop_missing": "drop_missing", "separator": "separator"},
}


def define_corpus(default: str | None = None) -> None:
    """Define `--corpus` and the flags that say how to read it."""
    text = "A known corpus (see ./launch.sh corpora), a file, or a folder with the files train, val and test."
    flags.DEFINE_string("corpus", default, text)
    define_reading()
    flags.DEFINE_string(
        "label_column", "", "Name or number of the column of labels (default: found by name or content)."
    )
    text = "Name or number of the column of groups. Texts of one group stay on the same side of every split."
    flags.DEFINE_string("group_column", "", text)
    flags.DEFINE_bool("drop_missing", False, "Leave out rows without a text or without a label.")


def define_reading() -> None:
    """Define the flags that say how to read any file of texts."""
    text = "Name or number of the column of texts; several, such as title,description, are joined."
    flags.DEFINE_string("text_column", "", text)
    flags.DEFINE_string(
        "encoding", "", "Encoding of the file, such as gb18030 (default: UTF-8, or by its mark UTF-16)."
    )
    flags.DEFINE_enum("header", "auto", HEADERS, "Whether the first row of a table names the columns.")
    flags.DEFINE_enum("separator", "", ["", *SEPARATORS], "What separates the cells of a table (default: found).")


def define_clean() -> None:
    """Define `--clean`, for programs that train."""
    flags.DEFINE_bool("clean", False, "Drop texts that have several labels, and copies of other texts.")


def define_folds() -> None:
    """Define `--folds`."""
    text = "Number of folds of the cross-validation (default 5; a corpus with a test split has none)."
    flags.DEFINE_integer("folds", None, text, lower_bound=2)


def read_options() -> ReadOptions:
    """Return what the flags say about reading a file."""
    values = {field: flags.FLAGS[flag].value for flag, field in _FIELD_OF_FLAG.items() if flag in flags.FLAGS}
    return ReadOptions(**values)


@contextlib.contextmanager
def offering_commands() -> Iterator[None]:
    """Turn the error that a file can be read in several ways into the whole commands to choose from."""
    try:
        yield
    except SeveralReadings as error:
        if not error.choices:
            raise
        commands = "; ".join(f"{program.command()} {shlex.join(choice)}" for choice in error.choices)
        raise UserError(f"{error.message.partition(' Choose one: ')[0]} Choose one: {commands}") from error


def load_corpus(source: str = "") -> "Corpus":
    """Return a corpus, cleaned with `--clean`; print on stderr what may be wrong with it.

    Args:
      source: its name or path; empty: that of `--corpus`.
    """
    from research.data.audit import audit, clean, describe_problems
    from research.data.corpora import load

    with offering_commands():
        corpus = load(source or flags.FLAGS.corpus, read_options())
    print_notes(corpus)
    if flags.FLAGS.clean:
        cleaned = clean(corpus)
        dropped = len(corpus) - len(cleaned)
        print(f"{corpus.name}: {dropped:,} of {len(corpus):,} texts are dropped", file=sys.stderr)
        corpus = cleaned if dropped else corpus
    warning = describe_problems(audit(corpus), corpus)
    if warning:
        print(warning, file=sys.stderr)
    return corpus


def print_notes(corpus: "Corpus | TextFile") -> None:
    """Print on stderr how a corpus was read, if that is not obvious."""
    for note in corpus.notes:
        print(note, file=sys.stderr)


def flags_of_corpus(source: str) -> list[str]:
    """Return the flags that name this corpus from any folder."""
    path = Path(source)
    arguments = [f"--corpus={path.resolve() if path.exists() else source}"]
    arguments += read_options().flags()
    if flags.FLAGS.clean:
        arguments.append("--clean")
    return arguments
