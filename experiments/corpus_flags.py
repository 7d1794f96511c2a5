"""The flags that name a corpus and its folds, and the corpus that they name."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from research.data.reader import Columns

if TYPE_CHECKING:  # imported where it is used, so that programs without a corpus start quickly
    from research.data.corpora import Corpus

flags.disclaim_key_flags()  # the flags that are defined here belong to the program that asks for them
_COLUMN_FLAGS = ("text_column", "label_column", "group_column")


def define_corpus(default: str | None = None) -> None:
    """Define `--corpus` and the names of the columns of CSV and JSONL files."""
    text = "A known corpus (see ./launch.sh corpora), a file, or a folder with the files train, val and test."
    flags.DEFINE_string("corpus", default, text)
    flags.DEFINE_string("text_column", "text", "Name of the column of texts (CSV, JSONL).")
    flags.DEFINE_string("label_column", "label", "Name of the column of labels (CSV, JSONL).")
    text = "Name of the column of groups (CSV, JSONL). Texts of one group stay on the same side of every split."
    flags.DEFINE_string("group_column", "", text)


def define_clean() -> None:
    """Define `--clean`, for programs that train."""
    flags.DEFINE_bool("clean", False, "Drop texts that have several labels, and copies of other texts.")


def define_folds() -> None:
    """Define `--folds`."""
    text = "Number of folds of the cross-validation (default 5; a corpus with a test split has none)."
    flags.DEFINE_integer("folds", None, text, lower_bound=2)


def read_columns() -> Columns:
    """Return the column names of the flags."""
    return Columns(flags.FLAGS.text_column, flags.FLAGS.label_column, flags.FLAGS.group_column)


def load_corpus(source: str = "") -> "Corpus":
    """Return a corpus, cleaned with `--clean`; print on stderr what may be wrong with it.

    Args:
      source: its name or path; empty: that of `--corpus`.
    """
    from research.data.audit import audit, clean, describe_problems
    from research.data.corpora import load

    corpus = load(source or flags.FLAGS.corpus, read_columns())
    if flags.FLAGS.clean:
        cleaned = clean(corpus)
        dropped = len(corpus) - len(cleaned)
        print(f"{corpus.name}: {dropped:,} of {len(corpus):,} texts are dropped", file=sys.stderr)
        corpus = cleaned if dropped else corpus
    warning = describe_problems(audit(corpus), corpus)
    if warning:
        print(warning, file=sys.stderr)
    return corpus


def flags_of_corpus(source: str) -> list[str]:
    """Return the flags that name this corpus from any folder."""
    path = Path(source)
    arguments = [f"--corpus={path.resolve() if path.exists() else source}"]
    for name in _COLUMN_FLAGS:
        flag = flags.FLAGS[name]
        if flag.value != flag.default:
            arguments.append(f"--{name}={flag.value}")
    if flags.FLAGS.clean:
        arguments.append("--clean")
    return arguments
