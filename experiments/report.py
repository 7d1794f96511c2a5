"""Rebuilds the table, the plots and the report of a comparison from its saved runs.

./launch.sh report --workdir=runs/rotten_tomatoes
"""

from pathlib import Path

from absl import flags

from experiments import program
from experiments.progress import print_results
from research.reporting.report import write_report

flags.DEFINE_string("workdir", None, "The comparison's folder.")


def main(overrides: list[str]) -> None:
    program.required("workdir")
    program.no_overrides(overrides)
    folder = Path(flags.FLAGS.workdir)
    print_results(write_report(folder), folder)


if __name__ == "__main__":
    program.launch(main)
