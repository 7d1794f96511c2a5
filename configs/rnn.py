"""The Elman RNN with tanh, the usual activation. `rnn:sigmoid` is the article's h = sigmoid(Wx + Uh + b).

    ./launch.sh compare --variants=rnn:tanh,rnn:sigmoid --workdir=runs/rnn

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-28 (experiments/results/): tanh 68.6 [62.1, 75.0], sigmoid 57.1
[51.5, 62.6].
"""

from research.models import settings_for
from research.settings import Config

ARGUMENTS = ("tanh", "sigmoid")


def get_config(activation: str = "tanh") -> Config:
    return Config(model=settings_for("recurrent.Recurrent", cell="rnn", activation=activation))
