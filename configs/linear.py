"""Logistic regression on words and word pairs, fitted by L-BFGS, weighted by TF-IDF or naive-Bayes log-count ratios.

`linear:tfidf` is regularised by scikit-learn's C = 10 (l2 = 1 / C). It has the best validation log loss on
rotten_tomatoes of 1, 4, 10, 30 and 100; C = 1 is far too strong for texts of one sentence. `linear:nb` has C = 1. Its
validation log loss (0.501) is within 0.001 of the best of l2 = 0.3, 1, 3 and 10.

    ./launch.sh compare --variants=linear:tfidf,linear:nb --workdir=runs/linear

Test accuracy on rotten_tomatoes, 5 folds, 2026-11-28 (experiments/results/): tfidf 76.0 [74.6, 77.4], nb 77.0 [76.1,
77.9].
"""

from research.models import settings_for
from research.settings import Config, Optimizer, Training

ARGUMENTS = ("tfidf", "nb")
SPACE = {"training.l2": ("log", 0.01, 10.0)}
_L2 = {"tfidf": 0.1, "nb": 1.0}


def get_config(weighting: str = "tfidf") -> Config:
    return Config(
        model=settings_for("linear.Linear", weighting=weighting),
        optimizer=Optimizer(name="lbfgs"),
        training=Training(epochs=1000, batch_size=0, select="last", l2=_L2[weighting]),
    )
