"""A linear probe: logistic regression on the sentence vectors of a frozen encoder, the cheap strong baseline.

`probe:minilm` takes the vectors of all-MiniLM-L6 as sentence-transformers computes them: the mean of the states, scaled
to length 1. The first use downloads it (84 MB). `probe:FOLDER` takes any encoder that `bert:FOLDER` takes. If
sentence-transformers saved the folder, its own pooling and scaling are used, else the mean. The vectors of a corpus are
computed once and cached, so that folds, repeats and values of `training.l2` cost seconds.

    ./launch.sh compare --variants=linear,probe:minilm --workdir=runs/probe
    ./launch.sh compare --variants=probe:minilm --vary=training.l2=1,10,100,1000 --workdir=runs/l2

`training.l2` has the best validation accuracy of seven values, and a log loss within 0.002 of the best
(experiments/results/probe.md). Test accuracy on rotten_tomatoes, 5 folds, 2026-11-30: 76.5 [75.2, 77.8].
"""

from pathlib import Path

from research.data.pretrained_encoders import NAMES, read_sentence_settings, read_settings
from research.models import settings_for
from research.models.bert_files import fields_from
from research.settings import Config, Data, Optimizer, Training

ARGUMENTS = ()
NAMED_ALONE = ("minilm", "FOLDER")  # a minute for the vectors of a corpus; a folder of the user
SPACE = {"training.l2": ("log", 1.0, 1000.0)}


def get_config(source: str = "minilm") -> Config:
    weights = source if source in NAMES else str(Path(source).resolve())
    fields = fields_from(read_settings(weights), weights)
    vocab_size, positions = fields.pop("vocab_size"), fields["max_positions"]
    for name in ("dropout", "attention_dropout"):
        del fields[name]
    return Config(
        model=settings_for("probe.Probe", **fields, **read_sentence_settings(weights)),
        data=Data(tokens="pieces", weights=weights, vocab_size=vocab_size, max_length=min(128, positions)),
        optimizer=Optimizer(name="lbfgs"),
        training=Training(epochs=1000, batch_size=0, select="last", l2=100.0),
    )
