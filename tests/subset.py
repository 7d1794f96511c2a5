"""A small real corpus: rotten_tomatoes sentences as a TSV file.  `python -m tests.subset FILE [ROWS]`"""

import sys
from pathlib import Path

from research.data.corpora import load


def write_subset(path: Path, rows: int = 240) -> Path:
    """Writes the first `rows` sentences in the corpus's own (content-hash) order, so a random but fixed sample."""
    corpus = load("rotten_tomatoes")
    chosen = list(zip(corpus.texts, corpus.labels, strict=True))[:rows]
    path.write_text("".join(f"{text}\t{label}\n" for text, label in chosen), encoding="utf-8")
    return path


if __name__ == "__main__":
    write_subset(Path(sys.argv[1]), *map(int, sys.argv[2:]))
