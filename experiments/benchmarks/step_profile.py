"""Show where a training step of each default variant spends its time, beside the time that its products need."""

import re
from collections.abc import Mapping
from pathlib import Path

from experiments.benchmarks.processes import CORES, run_peer
from research.json_files import write_json
from research.progress import reporting

# The default variants that take steps; SciPy fits the linear one.
VARIANTS = ("mlp", "rnn:tanh", "gru", "lstm", "cnn", "luong:general", "transformer:pre")
# Kinds of operations, by the names that XLA gives them.
_KINDS = {
    "products": r"(ynn_fusion|dot|convolution|gemm|cublas|cutlass)",
    "zeros": r"wrapped_broadcast",
    "copies": r"(wrapped_)?(copy|transpose|concatenate|bitcast_copy|multiply_transpose|pad|copy_pad)",
    "rows": r".*(gather|scatter)",
    "element by element": r".*(fusion|wrapped_)",
}
HEADER = ("variant", "a step, ms", "limit, ms", "share", *(f"{kind}, ms" for kind in _KINDS))


def profile_steps(folder: Path, rate: float) -> list[tuple[str, ...]]:
    """Profile the variants one after the other, on one core.

    Args:
      folder: gets `profile.json` with the milliseconds of every operation, and the traces.
      rate: FLOPs a second of a large product of matrices.

    Returns:
      the rows of a table. The limit is the time of a step's products of unpadded tokens at that rate, and the share is
      the limit over the time of the step. The times of kinds are traced, so that they do not add up to a step. Filling
      with zeros is what XLA on CPU does to arrays before their first use.
    """
    rows, profiles = [], {}
    with reporting(len(VARIANTS), "variants") as reporter:
        for done, variant in enumerate(VARIANTS):
            target = folder / variant.replace(":", "-")
            profile = run_peer("ours", "profile", cores=CORES[:1], folder=str(target), variant=variant)
            profiles[variant] = profile
            kinds = _by_kind(profile["operations"])
            step, limit = profile["step"], 1e3 * profile["flops"] / rate
            rows.append(
                (variant, f"{step:.2f}", f"{limit:.2f}", f"{limit / step:.2f}", *(f"{ms:.2f}" for ms in kinds.values()))
            )
            reporter.progress("", done + 1, float("nan"))
    write_json(folder / "profile.json", {"flops_per_second": rate, "variants": profiles})
    return rows


def _by_kind(operations: Mapping[str, float]) -> dict[str, float]:
    """Return the milliseconds of each kind of operation; loops, calls and Python are of none."""
    milliseconds = dict.fromkeys(_KINDS, 0.0)
    for name, of_step in operations.items():
        kind = next((kind for kind, pattern in _KINDS.items() if re.fullmatch(rf"{pattern}[\w.-]*", name)), None)
        if kind:
            milliseconds[kind] += of_step
    return milliseconds
