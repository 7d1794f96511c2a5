"""Simulate comparisons whose true difference is known: how often do intervals hold and verdicts err?

    ./launch.sh simulate --comparisons=10000 --output=experiments/results/simulation.md

The first table has comparisons of two variants under two protocols, a fixed test split and cross-validation. Each gets
`--comparisons`, shared by its scenarios. The second table has comparisons of several variants. Each variant has luck
with the training texts that folds and repeats cannot show; "hidden sd" is its standard deviation in a difference.
"""

import itertools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from experiments import program
from experiments.studies import study as studies
from research.progress import reporting

_USUAL = 7  # pairs of a comparison

if TYPE_CHECKING:
    from experiments.studies.families import Family
    from experiments.studies.simulation import Scenario

text = "Number of simulated comparisons of two variants under each protocol; 0 leaves this table out."
flags.DEFINE_integer("comparisons", 10_000, text, lower_bound=0)
text = f"Number of simulated comparisons of several variants, of each kind; fewer for more than {_USUAL} pairs; or 0."
flags.DEFINE_integer("families", 1_000, text, lower_bound=0)
studies.define_output()
FLAGS = flags.FLAGS
_HEADER = (
    *("scenario", "true difference", "comparisons", "coverage", "wrong verdicts", "right verdicts", "interval"),
    "repeats used",
)
_FAMILY_HEADER = (
    *("variants", "hidden sd", "comparisons", "all intervals hold", "one pair's hold, at worst", "their nominal level"),
    "interval",
)


def fixed_split_scenarios() -> list["Scenario"]:
    """Return the scenarios of a fixed test split."""
    from experiments.studies.simulation import fixed_split

    return [
        fixed_split(texts=texts, looks=looks, run_sd=run_sd, truth=truth)
        for texts, looks in ((400, (5,)), (1_800, (5,)), (1_800, (20,)), (1_800, tuple(range(5, 11))))
        for run_sd in (0.0, 0.005, 0.01)
        for truth in (0.0, 0.005, 0.03)
    ]


def cross_validation_scenarios(trainings: int) -> list["Scenario"]:
    """Return the scenarios of cross-validation; their true differences are means over so many trainings."""
    from experiments.studies.simulation import Learners, cross_validation, linear, random_features, true_difference

    few, many = random_features(40), random_features(150)
    pairs = (
        Learners("A/A, much luck", few, few),
        Learners("A/A, much luck, own folds", few, few, has_own_folds=True),
        Learners("A/A, little luck", many, many),
        Learners("A/B, much luck", many, few),
        Learners("A/B, little luck", linear, many),
    )
    protocols = (
        *((500, 5, (1,)), (2_000, 5, (1,)), (1_000, 10, (1,)), (1_000, 5, (3,))),
        (1_000, 5, (1, 2, 3, 4)),
    )
    scenarios = []
    for texts, folds, looks in protocols:
        for learners in pairs:
            truth = true_difference(learners, texts=texts * (folds - 1) // folds, trainings=trainings)
            scenarios.append(cross_validation(learners, texts=texts, folds=folds, looks=looks, truth=truth))
    return scenarios


def families() -> list[tuple[str, "Family"]]:
    """Return comparisons of several variants by name; 8,530 texts are as many as rotten_tomatoes has."""
    from experiments.studies.families import Family

    usual, stable, unstable = (0.006, 0.003, 0.006, 0.01), 0.006, 0.03

    def protocol(variants: int, repeats: int) -> str:
        return f"{variants}, 5 folds x {repeats}"

    def family(run_sds: Sequence[float], repeats: int, hidden: float, **options: bool) -> "Family":
        return Family(8_530, 5, repeats, tuple(run_sds), hidden, **options)

    def first(variants: int) -> list[float]:
        return list(itertools.islice(itertools.cycle(usual), variants))

    grid = itertools.product((4,), (1, 2, 3, 4, 5), (0.0, 0.0015, 0.0025))
    grid = [*grid, *itertools.product((2, 8, 28), (1, 3, 5), (0.0, 0.0025)), (8, 3, 0.0035), (8, 5, 0.0035)]
    named = [(protocol(v, repeats), family(first(v), repeats, hidden)) for v, repeats, hidden in grid]
    for repeats in (1, 3):
        others = [(", one of them unstable", [*first(7), unstable]), (", an unstable baseline", [unstable, *first(7)])]
        named += [(protocol(8, repeats) + about, family(sds, repeats, 0.0025)) for about, sds in others]
        named.append((protocol(5, repeats) + ", all pairs", family(first(5), repeats, 0.0025, all_pairs=True)))
    named += [(f"8, fixed split, {runs} runs", Family(1_800, 0, runs, (stable,) * 8)) for runs in (5, 15)]
    return named


def main() -> None:
    if FLAGS.comparisons:
        _show_pairs()
    if FLAGS.families:
        _show_families()


def _show_pairs() -> None:
    import numpy as np

    from experiments.studies.simulation import simulate

    start = time.perf_counter()
    groups = [fixed_split_scenarios(), cross_validation_scenarios(min(FLAGS.comparisons, 4_000))]
    rows = []
    with reporting(sum(map(len, groups)), "scenarios") as reporter:
        for scenarios in groups:
            count = -(-FLAGS.comparisons // len(scenarios))
            total = np.zeros(3)
            for seed, scenario in enumerate(scenarios):
                tally = simulate(scenario, count, seed)
                shares = (tally.coverage, tally.wrong, tally.right)
                rows.append(
                    (
                        scenario.name,
                        f"{100 * scenario.truth:+.2f}",
                        f"{count:,}",
                        *(_percentage(share, count) for share in shares),
                        f"+-{100 * tally.half:.2f}",
                        f"{tally.repeats:.1f} of {scenario.looks[-1]}",
                    )
                )
                reporter.progress(scenario.name, len(rows), float("nan"))
                total += np.array(shares) / len(scenarios)
            count *= len(scenarios)
            cells = (_percentage(share, count) for share in total)
            rows.append((f"all {len(scenarios)} of this protocol", "", f"{count:,}", *cells, "", ""))
    title = "Simulated comparisons, nominal 95 % (points; +- is the simulation's own 95 %)"
    studies.show(title, _HEADER, rows, time.perf_counter() - start)


def _show_families() -> None:
    from experiments.studies.families import simulate_family

    start, rows, named = time.perf_counter(), [], families()
    with reporting(len(named), "kinds of comparisons") as reporter:
        for seed, (name, family) in enumerate(named):
            count = max(1, FLAGS.families * _USUAL // max(_USUAL, len(family.pairs)))
            tally = simulate_family(family, count, seed)
            rows.append(
                (
                    name,
                    f"{100 * family.hidden_sd:.2f}",
                    f"{count:,}",
                    _percentage(tally.together, count),
                    _percentage(tally.worst, count),
                    f"{100 * tally.nominal:.2f}",
                    f"+-{100 * tally.half:.2f}",
                )
            )
            reporter.progress(name, len(rows), float("nan"))
    title = "Simulated comparisons of several variants, nominal 95 % for all intervals of one (points)"
    studies.show(title, _FAMILY_HEADER, rows, time.perf_counter() - start, append=FLAGS.comparisons > 0)


def _percentage(share: float, count: int) -> str:
    """Return a share of independent comparisons in per cent, with its own 95 % interval."""
    share = min(share, 1.0)  # a mean of shares may exceed 1 by rounding
    half = 1.96 * (share * (1 - share) / count) ** 0.5
    return f"{100 * share:.1f} +- {100 * max(half, 3 / count):.1f}"  # for 0 of n the rule of three gives 3 / n


if __name__ == "__main__":
    program.launch(main, trains=None)
