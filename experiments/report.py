"""Rebuilds the table, the plots and the report of a comparison from its saved runs.

./launch.sh report --workdir=runs/rotten_tomatoes
"""

from pathlib import Path

from absl import flags

from experiments import program
from experiments.progress import print_table
from research.reporting.report import write_report
from research.reporting.tables import HEADER, PAIR_HEADER, pair_rows, protocol, variant_rows

flags.DEFINE_string("workdir", None, "The comparison's folder.")


def main(overrides: list[str]) -> None:
    program.required("workdir")
    program.no_overrides(overrides)
    folder = Path(flags.FLAGS.workdir)
    results = write_report(folder)
    print_table(protocol(results), HEADER, variant_rows(results))
    if results.pairs:
        print_table("Differences of accuracy, simultaneous 95 % intervals", PAIR_HEADER, pair_rows(results))
    print(f"report: {folder / 'report.md'}")


if __name__ == "__main__":
    program.launch(main)
