"""Rebuild the table, the plots and the report of a comparison from its saved runs.

    ./launch.sh report --workdir=runs/rotten_tomatoes
    ./launch.sh report --workdir=runs/rotten_tomatoes --baseline=lstm --margin=0.5
    ./launch.sh report --workdir=runs/rotten_tomatoes --tensorboard

Nothing is trained, and the runs stay as they are.
"""

from pathlib import Path

from absl import flags

from experiments import comparison_flags, program
from experiments.printing import print_results
from research.reporting.claims import planned_claims
from research.reporting.report import write_report
from research.runs.plan_file import read_plan

flags.DEFINE_string("workdir", None, "The comparison's folder.")
flags.DEFINE_bool("tensorboard", False, "Write tensorboard/ as well: the runs' loss and metrics by epoch.")
comparison_flags.define_claims()


def main() -> None:
    program.required("workdir")
    folder = Path(flags.FLAGS.workdir)
    results = write_report(folder, comparison_flags.update_claims(planned_claims(read_plan(folder))))
    print_results(results, folder)
    if flags.FLAGS.tensorboard:
        from research.reporting.tensorboard import write_events

        print(f"tensorboard --logdir={write_events(results, folder)}")


if __name__ == "__main__":
    program.launch(main, trains=None)
