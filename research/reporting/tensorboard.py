"""Write the curves of runs for TensorBoard, of finished runs or live. The only file that imports tensorboardX.

Live curves are read from the `metrics.jsonl` files of the runs while these are written. So training, in whatever
process, knows nothing of them, and event files are as complete as those of a finished run.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from research.atomic_files import make_folder
from research.errors import UserError, not_installed
from research.reporting.results import Results
from research.runs import run_files

FOLDER = "tensorboard"
_POLL_SECONDS = 1.0  # between two looks at the metrics of runs


def write_events(results: Results, folder: Path) -> Path:
    """Write loss and metrics by epoch to `tensorboard/VARIANT/RUN/`; return the folder `tensorboard`.

    Earlier event files are removed first. Runs without metrics are skipped.

    Raises:
      UserError: tensorboardX is not installed.
    """
    _require_writer()
    for old in (folder / FOLDER).rglob("events.out.tfevents.*"):
        old.unlink()
    for row in results.rows:
        events = _Events(folder / FOLDER / row["run_folder"])
        events.write(run_files.read_metrics(folder / row["run_folder"]))
        events.close()
    return folder / FOLDER


@contextlib.contextmanager
def live_events(folder: Path, pattern: str = "") -> Iterator[None]:
    """Write what runs log within the context, at most a second after each evaluation, to `tensorboard/`.

    A resumed run continues its curves: its earlier epochs are written again, and no epoch is there twice.

    Args:
      folder: the folder of a run, or of a comparison.
      pattern: the run folders in it, such as "*/*"; empty if it is a run itself.

    Raises:
      UserError: tensorboardX is not installed.
      OSError: events could not be written; raised after the context, so that it ends no training.
    """
    _require_writer()
    follower = _Follower(folder, f"{pattern}/{run_files.METRICS}".lstrip("/"))
    follower.start()
    try:
        yield
    finally:
        error = follower.stop()
    if error is not None:
        raise error


def _require_writer() -> None:
    """Raise UserError if tensorboardX is not installed."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        raise not_installed("--tensorboard", "tensorboardX", "tensorboard") from None


class _Events:
    """The event file of one run."""

    def __init__(self, folder: Path):
        self._folder, self._writer = folder, None
        self._written: dict[tuple[str, int], str] = {}  # (split, epoch) -> the record

    def write(self, records: Sequence[dict[str, Any]]) -> None:
        """Write the records that are not written yet. Start anew if another run has taken the folder."""
        texts = {(record["split"], record["epoch"]): json.dumps(record) for record in records}
        is_other = any(self._written.get(key, text) != text for key, text in texts.items())
        if not records or (texts.keys() <= self._written.keys() and not is_other and self._folder.is_dir()):
            return
        if self._writer is None or is_other or not self._folder.is_dir():
            self._open()
        for record in records:
            key = record["split"], record["epoch"]
            if key not in self._written:
                self._written[key] = texts[key]
                self._writer.write_event(_event(record))
        self._writer.flush()
        if any(record["split"] == "test" for record in records):  # the last one: hundreds of runs may follow
            self.close()

    def _open(self) -> None:
        """Open an empty event file in place of earlier ones."""
        # `SummaryWriter` writes through a queue, and its `flush` does not wait for that.
        from tensorboardX.event_file_writer import EventsWriter

        self.close()
        make_folder(self._folder)
        for old in self._folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer, self._written = EventsWriter(str(self._folder / "events")), {}

    def close(self) -> None:
        """Close the file, if it is open. A record that comes later opens another one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _event(record: dict[str, Any]) -> Any:
    """Return the event of an evaluation: its metrics at its epoch."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    metrics = {f"{record['split']}/{name}": record[name] for name in record if name not in ("step", "epoch", "split")}
    summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()])
    return Event(wall_time=time.time(), step=record["epoch"], summary=summary)


class _Follower(threading.Thread):
    """Writes the metrics of runs as they come."""

    def __init__(self, folder: Path, pattern: str):
        super().__init__(daemon=True)
        self._folder, self._pattern = folder, pattern
        self._events: dict[Path, _Events] = {}
        self._sizes: dict[Path, tuple[int, int]] = {}  # metrics file -> its time and size when it was read
        self._is_over = threading.Event()
        self._error: Exception | None = None

    def run(self) -> None:
        """Look for new metrics until `stop` is called."""
        try:
            while not self._is_over.wait(_POLL_SECONDS):
                self._look()
            self._look()
            for events in self._events.values():
                events.close()
        except Exception as error:  # noqa: BLE001 - it does not end training; `stop` returns it
            self._error = error

    def stop(self) -> Exception | None:
        """Write what is left; return the error that has kept events from being written, if any."""
        self._is_over.set()
        self.join()
        return self._error

    def _look(self) -> None:
        """Write the metrics that have come since the last look."""
        for path in sorted(self._folder.glob(self._pattern)):
            with contextlib.suppress(FileNotFoundError, UserError):  # just being removed, or damaged
                stat = path.stat()
                if self._sizes.get(path) != (stat.st_mtime_ns, stat.st_size):
                    run = path.parent
                    target = self._folder / FOLDER / run.relative_to(self._folder)
                    self._events.setdefault(path, _Events(target)).write(run_files.read_metrics(run))
                    self._sizes[path] = stat.st_mtime_ns, stat.st_size
