"""Show how a file would be read, before anything is trained: columns, first rows, classes, lengths, what looks wrong.

    ./launch.sh inspect --corpus=reviews.csv
    ./launch.sh inspect --corpus=folder --text_column=review

It ends with the command to go on with. A file that can be read in several ways is shown with the commands to choose
from.
"""

import itertools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from experiments import corpus_flags, program
from experiments.printing import print_table
from research.data.formats.columns import NoColumn, looks_like
from research.data.formats.text_lines import describe_encoding
from research.data.reader import Reading, find_reading, tables_of
from research.errors import UserError

if TYPE_CHECKING:
    from research.data.corpora import Corpus

corpus_flags.define_corpus()
corpus_flags.define_clean()
FLAGS = flags.FLAGS

_ROWS = 5  # first rows that are shown
_SAMPLE_ROWS = 1_000  # rows by which a column is described
_SHOWN = 60  # characters of a text
_CLASSES = 20  # classes that are shown, the most frequent first
_BARS = "▁▂▃▄▅▆▇█"
_BINS = 24  # of the histogram of lengths


def main() -> None:
    program.required("corpus")
    path = Path(FLAGS.corpus)
    if path.is_file():
        _print_columns(path)
        if not _has_labels(path):
            _print_texts(path)
            return
    corpus = corpus_flags.load_corpus()
    _print_corpus(corpus)
    where = shlex.join(corpus_flags.flags_of_corpus(FLAGS.corpus))
    print(f"go on with: ./launch.sh compare --variants=linear,lstm,cnn {where} --workdir=runs/{corpus.name}")


def _print_columns(path: Path) -> None:
    """Print the format of a file and what its columns hold, also of a file that cannot be read on its own."""
    options = corpus_flags.read_options()
    for table in tables_of(path, options, labelled=True):
        print(f"{path}: {table.format}, {describe_encoding(path, options.encoding)}")
        rows = []
        try:
            for _, row in itertools.islice(table.rows(lambda count: None), _SAMPLE_ROWS):
                rows.append(row)
        except UserError as error:
            print(error)
        shown = []
        for number, name in enumerate(table.columns):
            cells = [row[number] for row in rows]
            content = looks_like(cells)
            kinds = ("texts", content.is_text), ("labels", content.is_label), ("numbers", content.is_number)
            kind = " or ".join(kind for kind, is_so in kinds if is_so) or "other"
            firsts = [_short(cell, 30) for cell in cells[:3]] + [""] * (3 - len(cells))
            shown.append((str(number + 1), name, kind, *firsts))
        print_table("Columns", ("number", "name", "looks like", "row 1", "row 2", "row 3"), shown)


def _has_labels(path: Path) -> bool:
    """Return whether a file has labels; raise UserError if it cannot be told where the texts are."""
    try:
        with corpus_flags.offering_commands():
            find_reading(path, corpus_flags.read_options())
    except NoColumn as error:
        if error.kinds != {"label"} or FLAGS.label_column:
            raise
        return False
    return True


def _print_texts(path: Path) -> None:
    """Print what a file without labels holds, and what it can be used for."""
    reading: Reading = find_reading(path, corpus_flags.read_options(), labelled=False)
    texts = [text for text in map(reading.text_of, reading.records()) if text is not None]
    _print_lengths(texts)
    more = [] if reading.is_obvious else reading.resolved.flags()
    where = shlex.join([f"--input={path}", *more])
    print("no labels: nothing can be trained on it. If one column holds them, name it with --label_column")
    print(f"go on with: ./launch.sh predict --workdir=RUN {where} --output=predictions.csv")


def _print_corpus(corpus: "Corpus") -> None:
    from research.data.audit import audit

    names, counts = np.unique(corpus.splits, return_counts=True)
    splits = ", ".join(f"{count:,} {name}" for name, count in zip(names, counts, strict=True) if name != "all")
    print(f"{corpus.name}: {len(corpus):,} texts in {len(corpus.class_names)} classes{splits and f' ({splits})'}")
    rows = [
        (_short(corpus.class_names[corpus.labels[i]], 40), str(corpus.splits[i]), _short(corpus.texts[i], _SHOWN))
        for i in range(min(_ROWS, len(corpus)))
    ]
    print_table("Some texts", ("label", "split", "text"), rows)
    per_class = np.bincount(corpus.labels, minlength=len(corpus.class_names))
    order = np.argsort(-per_class, kind="stable")[:_CLASSES]
    shares = per_class / len(corpus)
    rows = [(_short(corpus.class_names[i], 40), f"{per_class[i]:,}", f"{shares[i]:.1%}") for i in order]
    more = len(per_class) - len(order)
    print_table(f"Classes{f' (and {more} more)' if more else ''}", ("label", "texts", "share"), rows)
    _print_lengths(corpus.texts)
    counts = audit(corpus)
    print(f"copies: {counts.exact:,} equal, {counts.near:,} nearly equal, {counts.across:,} across splits")


def _print_lengths(texts: "tuple[str, ...] | list[str]") -> None:
    """Print the numbers of words, or of characters where a text has no blanks, with a small histogram."""
    is_spaced = sum(" " in text.strip() for text in texts) > len(texts) / 2
    lengths = np.array([len(text.split()) if is_spaced else len(text) for text in texts])
    unit = "words" if is_spaced else "characters"
    low, median, high, most = np.percentile(lengths, [5, 50, 95, 100]) if len(lengths) else np.zeros(4)
    bins = int(min(_BINS, high - lengths.min(initial=high) + 1))
    counts, _ = np.histogram(np.minimum(lengths, high), bins=bins)
    bars = "".join(_BARS[int(np.ceil(count / max(1, counts.max()) * (len(_BARS) - 1)))] for count in counts)
    print(
        f"lengths in {unit}: median {median:.0f}, 90 % from {low:.0f} to {high:.0f}, at most {most:.0f}; "
        f"from {lengths.min(initial=most):.0f} to {high:.0f} and more: {bars}"
    )


def _short(cell: object, most: int) -> str:
    """Return a cell on one line, cut to `most` characters."""
    shown = " ".join(str(cell).split())
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


if __name__ == "__main__":
    program.launch(main, trains=None)
