"""Rebuilds the table, the plots and the report of a comparison from its saved runs.

./launch.sh report --workdir=runs/rotten_tomatoes
./launch.sh report --workdir=runs/rotten_tomatoes --baseline=lstm --margin=0.5
"""

from pathlib import Path

from absl import flags

from experiments import program
from experiments.progress import print_results
from research.reporting.report import write_report

flags.DEFINE_string("workdir", None, "The comparison's folder.")
program.define_claims()


def main(overrides: list[str]) -> None:
    program.required("workdir")
    program.no_overrides(overrides)
    folder = Path(flags.FLAGS.workdir)
    given = any(flags.FLAGS[name].present for name in ("baseline", "margin", "pairs"))
    print_results(write_report(folder, program.claims() if given else None), folder)


if __name__ == "__main__":
    program.launch(main)
