"""Pre-trains a model on texts without labels, into a run folder that others start from.

    ./launch.sh pretrain --config=configs/bert.py:tiny --corpus=imdb --workdir=runs/pretrained
    ./launch.sh compare --variants=bert:runs/pretrained/encoder --vary=data.from_scratch=false,true --workdir=runs/gain

The first guesses masked tokens and the order of segments (Devlin et al. 2019), the second compares what came of it with
the same encoder, tokenizer and sizes from random weights. A recurrent variant becomes a language model (Dai & Le 2015):

    ./launch.sh pretrain --config=lstm --corpus=imdb --folds=5 --fold=0 --workdir=runs/lm/fold0
    ./launch.sh train --config=lstm --corpus=imdb --config.init_from=runs/lm/fold0 --workdir=runs/lstm

`--corpus` is what `train` takes, whose labels are not read, or a `.txt` with a text a line and no tab, which may be
larger than memory. Interrupted, the same command goes on; `--config.FIELD=VALUE` changes a setting.
"""

import functools
from pathlib import Path

from absl import flags

from experiments import program
from experiments.progress import print_table
from experiments.single import define_single, run_alone, set_up
from experiments.variants import load_config
from research.errors import UserError
from research.runs import run_files
from research.settings import Pretraining

flags.DEFINE_string("config", "bert:tiny", "The variant: a name in configs/, perhaps NAME:ARGUMENT, or a config file.")
define_single("Folds of the cross-validation whose training texts are used (default: none, all texts are).")
program.define_corpus()
program.define_clean()
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
    texts = open_texts(FLAGS.corpus, program.columns())
    if FLAGS.clean:
        if not isinstance(texts, Corpus):
            raise UserError(f"--clean looks at labels, which {FLAGS.corpus} has not, expected a labelled corpus")
        texts = clean(texts)
    name, folder = FLAGS.config, Path(FLAGS.workdir)

    if not run_alone(name, config.training.epochs, folder, functools.partial(pretrain, config, texts, folder)):
        return
    record, records = run_files.read_record(folder), run_files.read_metrics(folder)
    shown = [r for r in records if r["epoch"] == record["best_epoch"]]
    metrics = [metric for metric in shown[0] if metric not in ("step", "epoch", "split")]
    rows = [(r["split"], str(r["epoch"]), *(f"{r.get(metric, float('nan')):.4f}" for metric in metrics)) for r in shown]
    print_table(f"{name} pre-trained on {texts.name}", ("split", "epoch", *metrics), rows)
    encoder = folder / run_files.ENCODER
    print(f"to start from it: --variants=bert:{encoder}" if encoder.exists() else f"--config.init_from={folder}")


if __name__ == "__main__":
    program.launch(main, trains=Pretraining)
