"""Remove the files of an earlier run or comparison from a folder, and no other files."""

import shutil
from pathlib import Path

from research.errors import UserError
from research.runs import run_files
from research.runs.claim import lock_folder, remove_if_empty, require_free
from research.runs.plan_file import read_plan

_RUN_FILES = (
    *(run_files.RECORD, run_files.PREDICTIONS, run_files.METRICS, run_files.SEEN, run_files.TOKENIZER),
    run_files.LABELS,
    run_files.CONFIG,  # last: while it exists, the folder is known to hold a run
)
_COMPARISON_FILES = (
    *(run_files.PLAN, "results.csv", "comparison.json", "report.md", "report.html", "report.tex"),
    *(f"plots/{name}.png" for name in ("scores", "accuracy", "curves", "cost", "calibration", "confusion", "settings")),
)
_TEST_PREDICTIONS = "test_predictions*.csv"  # for test files that came without labels


def clear(folder: Path) -> None:
    """Remove the run or comparison in a folder, and no other files.

    Raises:
      UserError: the folder is not empty and holds neither, or another process writes into it.
    """
    if not (folder / run_files.PLAN).exists() and not run_files.is_run(folder):
        require_free(folder)
        return
    with lock_folder(folder):
        if (folder / run_files.PLAN).exists():
            _clear_comparison(folder)
        else:
            _clear_run(folder)
    remove_if_empty(folder)


def _clear_comparison(folder: Path) -> None:
    variants = [folder / entry["folder"] for entry in read_plan(folder)["variants"].values()]
    every_run = [run for variant in variants for run in variant.glob("*repeat*/")]
    for path in (*variants, *every_run, folder / "plots", folder / "tensorboard"):
        if path.is_symlink():
            raise UserError(f"{path} is a link, and its target is not deleted; remove the link")
    for run in every_run:
        with lock_folder(run):
            _clear_run(run)
        remove_if_empty(run)
    for variant in variants:
        remove_if_empty(variant)
    for path in (*(folder / name for name in _COMPARISON_FILES), *folder.glob(_TEST_PREDICTIONS)):
        path.unlink(missing_ok=True)
    remove_if_empty(folder / "plots")
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def _clear_run(folder: Path) -> None:
    for path in (*(folder / name for name in _RUN_FILES), *folder.glob("*.tmp"), *folder.glob(_TEST_PREDICTIONS)):
        path.unlink(missing_ok=True)
    for name in (run_files.CHECKPOINTS, run_files.ENCODER, run_files.STREAM, "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
