"""Predicts labels: a text a line in, a JSON object a line out, in the same order.

    echo "a fine film" | ./launch.sh predict --workdir=runs/lstm
    ./launch.sh predict --workdir=runs/lstm --input=texts.txt --output=labels.jsonl
    ./launch.sh predict --workdir=runs/lstm --input=texts.csv --text_column=review --output=labels.csv

--explain adds which words speak for the label (`research/serving/explain.py`) and takes some 50 times as long.

An input named .csv or .jsonl has a column of texts, and of one named .tsv what stands behind a tab is left out. An
output named .csv has the columns text, label and a probability a class; any other is JSON lines. Files of any size are
read and written a piece at a time.
"""

import os
import stat
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from absl import flags

from experiments import program
from experiments.progress import reporting
from research.errors import UserError

flags.DEFINE_string("workdir", None, "The run's folder.")
flags.DEFINE_string("input", "-", "A UTF-8 file with a text a line, or a column of texts; - is standard input.")
flags.DEFINE_string("text_column", "text", "Name of the text column (CSV, JSONL).")
flags.DEFINE_string("output", "-", "The file to write; - is standard output.")
flags.DEFINE_enum("format", None, ["jsonl", "csv"], "Of the output (default: what it is named, else jsonl).")
flags.DEFINE_bool("explain", False, "Explain each prediction (JSON lines).")
flags.DEFINE_bool("overwrite", False, "Replace the output file where there is one.")
FLAGS = flags.FLAGS


def main(overrides: list[str]) -> None:
    program.required("workdir")
    program.no_overrides(overrides)
    program.use_devices(side_by_side=True)
    from research.serving import lines
    from research.serving.explain import explainer
    from research.training.restore import restore

    output = Path(FLAGS.output)
    as_csv = FLAGS.format == "csv" if FLAGS.format else output.suffix.lower() == ".csv"
    if FLAGS.explain and as_csv:
        raise UserError("--explain has no place in a table; expected an output of JSON lines")
    if FLAGS.output != "-" and output.exists() and not FLAGS.overwrite:
        raise UserError(f"{output} exists already; name another --output, or pass --overwrite")
    run = restore(FLAGS.workdir)
    with ExitStack() as stack:
        try:
            source = sys.stdin.buffer if FLAGS.input == "-" else stack.enter_context(Path(FLAGS.input).open("rb"))
            # Under another name until it is whole, so that no reader takes half a file for all of it.
            unfinished = output.with_name(output.name + ".part")
            if FLAGS.output == "-":
                target = sys.stdout
                target.reconfigure(encoding="utf-8", newline="\n")
            else:
                target = stack.enter_context(unfinished.open("w", encoding="utf-8", newline="\n"))
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be opened ({error.strerror})") from error
        name, kind = ("standard input", "") if FLAGS.input == "-" else (FLAGS.input, Path(FLAGS.input).suffix.lower())
        texts = lines.read_texts(source, name, kind, FLAGS.text_column)
        reporter = stack.enter_context(reporting(_kilobytes(source), "kB"))
        if as_csv:
            target.write(lines.csv_header(run.class_names))
        start, done, rate = time.monotonic(), 0, ""
        for chunk in lines.predict_chunks(run, texts, explainer(run) if FLAGS.explain else None):
            target.write((lines.to_csv if as_csv else lines.to_jsonl)(chunk, run.class_names))
            done += len(chunk.texts)
            rate = f"{done:,} texts, {done / (time.monotonic() - start):,.0f} a second"
            reporter.progress(rate, chunk.read / 1e3, float("nan"))
    if FLAGS.output != "-":
        unfinished.replace(output)
        print(f"{output}: {rate or 'no texts'}", file=sys.stderr)


def _kilobytes(source: object) -> float | None:
    """The size of a regular file; None for what has no end in sight."""
    about = os.fstat(source.fileno())
    return about.st_size / 1e3 if stat.S_ISREG(about.st_mode) else None


if __name__ == "__main__":
    program.launch(main)
