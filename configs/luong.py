"""Luong's global attention over the states of the article's LSTM, the last state as query."""

from research.models import settings_for
from research.settings import Config

ARGUMENTS = ("general", "dot")


def get_config(score: str = "general") -> Config:
    return Config(model=settings_for("luong.Luong", score=score))
