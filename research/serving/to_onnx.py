"""ONNX by jax2onnx, in an environment of its own: it pins an older orbax-checkpoint than training wants.

This file runs on both sides: `convert` here, and `python -m research.serving.to_onnx RUN FILE` in there.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

from research.data.cache import cache_folder
from research.errors import UserError

CONVERTER = "jax2onnx==0.17.1"
_PACKAGES = (CONVERTER, "tokenizers", "rjieba")
_NOT_CONVERTED = {  # that it is known to fail on, and why
    "linear": "sorting and hashing of numbers of words that are not fixed",
    "deep_cnn": "strided windows of a length that is not fixed",
}
_DONE = "installed"  # a file that is there when all is
_ROOT = Path(__file__).parents[2]


def interpreter() -> Path:
    """The Python of an environment that converts to ONNX and runs it; made on first use, in the per-user cache.

    Raises:
      UserError: it cannot be installed.
    """
    folder = _folder()
    python = folder / "bin" / "python"
    if is_installed():
        return python
    print(f"installing {CONVERTER} into {folder} (once)", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    done = _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_PACKAGES)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "is there a network?")
        raise UserError(f"--format=onnx needs {CONVERTER}, which could not be installed ({reason})")
    (folder / _DONE).touch()
    return python


def _folder() -> Path:
    return cache_folder("environments") / f"{CONVERTER}-python{sys.version_info.major}.{sys.version_info.minor}"


def require_convertible(module: str) -> None:
    """Raises UserError where the converter is known to fail on a variant (`settings.model.module`)."""
    if why := _NOT_CONVERTED.get(module.partition(".")[0]):
        raise UserError(f"{CONVERTER} cannot convert {module} ({why}), expected --format=stablehlo")


def is_installed() -> bool:
    """Whether `interpreter` has nothing to do."""
    return (_folder() / _DONE).exists()


def convert(workdir: Path, path: Path, python: Path) -> None:
    """Writes a run's program, of any number of texts of any length, as an ONNX file.

    Raises:
      UserError: the converter cannot do it.
    """
    done = _run(python, "-P", "-m", __name__, str(workdir.resolve()), str(path.resolve()))
    if done.returncode or not path.exists():
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
        raise UserError(f"{CONVERTER} cannot convert this variant ({reason}); --format=stablehlo can")


def _run(*command: Path | str) -> subprocess.CompletedProcess:
    given = os.environ | {"PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=given)


def _main(workdir: str, path: str) -> None:
    import jax
    import jax.numpy as jnp
    from jax2onnx import to_onnx

    from research.models.layers.recurrence import plain_recurrences
    from research.runs.restore import restore
    from research.serving.exported_program import predict_function

    predict = predict_function(restore(workdir))
    shapes = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in (("rows", "width"), ("rows",))]
    names = {"input_names": ["token_ids", "lengths"], "output_names": ["probabilities"]}
    try:
        with plain_recurrences():
            model = to_onnx(predict, shapes, **names)
    except Exception as error:  # noqa: BLE001 - whatever the converter meets
        sys.exit(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    Path(path).write_bytes(model.SerializeToString())


if __name__ == "__main__":
    _main(*sys.argv[1:])
