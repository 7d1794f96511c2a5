"""Recognise labels that are no single classes: scores, and several labels joined into one."""

import collections
import math
from collections.abc import Collection

_MOST_CLASSES = 20  # different labels with decimals; more of them are scores
_SEPARATORS = "#,;|"
_AROUND = " []()'\""  # blanks, and the brackets and quotes of a list that was written as a text


def are_scores(labels: Collection[str], texts: int) -> bool:
    """Return whether labels are numbers on a scale, such as 0.25 or 87, and not the names of classes.

    They are if all of them are numbers, and there are as many as half of the texts, or more than 20 with decimals.

    Args:
      labels: the different labels.
      texts: the number of texts that have them.
    """
    numbers = [_number(label) for label in labels]
    if not all(map(math.isfinite, numbers)):
        return False
    is_many = len(numbers) > _MOST_CLASSES and not all(number.is_integer() for number in numbers)
    return is_many or len(numbers) > max(5, texts / 2)


def _number(label: str) -> float:
    """Return the number that a label is, or NaN."""
    try:
        return float(label)
    except ValueError:
        return math.nan


def joined_labels(labels: Collection[str]) -> list[str]:
    """Return the labels that look like several in one, such as "good#late", sorted.

    Each of their parts is a label itself, or a part of several labels.
    """
    joined, single = set(), {label.strip(_AROUND) for label in labels}
    for separator in _SEPARATORS:
        parts_of = {label: _parts(label, separator) for label in labels if separator in label}
        uses = collections.Counter(part for parts in parts_of.values() for part in set(parts))
        for label, parts in parts_of.items():
            if len(parts) > 1 and all(part in single or uses[part] > 1 for part in parts):
                joined.add(label)
    return sorted(joined)


def _parts(label: str, separator: str) -> list[str]:
    """Return the parts of a label."""
    parts = (part.strip(_AROUND) for part in label.split(separator))
    return [part for part in parts if part]
