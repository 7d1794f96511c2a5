"""A process that runs a program's command lines one after the other, as a user would in a shell: `child.py NAME`.

A line of standard input is a JSON list of arguments; the answer is a JSON list: exit code (or what was raised), what
was said on standard error, and the names in the folder it stands in.
"""

import contextlib
import importlib
import inspect
import io
import json
import os
import sys
from pathlib import Path

import jax
from absl import flags

from experiments import program
from research.settings import Training


def main(name: str) -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    module = importlib.import_module(f"experiments.{name}")
    lines, sys.stdin = sys.stdin, Path(os.devnull).open()  # noqa: SIM115 - until the process ends
    for line in lines:
        said, code = io.StringIO(), 0
        for flag in list(flags.FLAGS):
            flags.FLAGS[flag].unparse()
        flags.FLAGS.unparse_flags()
        sys.argv = ["program", *json.loads(line)]
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
            try:
                program.launch(module.main, trains=Training if inspect.signature(module.main).parameters else None)
            except SystemExit as end:
                code = end.code or 0
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test is told
                code = f"{type(error).__name__}: {error}"
        print(json.dumps([code, said.getvalue(), sorted(path.name for path in Path().iterdir())]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
