"""The gated recurrent unit (Cho et al. 2014) in place of the article's LSTM."""

from research.models import settings_for
from research.settings import Config


def get_config() -> Config:
    return Config(model=settings_for("recurrent.Recurrent", cell="gru"))
