"""Kim's CNN with random vectors: windows of 3, 4 and 5 words, 100 maps each, max over time, dropout 0.5, max-norm 3."""

from research.models import settings_for
from research.settings import Config, Optimizer


def get_config() -> Config:
    model = settings_for("cnn.CNN", widths=(3, 4, 5), features=100, dropout=0.5)
    return Config(model=model, optimizer=Optimizer(max_norm=3.0))
