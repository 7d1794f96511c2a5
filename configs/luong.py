"""Luong's attention over the states of the article's LSTM, the last state as query; the argument is the score."""

from research.models import settings_for
from research.settings import Config

ARGUMENTS = ("general", "dot", "concat", "location", "local_m", "local_p")


def get_config(score: str = "general") -> Config:
    return Config(model=settings_for("luong.Luong", score=score))
