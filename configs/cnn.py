"""Kim's CNN with random vectors: windows of 3, 4 and 5 words, 100 maps each, max over time, dropout 0.5."""

from research.models import settings_for
from research.settings import Config


def get_config() -> Config:
    return Config(model=settings_for("cnn.CNN", widths=(3, 4, 5), features=100, dropout=0.5))
