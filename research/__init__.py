"""Train text classifiers and compare them so that the comparison can be believed.

from research import Corpus, compare, train

corpus = Corpus.from_pandas(df, text="review", label="sentiment")
result = compare(["linear", "lstm"], corpus, "runs/reviews")
print(result.answer)

run = train("lstm", corpus, "runs/lstm")
run.predict_proba(["a fine film"])
"""

import importlib
from typing import Any

_HOME = {
    "Corpus": "research.data.corpora",
    "TextClassifier": "research.runs.text_classifier",
    "UserError": "research.errors",
    "clean": "research.data.audit",
    "compare": "research.comparison.api",
    "compare_scores": "research.evaluation.compare_scores",
    "load": "research.data.corpora",
    "named_config": "research.runs.named_configs",
    "pretrain": "research.pretraining.pretrain",
    "refit": "research.comparison.refit",
    "restore": "research.runs.restore",
    "train": "research.comparison.api",
}


def __dir__() -> list[str]:
    return sorted(_HOME)


def __getattr__(name: str) -> Any:
    # Imported on first use, so that reading a run folder does not load JAX.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'research' has no attribute {name!r}")
