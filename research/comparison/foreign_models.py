"""Fit and ask a model that is not of this project: any object with `fit` and a method that predicts.

The methods are scikit-learn's: `fit(texts, labels)`, then `predict_proba`, else `decision_function`, else `predict`.
What they return is checked, and never mended by a guess.
"""

import contextlib
import copy
import functools
import hashlib
import inspect
import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from research.data.corpora import Corpus
from research.data.splits import Split
from research.errors import UserError

# The method that predicts -> what it tells, one of `metrics.KINDS`. The first that the model has is called.
_METHODS = {"predict_proba": "probabilities", "decision_function": "scores", "predict": "labels"}
_TOLERANCE = 0.01  # of a sum of probabilities: models round, and so do files
_LONGEST_VALUE = 200  # characters of a setting; of a longer one a hash is kept
_PLAIN = (str, bytes, int, float, complex, bool, type(None))


class ModelOutput(NamedTuple):
    """What a model says of N texts."""

    scores: np.ndarray  # float32 [N, C], with columns in the order of the corpus's classes
    kind: str  # one of `metrics.KINDS`


def check_model(name: str, model: Any) -> None:
    """Check that an object can be fitted and asked.

    Raises:
      UserError: it is a class, or lacks a method.
    """
    if isinstance(model, type):
        raise UserError(f"{name} is the class {model.__name__}, expected an object: {model.__name__}(...)")
    if not callable(getattr(model, "fit", None)):
        raise UserError(
            f"{name} is of type {_type_name(model)}, expected the name of a variant, a Config, or a model that has "
            "fit(texts, labels)"
        )
    if not any(hasattr(model, method) for method in _METHODS):
        raise UserError(f"{name} is of type {_type_name(model)}, which has none of the methods {', '.join(_METHODS)}")


def kind_of(model: Any) -> str:
    """Return what a model predicts, one of `metrics.KINDS`."""
    return _METHODS[_method_of(model)]


def _method_of(model: Any) -> str:
    return next(method for method in _METHODS if hasattr(model, method))


def describe_model(model: Any) -> dict[str, Any]:
    """Return the class and the settings of a model as JSON values, by which another model is noticed.

    The settings are those of `get_params()`, else the object's public attributes. Values that have no lasting text,
    such as functions and arrays, are named by their type. The code of the model is not compared.
    """
    if hasattr(model, "get_params"):
        values = model.get_params()
    else:
        values = {name: value for name, value in getattr(model, "__dict__", {}).items() if not name.startswith("_")}
    settings = {str(name): _shorten(_show(value)) for name, value in sorted(values.items())}
    return {"source": _type_name(model), "settings": settings}


def show_model(model: Any) -> str:
    """Return a text that shows a model to readers: its own `repr` if it has one, else its class and settings."""
    if type(model).__repr__ is not object.__repr__:
        return _shorten(re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(model).split())), 1000)
    about = describe_model(model)
    return f"{about['source']}({', '.join(f'{name}={value}' for name, value in about['settings'].items())})"


def _show(value: Any) -> str:
    """Return a text that is equal for equal settings, in any process."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_show, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_show(key)}: {_show(entry)}' for key, entry in value.items())}}}"
    return getattr(value, "__qualname__", type(value).__qualname__)


def _shorten(text: str, longest: int = _LONGEST_VALUE) -> str:
    if len(text) <= longest:
        return text
    return f"{text[:longest]}... (SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"


def _type_name(model: Any) -> str:
    module, name = type(model).__module__, type(model).__qualname__
    return name if module in ("__main__", "builtins") else f"{module}.{name}"


def given_labels(class_names: Sequence[str]) -> np.ndarray:
    """Return the classes as a model gets them, [C]: integers if all of them are written as integers, else strings."""
    try:
        numbers = [int(name) for name in class_names]
    except ValueError:
        return np.array(class_names)
    return np.array(numbers) if [*map(str, numbers)] == [*class_names] else np.array(class_names)


def fit_and_predict(
    model: Any, corpus: Corpus, split: Split, *, seed: int, place: str
) -> tuple[ModelOutput, dict[str, float]]:
    """Fit a copy of a model to the training texts of a run, and predict its test texts.

    `fit` gets a list of texts and an array of labels (`given_labels`). A `fit` with a parameter `validation_data` gets
    the validation texts and labels as a pair as well, to choose an epoch on; other models do not see them.

    Args:
      model: the model; it stays as it is.
      corpus: labelled texts.
      split: the run's split.
      seed: of the random numbers of `random` and `numpy.random` during the run.
      place: the names of variant and run, for messages.

    Returns:
      the predictions of the test texts, and the seconds to `train` and to `evaluate`.

    Raises:
      UserError: the model cannot be copied, or what it returns is not what was asked for.
      Exception: whatever the model raises.
    """
    fresh, labels = _copy_model(model, place), given_labels(corpus.class_names)
    train, validation, test = ([corpus.texts[i] for i in part] for part in split)
    options = {}
    if _takes_validation(fresh):
        options["validation_data"] = (validation, labels[corpus.labels[split.validation]])
    with _seeded(seed):
        times = [time.perf_counter()]
        fresh.fit(train, labels[corpus.labels[split.train]], **options)
        times.append(time.perf_counter())
        method = _method_of(fresh)
        values = getattr(fresh, method)(test)
        times.append(time.perf_counter())
    request = _Request(f"{place}: {method}", method, len(test), corpus.class_names)
    scores = _from_labels(values, request) if method == "predict" else _from_scores(values, fresh, request)
    training, predicting = np.diff(times)
    seconds = {"train": round(float(training), 6), "evaluate": round(float(predicting), 6)}
    return ModelOutput(scores.astype(np.float32), _METHODS[method]), seconds


def are_wrong(probabilities: np.ndarray) -> np.ndarray:
    """Return which rows of [N, C] have a value outside [0, 1], or a sum whose error rounding cannot explain."""
    is_outside = ~((probabilities >= 0) & (probabilities <= 1 + _TOLERANCE)).all(axis=1)
    return is_outside | (np.abs(probabilities.sum(axis=1) - 1) > _TOLERANCE)


@functools.lru_cache(maxsize=8)  # it is asked for each text
def label_index(class_names: tuple[str, ...]) -> dict[Any, int]:
    """Return label -> class, for labels as a model gets them and as their names. 1, 1.0 and True are one label.

    The classes false and true are booleans too, as Python has them and as pandas writes them to a file.
    """
    labels = {label.item(): i for i, label in enumerate(given_labels(class_names))}
    booleans = {name.lower(): i for i, name in enumerate(class_names)}
    if booleans.keys() == {"false", "true"}:
        labels |= {value: booleans[str(value).lower()] for value in (False, True, "False", "True")}
    return labels | {name: i for i, name in enumerate(class_names)}


def one_hot(classes: Sequence[int], num_classes: int) -> np.ndarray:
    """Return 1 for the class of each text and 0 for the others, float32 [N, C]."""
    return np.eye(num_classes, dtype=np.float32)[np.asarray(classes, np.int64)]


def _copy_model(model: Any, place: str) -> Any:
    """Return a copy to fit. scikit-learn's own way leaves out what an earlier `fit` has learned."""
    base = sys.modules.get("sklearn.base")  # imported already if the model is an estimator
    try:
        if base is not None and isinstance(model, base.BaseEstimator):
            return base.clone(model)
        return copy.deepcopy(model)
    except Exception as error:  # the model is the user's code: anything may be raised
        raise UserError(
            f"{place}: the model cannot be copied ({type(error).__name__}: {error}). Create in `fit` what cannot"
        ) from error


def _takes_validation(model: Any) -> bool:
    with contextlib.suppress(TypeError, ValueError):  # no signature is known
        return "validation_data" in inspect.signature(model.fit).parameters
    return False


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global random numbers that models draw by default, and restore their state afterwards."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


class _Request(NamedTuple):
    """What a model was asked for."""

    place: str  # for messages
    method: str
    count: int  # of texts
    class_names: tuple[str, ...]


def _from_labels(values: Any, request: _Request) -> np.ndarray:
    """Return scores [N, C] from labels."""
    labels = np.asarray(values)
    if labels.shape != (request.count,):
        raise UserError(
            f"{request.place} returned an array of shape {[*labels.shape]}, expected {request.count} labels. Return "
            "probabilities from predict_proba"
        )
    return one_hot([_class_of(label, request) for label in labels], len(request.class_names))


def _from_scores(values: Any, model: Any, request: _Request) -> np.ndarray:
    """Return scores [N, C] from those of a model, whose columns are some of the classes."""
    columns, is_margin = _columns_of(model, request), request.method == "decision_function"
    try:
        scores = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{request.place} returned a {type(values).__name__} that is no array of numbers") from None
    if is_margin and len(columns) == 2 and scores.shape == (request.count,):
        scores = np.stack([-scores, scores], axis=1)  # scikit-learn's form for two classes: positive for the second
    if scores.shape != (request.count, len(columns)):
        names = shorten_names([request.class_names[c] for c in columns])
        raise UserError(
            f"{request.place} returned an array of shape {[*scores.shape]}, expected [{request.count}, "
            f"{len(columns)}]: a column for each of {names}"
        )
    wrong = ~np.isfinite(scores).all(axis=1) if is_margin else are_wrong(scores)
    if wrong.any():
        n = int(np.argmax(wrong))
        expected = "finite numbers" if is_margin else "probabilities that sum to 1"
        raise UserError(f"{request.place} returned {scores[n].tolist()!s:.80} for a text, expected {expected}")
    # A class that no training text has gets probability 0, and a score below all others.
    complete = np.full((request.count, len(request.class_names)), scores.min() - 1 if is_margin else 0.0)
    complete[:, columns] = scores
    return complete if is_margin else complete / complete.sum(axis=1, keepdims=True)


def _columns_of(model: Any, request: _Request) -> list[int]:
    """Return the class of each column of a model's scores, by its `classes_`; without them, all in their order."""
    classes = getattr(model, "classes_", None)
    if classes is None:
        return list(range(len(request.class_names)))
    columns = [_class_of(label, request._replace(place=f"{request.place}: classes_")) for label in np.ravel(classes)]
    if len(set(columns)) < len(columns):
        raise UserError(f"{request.place}: classes_ has a label twice, expected different labels")
    return columns


def _class_of(label: Any, request: _Request) -> int:
    value = label.item() if isinstance(label, np.generic) else label
    try:
        return label_index(request.class_names)[value]
    except (KeyError, TypeError):  # a TypeError if it cannot be hashed
        expected = shorten_names(request.class_names)
        raise UserError(f"{request.place} has the label {value!r:.60}, expected one of {expected}") from None


def shorten_names(names: Sequence[str]) -> str:
    """Return the names of some classes for a message."""
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
