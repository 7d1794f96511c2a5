"""Write the splits of a comparison to a CSV file, for models that are trained elsewhere.

    ./launch.sh splits --corpus=my.tsv --output=splits.csv
    ./launch.sh splits --corpus=my.tsv --folds=5 --repeats=3 --output=splits.csv.gz

A row is one text in one run: id, text, label, repeat, fold, and its part (train, validation or test). In each repeat
and fold, fit your model to the rows of train, choose settings on those of validation, and predict those of test. Then
let `./launch.sh compare --predictions=NAME=FILE` compare your predictions.
"""

import shlex
import sys
from pathlib import Path

from absl import flags

from experiments import corpus_flags, program
from research.errors import UserError
from research.progress import reporting

flags.DEFINE_string("output", None, "The CSV file to write; compressed if its name ends in .gz.")
flags.DEFINE_bool("overwrite", False, "Replace the file if it exists.")
flags.DEFINE_integer("repeats", None, "Number of repeats (default: 1 with folds, 5 with a test split).", lower_bound=1)
flags.DEFINE_integer("seed", 0, "The comparison's --config.seed.", lower_bound=0)
flags.DEFINE_integer("train_size", 0, "The comparison's --config.data.train_size: training texts; 0 uses all.", 0)
corpus_flags.define_folds()
corpus_flags.define_corpus()
corpus_flags.define_clean()
FLAGS = flags.FLAGS
_LARGE = 100_000_000  # characters of a file that is announced


def main() -> None:
    program.required("corpus", "output")
    output = Path(FLAGS.output)
    if output.exists() and not FLAGS.overwrite:
        raise UserError(f"--output={output} exists already; name another file, or pass --overwrite")
    from research.comparison.compare import default_repeats
    from research.comparison.split_tables import write_splits
    from research.data.splits import resolve_folds
    from research.settings import Config, Data

    corpus = corpus_flags.load_corpus()
    folds = resolve_folds(corpus, FLAGS.folds)
    repeats = default_repeats(None, folds) if FLAGS.repeats is None else FLAGS.repeats
    runs = repeats * (folds or 1)
    characters = runs * sum(map(len, corpus.texts))
    if characters > _LARGE:
        print(
            f"{output} will have about {characters / 1e6:,.0f} million characters before compression", file=sys.stderr
        )
    split_by = Config(model=None, seed=FLAGS.seed, data=Data(train_size=FLAGS.train_size))
    with reporting(runs, "splits") as reporter:
        rows = write_splits(
            output,
            corpus,
            split_by,
            folds=folds,
            repeats=repeats,
            on_progress=lambda done: reporter.progress(str(output), done, float("nan")),
        )
    design = f"{repeats} repeat(s) of {folds} folds" if folds else f"{repeats} repeat(s) of a fixed test split"
    print(f"{output}: {rows:,} rows, {len(corpus):,} texts in {design}")
    print(f"compare with them: ./launch.sh compare {_compare_flags(folds, repeats)} --predictions=NAME=FILE")


def _compare_flags(folds: int, repeats: int) -> str:
    """Return the flags of a comparison with these splits."""
    arguments = [*corpus_flags.flags_of_corpus(FLAGS.corpus), f"--repeats={repeats}"]
    arguments += [f"--folds={folds}"] if folds else []
    arguments += [f"--config.seed={FLAGS.seed}"] if FLAGS.seed else []
    arguments += [f"--config.data.train_size={FLAGS.train_size}"] if FLAGS.train_size else []
    return shlex.join(arguments)


if __name__ == "__main__":
    program.launch(main, trains=None)
