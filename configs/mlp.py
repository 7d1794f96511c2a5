"""A sigmoid layer on the mean of the word vectors, the article's a' = sigmoid(W a + b).

`mlp:dan` is a deep averaging network: two layers, and training drops tokens (Iyyer et al. 2015).

    ./launch.sh compare --variants=mlp,mlp:dan --workdir=runs/mlp

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-28 (experiments/results/): mlp 76.0 [75.0, 76.9], dan 74.7 [73.3,
76.0].
"""

from research.models import settings_for
from research.settings import Config

ARGUMENTS = ("", "dan")
_SETTINGS = {"": {"activation": "sigmoid"}, "dan": {"activation": "relu", "layers": 2, "word_dropout": 0.3}}


def get_config(kind: str = "") -> Config:
    return Config(model=settings_for("mlp.MLP", **_SETTINGS[kind]))
