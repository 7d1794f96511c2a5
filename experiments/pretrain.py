"""Pre-train a model on texts without labels, and write a run folder that other runs start from.

    ./launch.sh pretrain --config=bert:tiny --corpus=imdb --workdir=runs/pretrained
    ./launch.sh compare --variants=bert:runs/pretrained/encoder --vary=data.from_scratch=false,true --workdir=runs/gain

The first command learns to guess masked tokens and the order of segments (Devlin et al. 2019). The second compares the
pre-trained encoder with the same encoder, tokenizer and sizes from random weights. A recurrent variant becomes a
language model (Dai & Le 2015):

    ./launch.sh pretrain --config=lstm --corpus=imdb --folds=5 --fold=0 --workdir=runs/lm/fold0
    ./launch.sh train --config=lstm --corpus=imdb --config.init_from=runs/lm/fold0 --workdir=runs/lstm

`--corpus` is a corpus as for `train`, whose labels are not read; or a `.txt` file of any size, with one text a line and
no tabs. If the run is interrupted, the same command resumes it. `--config.FIELD=VALUE` changes a setting.
"""

import functools
from pathlib import Path

from absl import flags

from experiments import corpus_flags, program
from experiments.printing import print_table
from experiments.single_run import CONFIG_HELP, define_run, set_up, train_with_progress
from experiments.variants import load_config
from research.errors import UserError
from research.runs import run_files
from research.settings import Pretraining

flags.DEFINE_string("config", "bert:tiny", CONFIG_HELP)
define_run("Number of folds; only the training texts of --fold are used (default: all texts).")
corpus_flags.define_corpus()
corpus_flags.define_clean()
program.define_workdir("The run's folder.")
FLAGS = flags.FLAGS


def main(overrides: list[str]) -> None:
    program.required("corpus", "workdir")
    set_up()
    from research.data.audit import clean
    from research.data.corpora import Corpus
    from research.data.unlabelled_texts import open_texts
    from research.pretraining.preparation import for_pretraining
    from research.pretraining.pretrain import pretrain

    config = load_config(FLAGS.config, overrides, for_pretraining)
    with corpus_flags.offering_commands():
        texts = open_texts(FLAGS.corpus, corpus_flags.read_options())
    corpus_flags.print_notes(texts)
    if FLAGS.clean:
        if not isinstance(texts, Corpus):
            raise UserError(f"--clean needs labels, and {FLAGS.corpus} has none. Leave it out")
        texts = clean(texts)
    name, folder = FLAGS.config, Path(FLAGS.workdir)

    if not train_with_progress(
        name, config.training.epochs, folder, functools.partial(pretrain, config, texts, folder)
    ):
        return
    record, records = run_files.read_record(folder), run_files.read_metrics(folder)
    shown = [entry for entry in records if entry["epoch"] == record["best_epoch"]]
    metrics = [metric for metric in shown[0] if metric not in ("step", "epoch", "split")]
    rows = [
        (entry["split"], str(entry["epoch"]), *(f"{entry.get(metric, float('nan')):.4f}" for metric in metrics))
        for entry in shown
    ]
    print_table(f"{name} pre-trained on {texts.name}", ("split", "epoch", *metrics), rows)
    encoder = folder / run_files.ENCODER
    if encoder.exists():
        print(f"to start from it: --variants=bert:{encoder}")
    else:
        print(f"to start from it: --config.init_from={folder}")


if __name__ == "__main__":
    program.launch(main, trains=Pretraining)
