"""The gated recurrent unit (Cho et al. 2014) in place of the article's LSTM.

    ./launch.sh compare --variants=gru --workdir=runs/gru

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-28 (experiments/results/): 73.9 [72.7, 75.1].
"""

from research.models import settings_for
from research.settings import Config


def get_config() -> Config:
    return Config(model=settings_for("recurrent.Recurrent", cell="gru"))
