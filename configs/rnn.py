"""The Elman RNN with tanh, as is usual; `rnn:sigmoid` is the article's h = sigmoid(Wx + Uh + b)."""

from research.models import settings_for
from research.settings import Config

ARGUMENTS = ("tanh", "sigmoid")


def get_config(activation: str = "tanh") -> Config:
    return Config(model=settings_for("recurrent.Recurrent", cell="rnn", activation=activation))
