"""Kim's CNN (2014): windows of 3, 4 and 5 words, 100 feature maps each, max over time, dropout 0.5, max-norm 3.

`cnn:rand` trains its word vectors from random ones. `cnn:static` keeps the vectors of GloVe fixed, and `cnn:nonstatic`
trains them further. `cnn:multichannel` reads one table of each kind.

    ./launch.sh compare --variants=cnn:rand,cnn:static,cnn:nonstatic,cnn:multichannel --workdir=runs/cnn

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-28 (experiments/results/): rand 74.9 [73.2, 76.6], static 72.6 [70.1,
75.1], nonstatic 76.7 [75.1, 78.2], multichannel 76.2 [75.2, 77.2].
"""

from research.models import settings_for
from research.settings import Config, Data, Optimizer

ARGUMENTS = ("rand", "static", "nonstatic", "multichannel")
SPACE = {"optimizer.learning_rate": ("log", 3e-4, 3e-3), "model.dropout": ("uniform", 0.2, 0.7)}
_CHANNELS = {"rand": "trained", "static": "fixed", "nonstatic": "trained", "multichannel": "both"}


def get_config(vectors: str = "rand") -> Config:
    model = settings_for("cnn.CNN", widths=(3, 4, 5), features=100, dropout=0.5, channels=_CHANNELS[vectors])
    config = Config(model=model, optimizer=Optimizer(max_norm=3.0))
    if vectors != "rand":
        config.model.embedding_size = 50
        config.data = Data(vectors="glove")
    return config
