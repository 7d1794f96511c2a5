"""Three hops of attention over the states of the article's LSTM (Sukhbaatar et al. 2015).

    ./launch.sh compare --variants=memory --workdir=runs/memory

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-28 (experiments/results/): 74.6 [73.5, 75.7].
"""

from research.models import settings_for
from research.settings import Config


def get_config() -> Config:
    return Config(model=settings_for("memory.Memory", hops=3))
