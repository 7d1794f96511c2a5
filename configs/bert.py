"""BERT (Devlin et al. 2019): a pretrained encoder to fine-tune, or a small one that starts at random.

`bert:minilm` starts from MiniLM-L6 (Wang et al. 2020; 6 layers of 384, 22.7 million parameters, tuned on pairs of
sentences). The first use downloads it (84 MB). `bert:FOLDER` starts from any BERT, DistilBERT, RoBERTa or XLM-R that
HuggingFace's libraries saved: `config.json`, `model.safetensors`, and `tokenizer.json` or `vocab.txt`. `bert:tiny` has
the sizes of BERT-tiny (Turc et al. 2019) and starts at random.

    ./launch.sh compare --variants=linear,lstm,bert:minilm --workdir=runs/bert
    ./launch.sh pretrain --config=bert:tiny --corpus=imdb --workdir=runs/mlm
    ./launch.sh train --config=bert:minilm --corpus=rotten_tomatoes --workdir=runs/minilm

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-28: bert:tiny 73.9 [72.6, 75.3] (experiments/results/), bert:minilm
83.3 [82.2, 84.4] (2026-11-26, experiments/results/pretraining.md). A fold of bert:minilm takes about ten minutes on 2
cores of an Intel Xeon.
"""

from pathlib import Path

from research.data.pretrained_encoders import NAMES, read_settings
from research.models import settings_for
from research.models.bert_files import fields_from
from research.settings import Config, Data, Optimizer, Training

ARGUMENTS = ("tiny",)
NAMED_ALONE = ("minilm", "FOLDER")  # minutes a run; a folder of the user
SPACE = {
    "optimizer.learning_rate": ("log", 1e-5, 2e-4),
    "optimizer.layer_decay": ("uniform", 0.6, 1.0),
    "model.dropout": ("uniform", 0.0, 0.3),
}


def get_config(source: str = "tiny") -> Config:
    if source == "tiny":
        model = settings_for("bert.Bert")
        return Config(model=model, optimizer=Optimizer(learning_rate=5e-4, schedule="linear", warmup=1 / 60))
    weights = source if source in NAMES else str(Path(source).resolve())
    fields = fields_from(read_settings(weights), weights)
    vocab_size, positions = fields.pop("vocab_size"), fields["max_positions"]
    return Config(
        model=settings_for("bert.Bert", **fields),
        data=Data(tokens="pieces", weights=weights, vocab_size=vocab_size, max_length=min(128, positions)),
        optimizer=Optimizer(
            name="adamw", learning_rate=5e-5, schedule="linear", warmup=0.1, weight_decay=0.01, clip_norm=1.0
        ),
        training=Training(epochs=3),
    )
