"""Check the texts and labels that a user of scikit-learn passes, and keep the labels with their types."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.errors import UserError
from research.json_files import write_json
from research.runs import run_files
from research.runs.estimator_base import DataConversionWarning

_KEPT = (str, bool, int, float)  # types of labels that JSON keeps


def read_texts(X: Any) -> list[str]:
    """Return the texts of X: a list, a tuple, a one-dimensional array or a pandas Series of strings.

    Raises:
      UserError: X is something else, or a text is missing or no string.
    """
    if isinstance(X, (str, bytes)):
        raise UserError("X is one text, expected a list of texts")
    if hasattr(X, "tocsr"):
        raise UserError("X is a sparse matrix of numbers, expected a list of texts; sparse input is not supported")
    dimensions = getattr(X, "ndim", 1)
    if dimensions != 1:
        raise UserError(
            f"X has {dimensions} dimensions, expected one: a list, an array or a Series of texts. Reshape your data, "
            'or pass the column of texts of a table, such as X["text"]'
        )
    try:
        texts = list(X)
    except TypeError:
        raise UserError(f"X is of type {type(X).__name__}, expected a list of texts") from None
    for i, text in enumerate(texts):
        if is_missing(text):
            raise UserError(f"X[{i}] is {text}, expected a text; leave out missing texts, or replace them by ''")
        if not isinstance(text, str):
            raise UserError(f"X[{i}] is of type {type(text).__name__}, expected a text (str)")
    return [str(text) for text in texts]  # an np.str_ is no plain string


def read_labels(y: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes of y, sorted, and for each text the number of its class, int64 [N].

    Raises:
      UserError: y is missing, has another length than `count`, a missing value, numbers that are no classes, or values
        that cannot be sorted.
    """
    if y is None:
        raise UserError("fit requires y to be passed, but the target y is None: expected a label for each text")
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        message = "A column-vector y was passed when a 1d array was expected. Please change the shape of y."
        warnings.warn(message, DataConversionWarning, stacklevel=3)
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise UserError(f"y has {labels.ndim} dimensions, expected one label for each text")
    if len(labels) != count:
        raise UserError(f"X has {count:,} texts and y has {len(labels):,} labels: inconsistent numbers of samples")
    if not count:
        raise UserError("X and y are empty (0 samples), expected texts and labels")
    # Of a list, because NumPy makes a NaN between strings the text "nan".
    for i, label in enumerate(y if isinstance(y, (list, tuple)) else labels.tolist()):
        if is_missing(label):
            raise UserError(f"y[{i}] is {label}, expected a label; leave out texts without one")
        if isinstance(label, float) and not label.is_integer():
            raise UserError(f"y[{i}] is {label}, expected a class and no measurement (Unknown label type: continuous)")
    try:
        return np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise UserError(f"the labels in y cannot be sorted ({error}), expected labels of one type") from error


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or pandas' NA or NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)


def class_names_of(classes: np.ndarray) -> tuple[str, ...]:
    """Return the names of classes in a run folder, in their order.

    Raises:
      UserError: there is only one class, or two classes have equal names.
    """
    names = tuple(map(str, classes.tolist()))
    if len(names) < 2:
        raise UserError(f"y has one class, {names[0]!r}, expected at least two")
    if len(set(names)) < len(names):
        raise UserError("two labels in y have the same name as a text, expected different ones")
    return names


def can_write_labels(classes: np.ndarray) -> bool:
    """Return whether `write_labels` keeps these labels with their types."""
    return all(isinstance(label, _KEPT) for label in classes.tolist())


def write_labels(folder: Path, classes: np.ndarray) -> None:
    """Keep the labels of a classifier in its run folder; labels that JSON cannot hold are kept by name alone."""
    if can_write_labels(classes):
        write_json(folder / run_files.LABELS, {"dtype": classes.dtype.str, "labels": classes.tolist()})


def saved_labels(folder: Path, class_names: Sequence[str]) -> np.ndarray:
    """Return the labels of a run, in the order of its classes.

    They are those that `write_labels` has kept. For other runs they are integers if all names of classes are, as in the
    files that the run was trained on; otherwise they are the names.

    Raises:
      UserError: the file of labels is damaged.
    """
    if not (folder / run_files.LABELS).exists():
        try:
            return np.array([int(name) for name in class_names])
        except (ValueError, OverflowError):
            return np.array(class_names)
    try:
        saved = run_files.read_json(folder / run_files.LABELS)
        labels = np.array(saved["labels"], np.dtype("O" if saved["dtype"] == "|O" else saved["dtype"]))
        is_fitting = [str(label) for label in labels.tolist()] == list(class_names)
    except (KeyError, TypeError, ValueError, IndexError):
        is_fitting = False
    if not is_fitting:
        raise UserError(f"{folder / run_files.LABELS}: no labels of {', '.join(class_names)}; the file is damaged")
    return labels
