"""The article's listing as it computes: it keeps the last 100 tokens, pads in front and reads padding as words.

Compare it with `lstm`, which differs in nothing else, to see what ignoring padding is worth:

    ./launch.sh compare --variants=article,lstm --corpus=rotten_tomatoes --workdir=runs/article

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-28 (experiments/results/): article 73.8 [72.9, 74.8], lstm 74.9
[73.9, 75.9].
"""

from research.models import settings_for
from research.settings import Config, Data


def get_config() -> Config:
    return Config(model=settings_for("article.Article", width=100), data=Data(max_length=100, keep="last"))
