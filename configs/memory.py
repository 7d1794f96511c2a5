"""Three hops of attention over the states of the article's LSTM (Sukhbaatar et al. 2015)."""

from research.models import settings_for
from research.settings import Config


def get_config() -> Config:
    return Config(model=settings_for("memory.Memory", hops=3))
