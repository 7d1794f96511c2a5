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
    if unit_of(metric) == "nats":
        return f"{margin:g} nats"
    return f"{100 * margin:g} point{'' if np.isclose(margin, 0.01) else 's'}"


def format_range(values: Iterable[int]) -> str:
    """Return the least and the largest of some numbers, one number if they are equal, "-" if there are none."""
    ends = sorted(values)
    if not ends:
        return "-"
    return f"{ends[0]:,}" if ends[0] == ends[-1] else f"{ends[0]:,} to {ends[-1]:,}"


def join_names(names: Sequence[str]) -> str:
    """Return names as in "a, b and c"; of many, the first few and how many more; "none" if there are none."""
    shown, more = list(names), ""
    if len(shown) > _MOST_NAMES + 1:
        more = f" and {len(shown) - _MOST_NAMES} more"
        shown = shown[:_MOST_NAMES]
    elif len(shown) > 1:
        more = f" and {shown.pop()}"
    return ", ".join(shown) + more or "none"


def round_up(number: int) -> int:
    """Return a number rounded up to two digits: more digits are not known."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return -(-number // unit) * unit


def format_minutes(minutes: float) -> str:
    """Return an estimated duration in words, such as "about 4 minutes"."""
    for unit, size in (("day", 24 * 60), ("hour", 60)):
        if minutes >= 2 * size:
            return f"about {minutes / size:.0f} {unit}s"
    return f"about {minutes:.0f} minutes" if minutes >= 1.5 else "about a minute"
