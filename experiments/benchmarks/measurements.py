"""Name, collect and summarise what the benchmark measures."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

STEP, COMPARISON, TABLE = "a step of 32 x 100 on one core, ms", "a comparison, s", "the default table, s"
PRODUCT, RATE = "product of matrices on one core, GFLOP/s", "training, GFLOP/s of unpadded tokens a core"
LINEAR, POPULATION = "a comparison of linear models, s", "training, texts a second"
LINEAR_IMDB = "a linear model on all of IMDb's words, s"
FINE_TUNING, FINE_TUNING_RATE = "fine-tuning MiniLM-L6, tokens a second", "its products, GFLOP/s of unpadded tokens"
PRODUCT_ALL = "product of matrices on all cores, GFLOP/s"
HELP, SECOND_START, MEMORY = "train --help, s", "a second start with two steps, s", "its peak memory, MB"
HEADER = ("what", "of", "median", "least", "most", "ours, as a share", "test accuracy")


class Measurement(NamedTuple):
    """One measured value."""

    what: str
    of: str  # whose value it is: a peer, or a text that starts with "ours"
    value: float
    accuracy: Sequence[float] = ()  # the test accuracies of the measured runs


def summary_rows(measurements: Sequence[Measurement]) -> list[tuple[str, ...]]:
    """Return one row for each measured quantity and owner, with medians over the repeats.

    The rows of peers have our median divided by theirs; a comparison of ours counts with warm caches.
    """
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault((measurement.what, measurement.of), []).append(measurement)
    median = {key: statistics.median(m.value for m in group) for key, group in groups.items()}
    # The last of ours, which has warm caches.
    our_median = {what: value for (what, owner), value in median.items() if owner.startswith("ours")}
    rows = []
    for (what, owner), group in groups.items():
        share = (
            ""
            if owner.startswith("ours") or what not in our_median
            else f"{our_median[what] / median[what, owner]:.2f}"
        )
        accuracies = [accuracy for m in group for accuracy in m.accuracy]
        accuracy = f"{100 * sum(accuracies) / len(accuracies):.1f}" if accuracies else ""
        values = [m.value for m in group]
        cells = (f"{value:.2f}" for value in (median[what, owner], min(values), max(values)))
        rows.append((what, owner, *cells, share, accuracy))
    return rows
