"""Predicts labels: one text a line in, one JSON object a line out, in the same order.

echo "a fine film" | ./launch.sh predict --workdir=runs/lstm
./launch.sh predict --workdir=runs/lstm --input=texts.txt --output=labels.jsonl
"""

import sys
from contextlib import ExitStack
from pathlib import Path

from absl import flags

from experiments import program
from research.errors import UserError

flags.DEFINE_string("workdir", None, "The run's folder.")
flags.DEFINE_string("input", "-", "A UTF-8 file with one text a line; - is standard input.")
flags.DEFINE_string("output", "-", "The file to write; - is standard output.")
flags.DEFINE_bool("overwrite", False, "Replace the output file where there is one.")
FLAGS = flags.FLAGS


def main(overrides: list[str]) -> None:
    program.required("workdir")
    program.no_overrides(overrides)
    program.use_devices(side_by_side=False)
    from research.serving.lines import predict_lines
    from research.training.restore import restore

    run = restore(FLAGS.workdir)
    output = Path(FLAGS.output)
    if FLAGS.output != "-" and output.exists() and not FLAGS.overwrite:
        raise UserError(f"{output} exists already; name another --output, or pass --overwrite")
    with ExitStack() as stack:
        try:
            source = sys.stdin.buffer if FLAGS.input == "-" else stack.enter_context(Path(FLAGS.input).open("rb"))
            # Under another name until it is whole, so that no reader takes half a file for all of it.
            unfinished = output.with_name(output.name + ".part")
            target = sys.stdout if FLAGS.output == "-" else stack.enter_context(unfinished.open("w", encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be opened ({error.strerror})") from error
        for line in predict_lines(run, source, "standard input" if FLAGS.input == "-" else FLAGS.input):
            target.write(line)
    if FLAGS.output != "-":
        unfinished.replace(output)


if __name__ == "__main__":
    program.launch(main)
