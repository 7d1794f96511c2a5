"""Measure on one accelerator, in a few minutes, what needs one: populations, the default table, restoring, tests.

    ACCELERATOR=cuda13 ./launch.sh accelerator --workdir=runs/accelerator
    ./launch.sh accelerator --workdir=runs/small --small

A population is R runs of a variant that one program trains together. Beside those of the `lstm`, PyTorch with cuDNN
trains one run at a time on the same folds for as many epochs. Runs are restored and resumed on the CPU and the other
way round. Each part is a process with a time limit. If it fails or runs out of time, that is reported, and the others
go on; the exit code is 1 if one failed. `accelerator.json` and `accelerator.md` are written after each part, and
`parts/` has what the processes wrote.
"""

import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import program
from experiments.benchmarks.accelerator_parts import ENVIRONMENT, plan_parts
from experiments.benchmarks.accelerator_tables import Section, make_sections
from experiments.benchmarks.parts import FAILED, Outcome, run_part, time_limit
from experiments.printing import print_table
from research.atomic_files import make_folder, write_text
from research.errors import UserError
from research.json_files import write_json
from research.parallel import device_setup
from research.progress import Reporter, reporting
from research.runs.claim import require_free

flags.DEFINE_bool("small", False, "Try the command, on CPU too: few texts, two variants, populations of 1 and 2.")
flags.DEFINE_float("minutes", 8.0, "The time of all parts together.", lower_bound=0.1)
flags.DEFINE_string("workdir", None, "The folder for the measurements.")
FLAGS = flags.FLAGS


def main() -> None:
    program.required("workdir")
    if not FLAGS.small and device_setup.has_only_cpus():
        raise UserError(
            "JAX is installed without support for an accelerator. Begin the command with ACCELERATOR=cuda13 (or "
            "cuda12, tpu), or try it with --small"
        )
    folder = Path(FLAGS.workdir).absolute()
    require_free(folder)
    make_folder(folder / "parts")
    try:
        sections, outcomes = _measure(folder)
    except KeyboardInterrupt:
        print(f"stopped; {folder / 'accelerator.md'} has the parts that ended", file=sys.stderr)
        sys.exit(130)
    for section in sections:
        if section.rows:
            print_table(section.title, section.header, section.rows)
        for sentence in section.sentences:
            print(sentence)
    print(f"report: {folder / 'accelerator.md'}")
    if any(outcome.status == FAILED for outcome in outcomes):
        sys.exit(1)


def _measure(folder: Path) -> tuple[list[Section], list[Outcome]]:
    """Run all parts, and write what is known after each; return the sections of the report, and how the parts ended."""
    start = time.monotonic()
    parts = plan_parts(folder, FLAGS.minutes, is_small=FLAGS.small, has_torch=bool(importlib.util.find_spec("torch")))
    outcomes: list[Outcome] = []
    with reporting(len(parts), "parts") as reporter:
        for i, part in enumerate(parts):
            limit = time_limit(parts, i, 60 * FLAGS.minutes - (time.monotonic() - start))
            reporter.progress(part.name, i, float("nan"))
            outcome = run_part(part, limit, folder)
            outcomes.append(outcome)
            sections = _write(folder, outcomes)
            _say(reporter, outcome)
            if part.name == ENVIRONMENT and not FLAGS.small:
                _require_accelerator(folder, outcome)
    return sections, outcomes


def _say(reporter: Reporter, outcome: Outcome) -> None:
    reason = f": {outcome.message.splitlines()[-1]}" if outcome.message else ""
    reporter.say(f"{outcome.name}: {outcome.status} after {outcome.seconds:.0f} s{reason}")


def _require_accelerator(folder: Path, environment: Outcome) -> None:
    """Raise UserError if JAX computes on CPU, which would measure nothing."""
    if any(about["platform"] == "cpu" for about in environment.results):
        raise UserError(f"JAX finds no accelerator here; {folder / 'parts' / 'environment.log'} may say why")


def _write(folder: Path, outcomes: Sequence[Outcome]) -> list[Section]:
    """Write `accelerator.json` and `accelerator.md`; return the sections of the latter."""
    measured = {"command": program.command(), "minutes": FLAGS.minutes, "small": FLAGS.small}
    write_json(folder / "accelerator.json", measured | {"parts": [outcome._asdict() for outcome in outcomes]})
    from research.reporting.documents import markdown_table

    sections = make_sections(outcomes)
    pieces = ["# On an accelerator", f"`{program.command()}`"]
    for section in sections:
        pieces.append(f"## {section.title}")
        pieces += [markdown_table(section.header, section.rows).strip()] if section.rows else []
        pieces += ["\n".join(f"- {sentence}" for sentence in section.sentences)] if section.sentences else []
        pieces += [f"{name}:\n\n```text\n{text}\n```" for name, text in section.outputs]
    write_text(folder / "accelerator.md", "\n\n".join(pieces) + "\n")
    return sections


if __name__ == "__main__":
    program.launch(main, trains=None)
