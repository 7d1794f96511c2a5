"""Write the curves of saved runs for TensorBoard. The only file that imports tensorboardX."""

from pathlib import Path

from research.errors import not_installed
from research.reporting.results import Results
from research.runs import run_files


def write_events(results: Results, folder: Path) -> Path:
    """Write loss and metrics by epoch to `tensorboard/VARIANT/RUN/`; return the folder `tensorboard`.

    Earlier event files are removed first. Runs without metrics are skipped.

    Raises:
      UserError: tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise not_installed("--tensorboard", "tensorboardX", "tensorboard") from None
    target = folder / "tensorboard"
    for old in target.rglob("events.out.tfevents.*"):
        old.unlink()
    for row in results.rows:
        if (folder / row["run_folder"] / run_files.METRICS).exists():
            with SummaryWriter(str(target / row["run_folder"])) as writer:
                for record in run_files.read_metrics(folder / row["run_folder"]):
                    for name, value in record.items():
                        if name not in ("step", "epoch", "split"):
                            writer.add_scalar(f"{record['split']}/{name}", value, record["epoch"])
    return target
