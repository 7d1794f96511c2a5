r"""Luong's attention over the states of the article's LSTM, with the last state as query. The argument is the score.

    ./launch.sh compare --variants=luong:general,luong:dot,luong:concat,luong:location,luong:local_m,luong:local_p \
        --workdir=runs/luong

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-28 (experiments/results/): general 74.7 [73.6, 75.8], dot 74.6 [73.6,
75.6], concat 74.6 [73.4, 75.8], location 74.6 [73.5, 75.7], local_m 73.7 [72.2, 75.2], local_p 74.1 [73.2, 75.1].
"""

from research.models import settings_for
from research.settings import Config

ARGUMENTS = ("general", "dot", "concat", "location", "local_m", "local_p")


def get_config(score: str = "general") -> Config:
    return Config(model=settings_for("luong.Luong", score=score))
