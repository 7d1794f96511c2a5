"""An LSTM in each direction, 64 each, so that their states together are as wide as the article's."""

from research.models import settings_for
from research.settings import Config


def get_config() -> Config:
    return Config(model=settings_for("recurrent.Recurrent", cell="lstm", hidden_size=64, bidirectional=True))
