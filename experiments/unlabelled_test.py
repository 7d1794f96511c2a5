"""Label the test files of a corpus that came without labels, as those of a Kaggle competition do."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from research.data.corpora import Corpus
    from research.reporting.results import Results


def predict_unlabelled(corpus: "Corpus", workdir: Path, variant: str = "") -> None:
    """Write predictions for each unlabelled test file into the folder of a run, and print where they are.

    Args:
      corpus: the corpus.
      workdir: the folder of a finished run; with a variant, of a comparison.
      variant: a variant of the comparison, whose runs predict together.
    """
    for number, (file, options) in enumerate(corpus.unlabelled):
        suffix = f"_{number + 1}" if number else ""
        output = workdir / f"test_predictions{suffix}.csv"
        flags = [f"--workdir={workdir}", f"--input={file}", f"--output={output}", "--overwrite", *options.flags()]
        flags += [f"--variant={variant}"] if variant else []
        command = [sys.executable, "-P", "-m", "experiments.predict", *flags]  # in a process with devices of its own
        if subprocess.run(command, check=False).returncode == 0:
            by = f" of {variant}, the best variant by its mean" if variant else ""
            print(f"{file} has no labels. Predictions{by}: {output}")


def best_own_variant(results: "Results") -> str:
    """Return the variant of this project with the best mean that has a finished run; empty if there is none."""
    foreign = {name for name, entry in results.plan["variants"].items() if "foreign" in entry}
    return next((variant for variant in results.ranked() if variant not in foreign), "")
