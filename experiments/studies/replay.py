"""Replay a finished comparison as if `--until=decided` had trained it: how many of its runs would have been needed?

    ./launch.sh replay --workdir=runs/many --max_repeats=5 --output=experiments/results/replay.md

The comparison has a fixed number of repeats. Nothing is trained: a run is used if the rule asks for it. The intervals
of the fixed design are for one look at the table, and those of the rule for all its looks.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import program
from experiments.studies import study as studies
from research.errors import UserError
from research.runs.plan_file import read_plan

if TYPE_CHECKING:
    from research.reporting.results import Results

flags.DEFINE_string("workdir", None, "The comparison's folder.")
flags.DEFINE_integer("max_repeats", None, "Largest number of repeats (default: as the comparison has).", lower_bound=1)
studies.define_output()
FLAGS = flags.FLAGS
_HEADER = ("design", "repeats", "runs", "decided pairs", "decided", "undecided")


def main() -> None:
    program.required("workdir")
    start = time.perf_counter()
    folder = Path(FLAGS.workdir)
    plan = read_plan(folder)
    most = FLAGS.max_repeats or plan["repeats"]
    if most > plan["repeats"]:
        raise UserError(f"--max_repeats is {most}, expected at most {plan['repeats']}, as {folder} has")
    fixed = _results_with(folder, plan, dict.fromkeys(plan["variants"], most), looks=1)
    adaptive, repeats_of = _replay(folder, plan, most)
    rows = [
        _row("fixed", fixed, dict.fromkeys(plan["variants"], most)),
        _row("--until=decided", adaptive, repeats_of),
    ]
    studies.show(
        f"Runs needed on {plan['corpus']['name']}, up to {most} repeats", _HEADER, rows, time.perf_counter() - start
    )


def _results_with(folder: Path, plan: dict[str, Any], repeats_of: dict[str, int], looks: int) -> "Results":
    """Return the results of the first repeats of each variant."""
    from research.reporting.claims import planned_claims
    from research.reporting.results import results_of

    variants = {name: entry | {"repeats": repeats_of[name]} for name, entry in plan["variants"].items()}
    reduced = plan | {"variants": variants, "repeats": max(repeats_of.values()), "looks": list(range(1, looks + 1))}
    return results_of(folder, reduced, planned_claims(plan)._replace(looks=looks))


def _replay(folder: Path, plan: dict[str, Any], most: int) -> tuple["Results", dict[str, int]]:
    """Return the results with which the rule would have ended, and the repeats of each variant."""
    from research.comparison.next_repeat import Limits, Pace, next_repeat

    repeats_of, repeats = dict.fromkeys(plan["variants"], 1), 1
    while True:
        results = _results_with(folder, plan, repeats_of, looks=most)
        variants, sentences = next_repeat(results, plan["variants"].keys(), Pace(), repeats, Limits(most))
        for sentence in sentences:
            print(sentence)
        if not variants:
            return results, repeats_of
        repeats += 1
        repeats_of |= dict.fromkeys(variants, repeats)


def _row(design: str, results: "Results", repeats_of: dict[str, int]) -> tuple[str, ...]:
    """Return a row of the table."""
    folds = results.plan["folds"] or 1
    decided = [pair["a"] for pair in results.pairs if pair["verdict"] not in ("undecided", "not trained")]
    undecided = [pair["a"] for pair in results.pairs if pair["verdict"] == "undecided"]
    counts = sorted(set(repeats_of.values()))
    shown = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    runs = f"{folds * sum(repeats_of.values()):,}"
    return design, shown, runs, f"{len(decided)}", ", ".join(decided), ", ".join(undecided)


if __name__ == "__main__":
    program.launch(main, trains=None)
