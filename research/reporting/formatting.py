"""Write scores, differences and lists of names as tables and sentences show them."""

from collections.abc import Iterable, Sequence

import numpy as np

from research.evaluation.metrics import METRICS, unit_of

_MOST_NAMES = 4


def format_percent(value: float) -> str:
    """Return a fraction as a percentage with one decimal; "-" where it is not defined."""
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def format_score(metric: str, value: float) -> str:
    """Return a score in per cent, or in nats with three decimals; "-" where it is not defined."""
    if unit_of(metric) != "nats":
        return format_percent(value)
    return "-" if np.isnan(value) else f"{value:.3f}"


def format_difference(metric: str, value: float) -> str:
    """Return a signed difference in points, or in nats with three decimals; "-" where it is not defined."""
    if np.isnan(value):
        return "-"
    return f"{value:+z.3f}" if unit_of(metric) == "nats" else f"{100 * value:+z.1f}"


def format_interval(metric: str, interval: Iterable[float]) -> str:
    """Return the interval of a difference as `[low, high]`."""
    low, high = (format_difference(metric, end) for end in interval)
    return f"[{low}, {high}]"


def difference_header(metric: str) -> str:
    """Return the header of a column of differences."""
    return f"{METRICS[metric].title} difference ({unit_of(metric)})"


def format_margin(metric: str, margin: float) -> str:
    """Return a margin with its unit."""
    return f"{margin:g} nats" if unit_of(metric) == "nats" else f"{100 * margin:g} point(s)"


def format_range(values: Iterable[int]) -> str:
    """Return the least and the largest of some numbers, one number if they are equal, "-" if there are none."""
    ends = sorted(values)
    if not ends:
        return "-"
    return f"{ends[0]:,}" if ends[0] == ends[-1] else f"{ends[0]:,} to {ends[-1]:,}"


def shorten_list(names: Sequence[str]) -> str:
    """Return the first few names and how many more there are; "none" if there are none."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more or "none"
