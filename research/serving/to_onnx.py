"""Conversion to ONNX by jax2onnx, in a separate environment: it pins an older orbax-checkpoint than training needs.

`convert` is called by the exporter. It runs `python -m research.serving.to_onnx RUN FILE` in that environment.
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
_NOT_CONVERTED = {  # modules that the converter fails on, and why
    "linear": "it sorts and hashes words whose number is not fixed",
    "deep_cnn": "it slides over texts whose length is not fixed, with a stride",
}
_DONE = "installed"  # a file that is written when everything is installed
_ROOT = Path(__file__).parents[2]


def interpreter() -> Path:
    """Return the Python of the environment, which is made in the per-user cache on first use.

    Raises:
      UserError: the converter cannot be installed.
    """
    folder = _folder()
    python = folder / "bin" / "python"
    if is_installed():
        return python
    print(f"installing {CONVERTER} into {folder} (once)", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    process = _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_PACKAGES)
    if process.returncode:
        reason = next((line for line in process.stderr.splitlines() if line.startswith("ERROR")), "is there a network?")
        raise UserError(f"--format=onnx needs {CONVERTER}, which could not be installed ({reason})")
    (folder / _DONE).touch()
    return python


def _folder() -> Path:
    return cache_folder("environments") / f"{CONVERTER}-python{sys.version_info.major}.{sys.version_info.minor}"


def require_convertible(module: str) -> None:
    """Raise UserError if the converter is known to fail on a variant (`settings.model.module`)."""
    if reason := _NOT_CONVERTED.get(module.partition(".")[0]):
        raise UserError(f"{CONVERTER} cannot convert {module} ({reason}), expected --format=stablehlo")


def is_installed() -> bool:
    """Return whether the environment exists already."""
    return (_folder() / _DONE).exists()


def convert(workdir: Path, path: Path, python: Path) -> None:
    """Write a run's model as an ONNX file that accepts any number of texts of any length.

    Raises:
      UserError: the converter fails.
    """
    process = _run(python, "-P", "-m", __name__, str(workdir.resolve()), str(path.resolve()))
    if process.returncode or not path.exists():
        reason = (process.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
        raise UserError(f"{CONVERTER} cannot convert this variant ({reason}); --format=stablehlo can")


def _run(*command: Path | str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)


def _main(workdir: str, path: str) -> None:
    import jax
    import jax.numpy as jnp
    from jax2onnx import to_onnx

    from research.runs.restore import restore
    from research.serving.exported_program import predict_function

    predict = predict_function(restore(workdir))
    shapes = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in (("rows", "width"), ("rows",))]
    names = {"input_names": ["token_ids", "lengths"], "output_names": ["probabilities"]}
    try:
        model = to_onnx(predict, shapes, **names)
    except Exception as error:  # noqa: BLE001 - whatever the converter meets
        sys.exit(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    Path(path).write_bytes(model.SerializeToString())


if __name__ == "__main__":
    _main(*sys.argv[1:])
