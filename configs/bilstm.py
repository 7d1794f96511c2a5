"""An LSTM in each direction with 64 units each, so both states together are as wide as the article's.

    ./launch.sh compare --variants=bilstm --workdir=runs/bilstm

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-28 (experiments/results/): 75.7 [74.8, 76.7].
"""

from research.models import settings_for
from research.settings import Config


def get_config() -> Config:
    return Config(model=settings_for("recurrent.Recurrent", cell="lstm", hidden_size=64, bidirectional=True))
