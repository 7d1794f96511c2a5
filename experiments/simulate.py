"""Simulated comparisons whose truth is known: how often intervals hold and verdicts err.

    ./launch.sh simulate --comparisons=10000 --output=experiments/results/simulation.md

`--comparisons` is the number for each of the two protocols, shared out over their scenarios.
"""

import time
from pathlib import Path

from absl import flags

from experiments import program
from experiments.progress import print_table, reporting
from research import runs

flags.DEFINE_integer("comparisons", 10_000, "Simulated comparisons of each protocol.", lower_bound=100)
flags.DEFINE_string("output", None, "A Markdown file for the table as well.")
FLAGS = flags.FLAGS
_HEADER = ("scenario", "true difference", "comparisons", "coverage", "wrong verdicts", "right verdicts", "interval")


def scenarios(trainings: int) -> list:
    """Those of a fixed test split, and those of cross-validation, whose truth takes so many trainings."""
    from research.evaluation.simulation import cross_validation, fixed_split, linear, random_features

    fixed = [
        fixed_split(texts=texts, runs=runs_, run_sd=run_sd, truth=truth)
        for texts, runs_ in ((400, 5), (1_800, 5), (1_800, 20))
        for run_sd in (0.0, 0.005, 0.01)
        for truth in (0.0, 0.005, 0.03)
    ]
    few, many = random_features(40), random_features(150)
    folded = [
        cross_validation(*learners, texts=texts, folds=folds, repeats=repeats, about=about, trainings=trainings)
        for texts, folds, repeats in ((500, 5, 1), (2_000, 5, 1), (1_000, 10, 1), (1_000, 5, 3))
        for about, learners in (
            ("A/A, much luck", (few, few)),
            ("A/A, little luck", (many, many)),
            ("A/B, much luck", (many, few)),
            ("A/B, little luck", (linear, many)),
        )
    ]
    return [fixed, folded]


def main(overrides: list[str]) -> None:
    program.no_overrides(overrides)
    from research.evaluation.simulation import run

    start = time.perf_counter()
    groups = scenarios(min(FLAGS.comparisons, 4_000))
    rows = []
    with reporting(sum(map(len, groups)), "scenarios") as reporter:
        for group in groups:
            count = -(-FLAGS.comparisons // len(group))
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
                    )
                )
                reporter.progress(scenario.name, len(rows), float("nan"))
    title = "Simulated comparisons, nominal 95 % (points; +- is the simulation's own 95 %)"
    print_table(title, _HEADER, rows)
    if FLAGS.output:
        from research.reporting.blocks import markdown_table
        from research.training.environment import environment

        about = environment()
        parts = [
            f"# {title}\n",
            f"`./launch.sh simulate --comparisons={FLAGS.comparisons}`, {about['processor']}, {about['date']}, "
            f"{time.perf_counter() - start:.0f} s, commit `{about['commit']}`.\n",
            markdown_table(_HEADER, rows),
        ]
        runs.write_text(Path(FLAGS.output), "\n".join(parts))


def _share(share: float, count: int) -> str:
    return f"{100 * share:.1f} +- {196 * (share * (1 - share) / count) ** 0.5:.1f}"


if __name__ == "__main__":
    program.launch(main)
