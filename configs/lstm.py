"""The article's classifier: embedding 64, LSTM 128, last valid state, one logit; Adam 1e-3, batch 32.

`lstm:variational` has the dropout of Gal & Ghahramani (2016), `lstm:naive_dropout` the one that was usual before.

    ./launch.sh compare --variants=lstm,lstm:variational,lstm:naive_dropout --workdir=runs/lstm

Embedding and LSTM can be pre-trained as a language model (Dai & Le 2015). The article cites another paper for this,
which could not be found under its title. Each fold has its own language model, pre-trained on its training texts alone:

    for k in 0 1 2 3 4; do
      ./launch.sh pretrain --config=lstm --corpus=imdb --folds=5 --fold=$k --workdir=runs/lm/fold$k
    done
    ./launch.sh compare --variants=lstm --vary='init_from=none,runs/lm/fold{fold}' --corpus=imdb \\
      --config.data.train_size=1000 --workdir=runs/semi

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-28 (experiments/results/): lstm 74.9 [73.9, 75.9], variational 74.4
[73.5, 75.4], naive_dropout 74.2 [73.0, 75.5].
"""

from research.models import settings_for
from research.settings import Config

ARGUMENTS = ("", "variational", "naive_dropout")
_DROPOUT = {
    "": {},
    "variational": {"dropout_kind": "variational", "dropout": 0.25, "word_dropout": 0.25},
    "naive_dropout": {"dropout_kind": "naive", "dropout": 0.25},
}


def get_config(dropout: str = "") -> Config:
    model = settings_for("recurrent.Recurrent", embedding_size=64, hidden_size=128, cell="lstm", **_DROPOUT[dropout])
    return Config(model=model)
