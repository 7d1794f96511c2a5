"""Estimate the effects of settings that were varied together, from the names that `--vary` gives to variants.

A main effect is the difference that one level of a setting makes to its first level, averaged over the levels of the
other settings. An interaction is how much such a difference changes with the level of another setting (Fisher 1935,
"The design of experiments", factorial designs). Both are weighted sums over variants.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from research.evaluation.intervals import Estimate, contrast, interval
from research.evaluation.outcome import Outcome
from research.reporting.claims import Claims, level_of, settings_in


class Grid(NamedTuple):
    """One variant under every combination of the levels of some settings."""

    base: str
    fields: tuple[str, ...]
    cells: dict[tuple[str, ...], str]  # levels in the order of `fields` -> variant

    def levels(self, field: str) -> list[str]:
        """Return the levels of a field in the order in which they were named."""
        return list(dict.fromkeys(levels[self.fields.index(field)] for levels in self.cells))


class Effect(NamedTuple):
    """A main effect or an interaction, with an interval that is simultaneous over all effects."""

    name: str
    variants: tuple[str, ...]  # of its grid
    estimate: Estimate


def find_grids(variants: Sequence[str]) -> list[Grid]:
    """Return the full grids among names such as `lstm[model.hidden_size=64,optimizer.learning_rate=0.001]`."""
    cells_of: dict[tuple[str, tuple[str, ...]], dict[tuple[str, ...], str]] = {}
    for variant in variants:
        base, settings = settings_in(variant)
        if settings:
            fields, levels = zip(*settings, strict=True)
            cells_of.setdefault((base, fields), {})[levels] = variant
    grids = [Grid(base, fields, cells) for (base, fields), cells in cells_of.items()]
    return [grid for grid in grids if _is_full(grid)]


def _is_full(grid: Grid) -> bool:
    levels = [grid.levels(field) for field in grid.fields]
    return min(map(len, levels)) > 1 and set(itertools.product(*levels)) == set(grid.cells)


def estimate_effects(
    variants: Sequence[str], outcomes: Mapping[str, list[Outcome]], claims: Claims, *, folds: int
) -> list[Effect]:
    """Return the effects in every grid of two settings or more. They need two common runs of all variants of a grid.

    The intervals are simultaneous over the effects that were planned: a run that fails makes no other interval shorter.

    Args:
      variants: the planned variants.
      outcomes: variant -> its finished runs.
      claims: they name the metric and the number of looks and corpora.
      folds: 0 where all runs share a test split.
    """
    grids = [grid for grid in find_grids(variants) if len(grid.fields) > 1]
    weights_of = [list(_weigh_effects(grid)) for grid in grids]
    named_samples = []
    for grid, weighted in zip(grids, weights_of, strict=True):
        runs = [outcomes.get(variant, []) for variant in grid.cells.values()]
        if min(map(len, runs)) < 2:
            continue
        for name, weights in weighted:
            sample = contrast(runs, weights, claims.metric, folds=folds)
            if sample is not None and len(sample.scores) > 1:
                named_samples.append((f"{grid.base}: {name}", tuple(grid.cells.values()), sample))
    level = level_of(sum(map(len, weights_of)), claims, [sample for _, _, sample in named_samples])
    return [Effect(name, cells, interval(sample, level=level)) for name, cells, sample in named_samples]


def _weigh_effects(grid: Grid) -> Iterator[tuple[str, list[float]]]:
    """Yield the name of each effect and the weights of the grid's cells in it."""
    for field in grid.fields:
        first, *others = grid.levels(field)
        for level in others:
            yield f"{field}={level} against {first}", _weigh_cells(grid, {field: (first, level)})
    for one, other in itertools.combinations(grid.fields, 2):
        for a, b in itertools.product(grid.levels(one)[1:], grid.levels(other)[1:]):
            contrasted = {one: (grid.levels(one)[0], a), other: (grid.levels(other)[0], b)}
            yield f"interaction of {one}={a} and {other}={b}", _weigh_cells(grid, contrasted)


def _weigh_cells(grid: Grid, contrasted: dict[str, tuple[str, str]]) -> list[float]:
    """Return the weights of a contrast.

    The weight is -1 at the first of a contrasted field's two levels and 1 at the second. Weights are multiplied over
    the contrasted fields and averaged over the levels of the others.
    """
    weights = []
    for levels in grid.cells:
        weight = 1.0
        for field, level in zip(grid.fields, levels, strict=True):
            if field in contrasted:
                first, second = contrasted[field]
                weight *= {first: -1.0, second: 1.0}.get(level, 0.0)
        weights.append(weight)
    total = sum(map(abs, weights)) / 2 ** len(contrasted)
    return [weight / total for weight in weights]
