"""Train text classifiers and compare them so that the comparison can be believed.

from research import compare, load, restore, train

folder = train(config, "rotten_tomatoes", "runs/lstm")
restore(folder).predict_proba(["a fine film"])
"""

import importlib
from typing import Any

_HOME = {
    "ComparisonSpec": "research.comparison.compare",
    "TextClassifier": "research.runs.text_classifier",
    "compare": "research.comparison.compare",
    "compare_scores": "research.evaluation.compare_scores",
    "load": "research.data.corpora",
    "pretrain": "research.pretraining.pretrain",
    "refit": "research.comparison.refit",
    "restore": "research.runs.restore",
    "train": "research.runs.train",
}


def __dir__() -> list[str]:
    return sorted(_HOME)


def __getattr__(name: str) -> Any:
    # Imported on first use, so that reading a run folder does not load JAX.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'research' has no attribute {name!r}")
