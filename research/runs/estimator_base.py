"""The base classes of scikit-learn's estimators where it is installed; otherwise small equivalents.

The only file that imports scikit-learn: `TextClassifier` works without it.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.exceptions import DataConversionWarning, NotFittedError
except ImportError:

    class NotFittedError(ValueError, AttributeError):
        """A method was called that needs `fit` first."""

    class DataConversionWarning(UserWarning):
        """Data were converted that may not have been meant so."""

    class BaseEstimator:
        """An estimator whose parameters are the arguments of `__init__`, kept as attributes."""

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """Return the parameters by name."""
            return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

        def set_params(self, **params: Any) -> "BaseEstimator":
            """Set parameters by name and return the estimator. Raise ValueError if one is unknown."""
            known = self.get_params()
            for name, value in params.items():
                if name not in known:
                    raise ValueError(f"{name} is no parameter, expected one of {', '.join(known)}")
                setattr(self, name, value)
            return self

    class ClassifierMixin:
        """The score of a classifier."""

        def score(self, X: Any, y: Any, sample_weight: Sequence[float] | None = None) -> float:
            """Return the accuracy of the predictions."""
            return float(np.average(np.asarray(self.predict(X)) == np.asarray(y), weights=sample_weight))


__all__ = ["BaseEstimator", "ClassifierMixin", "DataConversionWarning", "NotFittedError"]
