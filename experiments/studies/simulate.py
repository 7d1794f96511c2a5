"""Simulated comparisons whose truth is known: how often intervals hold and verdicts err.

    ./launch.sh simulate --comparisons=10000 --output=experiments/results/simulation.md

`--comparisons` is the number for each of the two protocols, shared out over their scenarios.
"""

import time

from absl import flags

from experiments import program
from experiments.progress import reporting
from experiments.studies import study as studies

flags.DEFINE_integer("comparisons", 10_000, "Simulated comparisons of each protocol.", lower_bound=1)
studies.define_output()
FLAGS = flags.FLAGS
_HEADER = (
    *("scenario", "true difference", "comparisons", "coverage", "wrong verdicts", "right verdicts", "interval"),
    "repeats used",
)


def scenarios(trainings: int) -> list:
    """Those of a fixed test split, and those of cross-validation, whose truth takes so many trainings."""
    from experiments.studies.simulation import (
        cross_validation,
        fixed_split,
        linear,
        random_features,
        true_difference,
    )

    fixed = [
        fixed_split(texts=texts, looks=looks, run_sd=run_sd, truth=truth)
        for texts, looks in ((400, (5,)), (1_800, (5,)), (1_800, (20,)), (1_800, tuple(range(5, 11))))
        for run_sd in (0.0, 0.005, 0.01)
        for truth in (0.0, 0.005, 0.03)
    ]
    few, many = random_features(40), random_features(150)
    folded = []
    for texts, folds, looks in (
        *((500, 5, (1,)), (2_000, 5, (1,)), (1_000, 10, (1,)), (1_000, 5, (3,))),
        (1_000, 5, (1, 2, 3, 4)),
    ):
        for about, a, b in (
            ("A/A, much luck", few, few),
            ("A/A, much luck, own folds", few, few),
            ("A/A, little luck", many, many),
            ("A/B, much luck", many, few),
            ("A/B, little luck", linear, many),
        ):
            truth = true_difference(a, b, texts=texts * (folds - 1) // folds, trainings=trainings)
            own = about.endswith("own folds")
            scenario = cross_validation(
                a, b, texts=texts, folds=folds, looks=looks, about=about, truth=truth, own_folds=own
            )
            folded.append(scenario)
    return [fixed, folded]


def main() -> None:
    import numpy as np

    from experiments.studies.simulation import run

    start = time.perf_counter()
    groups = scenarios(min(FLAGS.comparisons, 4_000))
    rows = []
    with reporting(sum(map(len, groups)), "scenarios") as reporter:
        for group in groups:
            count = -(-FLAGS.comparisons // len(group))
            total = np.zeros(3)
            for seed, scenario in enumerate(group):
                found = run(scenario, count, seed)
                rows.append(
                    (
                        scenario.name,
                        f"{100 * scenario.truth:+.2f}",
                        f"{count:,}",
                        _share(found.coverage, count),
                        _share(found.wrong, count),
                        _share(found.right, count),
                        f"+-{100 * found.half:.2f}",
                        f"{found.repeats:.1f} of {scenario.looks[-1]}",
                    )
                )
                reporter.progress(scenario.name, len(rows), float("nan"))
                total += np.array([found.coverage, found.wrong, found.right]) / len(group)
            shares = (_share(share, count * len(group)) for share in total)
            rows.append((f"all {len(group)} of this protocol", "", f"{count * len(group):,}", *shares, "", ""))
    title = "Simulated comparisons, nominal 95 % (points; +- is the simulation's own 95 %)"
    studies.show(title, _HEADER, rows, time.perf_counter() - start)


def _share(share: float, count: int) -> str:
    half = 1.96 * (share * (1 - share) / count) ** 0.5
    return f"{100 * share:.1f} +- {100 * max(half, 3 / count):.1f}"  # of none in n, 3 / n may be missed (rule of three)


if __name__ == "__main__":
    program.launch(main, trains=None)
