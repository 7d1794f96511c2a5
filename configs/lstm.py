"""The article's classifier: embedding 64, LSTM 128, last valid state, one logit; Adam 1e-3, 10 epochs, batch 32."""

from research.models import settings_for
from research.settings import Config


def get_config() -> Config:
    return Config(model=settings_for("recurrent.Recurrent", embedding_size=64, hidden_size=128))
