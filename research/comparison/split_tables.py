"""Write the splits of all runs of a comparison to a CSV file, so that models from elsewhere can be compared on them."""

import csv
import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path

from research.atomic_files import make_folder, whole_file
from research.data.corpora import Corpus
from research.errors import UserError
from research.runs.texts import RunSpec, split_of
from research.settings import Config

_COLUMNS = ("id", "text", "label", "repeat", "fold", "part")


def write_splits(
    file: Path,
    corpus: Corpus,
    split_by: Config,
    *,
    folds: int,
    repeats: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Write a row for each text of each run: its id, text, label, repeat, fold, and part of the split.

    The splits are those of a comparison with the same corpus, folds and seed.

    Args:
      file: the file, compressed by gzip if it is called `.gz`. It appears complete or not at all.
      corpus: labelled texts.
      split_by: its seed, `varies` and `data.train_size` decide the splits.
      folds: the number of folds; 0 if the corpus has a test split, whose runs have fold 0.
      repeats: the number of repeats.
      on_progress: called with the number of runs that are written.

    Returns:
      the number of rows.

    Raises:
      UserError: `folds` does not fit the corpus, or the file cannot be written.
    """
    if file.is_dir():
        raise UserError(f"{file} is a folder, expected the name of a file")
    runs = [(repeat, fold) for repeat in range(repeats) for fold in range(folds or 1)]
    make_folder(file.parent)
    rows = 0
    with whole_file(file) as raw:
        # A fixed time, so that equal splits are equal bytes.
        binary = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) if file.suffix == ".gz" else raw
        # A lone surrogate cannot be written: a question mark stands for it.
        text = io.TextIOWrapper(binary, encoding="utf-8", errors="replace", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for done, (repeat, fold) in enumerate(runs, 1):
            spec = RunSpec(split_by, corpus, folds, fold, repeat)
            for row in _rows_of(spec):
                writer.writerow(row)
                rows += 1
            on_progress(done)
        text.detach()
        if binary is not raw:
            binary.close()
    return rows


def _rows_of(spec: RunSpec) -> Iterator[tuple[str | int, ...]]:
    """Yield the rows of one run, in the order of the corpus."""
    corpus, part_of = spec.corpus, {}
    for part, texts in split_of(spec)._asdict().items():
        part_of |= dict.fromkeys(texts.tolist(), part)
    for i in sorted(part_of):
        label = corpus.class_names[corpus.labels[i]]
        yield corpus.ids[i], corpus.texts[i], label, spec.repeat, spec.fold, part_of[i]
