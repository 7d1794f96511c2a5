"""Logistic regression on TF-IDF of words and word pairs, fitted by L-BFGS.

The regularisation is scikit-learn's C = 10 (l2 = 1 / C), the best of 1, 4, 10, 30 and 100 by validation log loss on
rotten_tomatoes; C = 1 is far too strong for texts of a sentence.
"""

from research.models import settings_for
from research.settings import Config, Optimizer, Training


def get_config() -> Config:
    return Config(
        model=settings_for("linear.Linear"),
        optimizer=Optimizer(name="lbfgs"),
        training=Training(epochs=30, batch_size=0, select="last", l2=0.1),
    )
