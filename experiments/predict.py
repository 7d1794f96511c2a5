"""Predicts labels: a text a line in, a JSON object a line out, in the same order.

    echo "a fine film" | ./launch.sh predict --workdir=runs/lstm
    ./launch.sh predict --workdir=runs/lstm --input=texts.txt --output=labels.jsonl
    ./launch.sh predict --workdir=runs/lstm --input=texts.csv --text_column=review --output=labels.csv

--explain adds which words speak for the label (`research/serving/explain.py`) and takes some 50 times as long.

An input named .csv or .jsonl has a column of texts, and of one named .tsv what stands behind a tab is left out. An
output named .csv has the columns text, label and a probability a class; any other is JSON lines. Files of any size are
read and written a piece at a time, and on CPU long ones by a process a core (at most eight).
"""

import contextlib
import itertools
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from absl import flags

from experiments import devices, program
from experiments.progress import reporting
from research.atomic_files import whole_file
from research.errors import UserError
from research.serving import lines, many

flags.DEFINE_string("workdir", None, "The run's folder.")
flags.DEFINE_string("input", "-", "A UTF-8 file with a text a line, or a column of texts; - is standard input.")
flags.DEFINE_string("text_column", "text", "Name of the text column (CSV, JSONL).")
flags.DEFINE_string("output", "-", "The file to write; - is standard output.")
flags.DEFINE_enum("format", None, ["jsonl", "csv"], "Of the output (default: what it is named, else jsonl).")
flags.DEFINE_bool("explain", False, "Explain each prediction (JSON lines).")
flags.DEFINE_bool("overwrite", False, "Replace the output file where there is one.")
FLAGS = flags.FLAGS


_BYTES_A_PROCESS = 1 << 20  # of input: with less a process is not worth its start
_MOST_PROCESSES = 8  # each takes 0.3 GB and more, and reading and writing are done by one


def main() -> None:
    program.required("workdir")
    output = Path(FLAGS.output)
    as_csv = FLAGS.format == "csv" if FLAGS.format else output.suffix.lower() == ".csv"
    form = many.Form(as_csv, FLAGS.explain)
    if form.explain and form.csv:
        raise UserError("--explain has no place in a table; expected an output of JSON lines")
    if output.is_dir():
        raise UserError(f"--output={output} is a folder, expected a file")
    if FLAGS.output != "-" and not output.parent.is_dir():
        raise UserError(f"--output={output}: there is no folder {output.parent}, expected one")
    if output.exists() and Path(FLAGS.input).exists() and output.samefile(FLAGS.input):
        raise UserError(f"--output={output} is the input too, expected another file")
    if FLAGS.output != "-" and output.exists() and not FLAGS.overwrite:
        raise UserError(f"{output} exists already; name another --output, or pass --overwrite")
    with ExitStack() as stack:
        name, kind = ("standard input", "") if FLAGS.input == "-" else (FLAGS.input, Path(FLAGS.input).suffix.lower())
        with _said():
            source = sys.stdin.buffer if FLAGS.input == "-" else stack.enter_context(Path(FLAGS.input).open("rb"))
        size = _size(source)
        chunks = lines.chunks(lines.read_texts(source, name, kind, FLAGS.text_column))
        start = time.monotonic()
        answers = _answers(chunks, form, size)
        first = next(answers)  # there is one; nothing is written before the run is known to be one
        if FLAGS.output == "-":
            target = sys.stdout
            target.reconfigure(encoding="utf-8", newline="\n")
        else:
            with _said():
                target = stack.enter_context(whole_file(output, text=True, suffix=".part"))
        reporter = stack.enter_context(reporting(None if size is None else size / 1e3, "kB"))
        done = 0
        for chunk, written in itertools.chain([first], answers):
            target.write(written)
            done += len(chunk.texts)
            rate = f"{done:,} texts, {done / (time.monotonic() - start):,.0f} a second"
            reporter.progress(rate, chunk.read / 1e3, float("nan"))
    if FLAGS.output != "-":
        print(f"{output}: {rate}", file=sys.stderr)


def _answers(chunks: Iterable[lines.Chunk], form: many.Form, size: int | None) -> Iterator[tuple[lines.Chunk, str]]:
    """In processes where there is enough for them and nothing but CPUs, else in this one."""
    processes = min(devices.CORES, _MOST_PROCESSES, (size or 0) // _BYTES_A_PROCESS)
    if processes > 1 and devices.has_only_cpus():
        return many.in_processes(FLAGS.workdir, chunks, form, processes=processes, set_up=devices.set_up_process)
    devices.use_devices(side_by_side=True)
    return many.in_threads(FLAGS.workdir, chunks, form)


def _size(source: BinaryIO) -> int | None:
    """Bytes of a regular file; None for what has no end in sight."""
    about = os.fstat(source.fileno())
    return about.st_size if stat.S_ISREG(about.st_mode) else None


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """What cannot be opened is the user's mistake."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be opened ({error.strerror})") from error


if __name__ == "__main__":
    program.launch(main, trains=None)
