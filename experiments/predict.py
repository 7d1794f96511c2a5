"""Predict labels: one text in each input line, one JSON object in each output line, in the same order.

    echo "a fine film" | ./launch.sh predict --workdir=runs/lstm
    ./launch.sh predict --workdir=runs/lstm --input=texts.txt --output=labels.jsonl
    ./launch.sh predict --workdir=runs/lstm --input=texts.csv --text_column=review --output=labels.csv
    ./launch.sh predict --workdir=runs/mine --variant=lstm --input=texts.txt

With --variant, the folder is that of a comparison, and the probabilities are the mean over the variant's runs.

--explain adds which words support the label (see `research/serving/explain.py`) and takes about 50 times as long.

The input is read as every program reads files (docs/data.md); standard input is one text per line, unless flags such as
--text_column say more. An output named .csv has the columns text and label, one probability for each class, and the
other columns of the input; any other is JSON lines. Files of any size are processed in chunks. On CPU, long files are
processed by one process per core (at most eight).
"""

import contextlib
import itertools
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from absl import flags

from experiments import corpus_flags, program
from research.atomic_files import whole_file
from research.data.read_options import ReadOptions
from research.data.reader import find_reading
from research.errors import UserError
from research.parallel import device_setup
from research.parallel.worker_pool import Workers
from research.progress import reporting
from research.runs.averaged_runs import find_finished_runs
from research.serving.prediction_files import Chunk, Input, read_file, read_stream, split_into_chunks
from research.serving.prediction_stream import OutputFormat, Predictor, predict_here, predict_in_workers

flags.DEFINE_string("workdir", None, "The run's folder; with --variant, that of a comparison.")
flags.DEFINE_string("variant", "", "A variant of the comparison: average the probabilities of its finished runs.")
flags.DEFINE_string("input", "-", "A file of one text per line, or with a column of texts; - is standard input.")
corpus_flags.define_reading()
flags.DEFINE_bool("drop_missing", False, "Leave out rows without a text.")
flags.DEFINE_string("output", "-", "The file to write; - is standard output.")
flags.DEFINE_enum("format", None, ["jsonl", "csv"], "Format of the output (default: by its name, else jsonl).")
flags.DEFINE_bool("explain", False, "Explain each prediction (JSON lines).")
flags.DEFINE_bool("overwrite", False, "Replace the output file if it exists.")
FLAGS = flags.FLAGS

_INPUT_BYTES_PER_PROCESS = 1 << 20  # a process with less input does not pay for its start
_MAX_PROCESSES = 8  # each takes at least 0.3 GB, and one process reads and writes for all of them


def main() -> None:
    program.required("workdir")
    output = Path(FLAGS.output)
    is_csv = FLAGS.format == "csv" if FLAGS.format else output.suffix.lower() == ".csv"
    output_format = OutputFormat(is_csv, FLAGS.explain)
    _check_output(output, output_format)
    with ExitStack() as stack:
        path = _input_file(stack)
        size = _file_size(path)
        if _processes_for(size) > 1:
            device_setup.expect_workers()
        chunks = split_into_chunks(_read_input(path))
        start = time.monotonic()
        predictions = _predict(chunks, output_format, size)
        first = next(predictions)  # restores the run: if that fails, nothing has been written
        target = _open_output(stack, output)
        reporter = stack.enter_context(reporting(None if size is None else size / 1e3, "kB"))
        texts = 0
        for chunk, lines in itertools.chain([first], predictions):
            target.write(lines)
            texts += len(chunk.texts)
            rate = f"{texts:,} texts, {texts / (time.monotonic() - start):,.1f} per second"
            reporter.progress(rate, chunk.end / 1e3, float("nan"))
    if FLAGS.output != "-":
        print(f"{output}: {rate}", file=sys.stderr)


def _check_output(output: Path, output_format: OutputFormat) -> None:
    """Raise UserError if the predictions cannot be written as the flags say."""
    if output_format.explain and FLAGS.variant:
        raise UserError("--explain explains a single run. Leave out --variant, and name a run with --workdir")
    if output_format.explain and output_format.csv:
        raise UserError("--explain has no place in a table. Use --format=jsonl, or an --output not named .csv.")
    if output.is_dir():
        raise UserError(f"--output={output} is a folder, expected a file")
    if FLAGS.output != "-" and not output.parent.is_dir():
        raise UserError(f"--output={output}: there is no folder {output.parent}, expected one")
    if output.exists() and Path(FLAGS.input).exists() and output.samefile(FLAGS.input):
        raise UserError(f"--output={output} is the input too, expected another file")
    if FLAGS.output != "-" and output.exists() and not FLAGS.overwrite:
        raise UserError(f"{output} exists already; name another --output, or pass --overwrite")


def _input_file(stack: ExitStack) -> Path | None:
    """Return the file of texts; None for standard input with a text in each line.

    Other pipes are copied to a file, and standard input too if flags say where its texts are: a file is read twice.
    """
    path, options = Path(FLAGS.input), corpus_flags.read_options()
    if FLAGS.input == "-" and options == ReadOptions(encoding=options.encoding):
        return None
    if FLAGS.input != "-" and not path.is_fifo():
        return path
    source = sys.stdin.buffer if FLAGS.input == "-" else stack.enter_context(path.open("rb"))
    copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "input"
    with copy.open("wb") as file:
        shutil.copyfileobj(source, file)
    return copy


def _read_input(path: Path | None) -> Input:
    options = corpus_flags.read_options()
    if path is None:
        return read_stream(sys.stdin.buffer, "standard input", options.encoding)
    with corpus_flags.offering_commands():
        reading = find_reading(path, options, labelled=False)
    if not reading.is_obvious:
        print(reading.describe(), file=sys.stderr)
    return read_file(reading)


def _open_output(stack: ExitStack, output: Path) -> IO[str]:
    if FLAGS.output == "-":
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
        return sys.stdout
    with _refusing_unopened():
        return stack.enter_context(whole_file(output, text=True, suffix=".part"))


def _processes_for(size: int | None) -> int:
    """Return the number of processes that an input of so many bytes is worth; 0 if its size is not known."""
    return min(device_setup.CORES, _MAX_PROCESSES, (size or 0) // _INPUT_BYTES_PER_PROCESS)


def _predict(chunks: Iterable[Chunk], output_format: OutputFormat, size: int | None) -> Iterator[tuple[Chunk, str]]:
    """Predict in worker processes if the input is long enough and there are only CPUs; otherwise in this process."""
    predictor = Predictor(FLAGS.workdir, FLAGS.variant)
    if predictor.variant:
        runs = find_finished_runs(Path(FLAGS.workdir), FLAGS.variant)
        print(f"probabilities are the mean over {len(runs)} finished run(s) of {FLAGS.variant}", file=sys.stderr)
    processes = _processes_for(size)
    if processes > 1 and device_setup.has_only_cpus():
        workers = Workers(processes, device_setup.set_up_process)
        return predict_in_workers(predictor, chunks, output_format, workers)
    device_setup.use_devices()
    return predict_here(predictor, chunks, output_format)


def _file_size(path: Path | None) -> int | None:
    """Return the bytes of a regular file, or None for a pipe or terminal; without a path, of standard input."""
    status = os.fstat(sys.stdin.fileno()) if path is None else path.stat()
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@contextlib.contextmanager
def _refusing_unopened() -> Iterator[None]:
    """Turn an error of opening a file into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be opened ({error.strerror})") from error


if __name__ == "__main__":
    program.launch(main, trains=None)
