"""What settings do that were varied together: main effects and interactions, from the names that `--vary` gives.

A main effect is the difference of the metric that a level of one setting makes to its first level, averaged over the
levels of the others; an interaction is by how much such a difference changes with the level of another setting (Fisher
1935, "The design of experiments", factorial designs). Both are weighted sums over variants, with the intervals that
differences have.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from research.evaluation.intervals import contrast, interval
from research.reporting.blocks import Table
from research.reporting.claims import level_of, settings_in
from research.reporting.results import NOT_TRAINED, Results
from research.reporting.tables import difference_header, shown_difference, shown_interval


class Grid(NamedTuple):
    """One variant under every combination of the levels of some settings."""

    base: str
    fields: tuple[str, ...]
    cells: dict[tuple[str, ...], str]  # levels in the order of `fields` -> name in tables

    def levels(self, field: str) -> list[str]:
        """The levels of a field, in the order in which they were given."""
        return list(dict.fromkeys(levels[self.fields.index(field)] for levels in self.cells))


def grids(variants: Sequence[str]) -> list[Grid]:
    """The full grids among names such as `lstm[model.hidden_size=64,optimizer.learning_rate=0.001]`."""
    found: dict[tuple[str, tuple[str, ...]], dict[tuple[str, ...], str]] = {}
    for variant in variants:
        base, settings = settings_in(variant)
        if settings:
            fields, levels = zip(*settings, strict=True)
            found.setdefault((base, fields), {})[levels] = variant
    listed = [Grid(base, fields, cells) for (base, fields), cells in found.items()]
    return [grid for grid in listed if _is_full(grid)]


def _is_full(grid: Grid) -> bool:
    levels = [grid.levels(field) for field in grid.fields]
    return min(map(len, levels)) > 1 and set(itertools.product(*levels)) == set(grid.cells)


def effects_table(results: Results) -> Table:
    """A row an effect, of each grid of two settings or more; their intervals are simultaneous."""
    wanted, metric, planned = [], results.metric, 0
    for grid in grids(list(results.plan["variants"])):
        planned += len(list(_effects(grid))) if len(grid.fields) > 1 else 0
        done = [results.outcomes.get(variant, []) for variant in grid.cells.values()]
        if len(grid.fields) > 1 and min(map(len, done)) > 1:
            untrained = not results.untrained.keys().isdisjoint(grid.cells.values())
            wanted += [(f"{grid.base}: {name}", done, weights, untrained) for name, weights in _effects(grid)]
    rows = []
    for name, done, weights, untrained in wanted:
        sample = contrast(done, weights, metric, folds=results.plan["folds"])
        if sample is not None and len(sample.scores) > 1:
            found = interval(sample, level=level_of(planned, results.claims))
            between = NOT_TRAINED if untrained else shown_interval(metric, (found.low, found.high))
            rows.append((name, shown_difference(metric, found.mean), between))
    return Table(("effect", difference_header(metric), "interval"), rows)


def _effects(grid: Grid) -> Iterator[tuple[str, list[float]]]:
    """Names and weights of the cells."""
    for field in grid.fields:
        first, *others = grid.levels(field)
        for level in others:
            yield f"{field}={level} against {first}", _weights(grid, {field: (first, level)})
    for one, other in itertools.combinations(grid.fields, 2):
        for a, b in itertools.product(grid.levels(one)[1:], grid.levels(other)[1:]):
            chosen = {one: (grid.levels(one)[0], a), other: (grid.levels(other)[0], b)}
            yield f"interaction of {one}={a} and {other}={b}", _weights(grid, chosen)


def _weights(grid: Grid, chosen: dict[str, tuple[str, str]]) -> list[float]:
    """-1 at the first of the two levels of a chosen field and 1 at the second, multiplied over the chosen fields, and
    averaged over the levels of the others."""
    weights = []
    for levels in grid.cells:
        weight = 1.0
        for field, level in zip(grid.fields, levels, strict=True):
            if field in chosen:
                weight *= {chosen[field][0]: -1.0, chosen[field][1]: 1.0}.get(level, 0.0)
        weights.append(weight)
    averaged = sum(map(abs, weights)) / 2 ** len(chosen)
    return [weight / averaged for weight in weights]
