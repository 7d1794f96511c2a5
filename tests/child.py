"""Run many command lines of one program in one process: `child.py NAME`.

Each line of standard input is a JSON list of arguments. The answer is a JSON object: the exit code (or the exception),
standard output, standard error, and the names in the current folder.
"""

import contextlib
import importlib
import inspect
import io
import json
import os
import sys
from pathlib import Path

from absl import flags

from experiments import program
from research.settings import Training


def main(name: str) -> None:
    module = importlib.import_module(f"experiments.{name}")
    if name in ("compare", "report"):  # nobody looks at their plots: they are empty files
        from matplotlib.figure import Figure

        Figure.savefig = lambda figure, path, dpi: Path(path).write_bytes(b"")
    command_lines, sys.stdin = sys.stdin, Path(os.devnull).open()  # noqa: SIM115 - open until the process ends
    for line in command_lines:
        stdout, stderr, code = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO(), 0
        for flag in list(flags.FLAGS):
            flags.FLAGS[flag].unparse()
        flags.FLAGS.unparse_flags()
        sys.argv = [f"{name.rpartition('.')[2]}.py", *json.loads(line)]
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(stdout):
            try:
                program.launch(module.main, trains=Training if inspect.signature(module.main).parameters else None)
            except SystemExit as end:
                code = end.code or 0
            except BaseException as error:  # noqa: BLE001 - the test gets any exception
                code = f"{type(error).__name__}: {error}"
        stdout.flush()
        answer = {"code": code, "out": stdout.buffer.getvalue().decode(), "err": stderr.getvalue()}
        print(json.dumps(answer | {"names": sorted(path.name for path in Path().iterdir())}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
