"""Many runs at once. On CPU they are trained side by side, a run to a core: one small recurrence cannot use two cores
while two runs can. On an accelerator runs of equal programs are trained in one program, a share to each device.

`train_many` takes one of two ways: a thread a device in this process, or processes with a core each.
"""

import functools
import json
import queue
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import jax

from research.data.corpora import Corpus
from research.errors import Diverged, UserError
from research.parallel.worker_pool import LISTEN_SECONDS, Stopped, Workers, takes_all_cores, train_in_processes
from research.runs import run_files
from research.runs.prepare import Run
from research.runs.train import train_together
from research.settings import Config, to_dict
from research.training.optimizers import without_rates

Job = Callable[[Callable[[], None]], None]  # called with `check`, which it calls now and then
MOST_TOGETHER = 256  # runs in one program; fewer where that many do not fit into the device's memory


def train_many(
    asked: Sequence[Run],
    corpus: Corpus,
    *,
    folds: int | None = None,
    test: bool = True,
    tick: Callable[[int, float, float], None] = lambda run, epochs, loss: None,
    done: Callable[[int, Exception | None], None],
    together: int | None = None,
    workers: Workers | None = None,
) -> None:
    """Trains runs into their folders, as many at once as the devices are good for.

    On CPU each is bit for bit what it is alone, by as many threads. On an accelerator its steps are those it would take
    alone but for rounding, and its batches may be padded further.

    Args:
      asked: the runs, those of a variant one after the other; finished ones and diverged ones are passed over, but
        count in what is trained together, so that those left after a kill are trained as they would have been.
      corpus: labelled texts.
      folds: as in `train`.
      test: as in `train_together`.
      tick: called now and then with (which run, epochs done, a recent loss), perhaps from several threads.
      done: called with (which run, what it failed with) as each ends or is passed over; what it raises stops all.
      together: how many runs in one program at most; by default 1 on CPU.
      workers: processes for runs of one core each; for others, or without, this process's devices are used.

    Raises:
      UserError: as in `train`.
    """
    if together is None:
        together = 1 if jax.default_backend() == "cpu" else MOST_TOGETHER

    def job(which: Sequence[int], check: Callable[[], None], earlier: Sequence[str] = ()) -> None:
        def checked(at: int, epochs: float, loss: float) -> None:
            check()
            tick(which[at], epochs, loss)

        over = [i for i in which if run_files.has_diverged(asked[i].folder)]
        for i in over:
            done(i, Diverged(run_files.read_record(asked[i].folder)["error"]))
        which = [i for i in which if i not in over]
        if not which:
            return
        found: Sequence[Exception | None] = ()
        try:
            found = train_together([asked[i] for i in which], corpus, folds=folds, test=test, tick=checked)
        except (UserError, Stopped):
            raise
        except Exception as error:  # noqa: BLE001 - one failure must not end the runs of other programs
            failures = [*earlier, "".join(traceback.format_exception(error))]
            traceback.clear_frames(error.__traceback__)  # they hold arrays on the device
            if len(which) == 1 or not _is_out_of_memory(error):
                for told in earlier:
                    error.add_note(f"Before, trained together with more runs:\n{told}")
                found = [error] * len(which)
        if not found:
            for half in (which[: len(which) // 2], which[len(which) // 2 :]):
                job(half, check, failures)
            return
        for i, error in zip(which, found, strict=True):
            done(i, error)

    if workers is None:
        groups = _groups([run.config for run in asked], together, len(jax.local_devices()))
        side_by_side([functools.partial(job, which) for which in groups])
        return
    over = [i for i, run in enumerate(asked) if run_files.has_ended(run.folder)]
    apart = [i for i, run in enumerate(asked) if i not in over and not takes_all_cores(run.config)]
    side_by_side([functools.partial(job, [i]) for i in over])  # they are looked at
    if apart:
        train_in_processes(
            [asked[i] for i in apart],
            [_code(asked[i].config) for i in apart],
            corpus,
            workers,
            folds=folds,
            test=test,
            tick=lambda at, epochs, loss: tick(apart[at], epochs, loss),
            done=lambda at, error: done(apart[at], error),
        )
    side_by_side([functools.partial(job, [i]) for i in range(len(asked)) if i not in {*over, *apart}])


def _is_out_of_memory(error: Exception) -> bool:
    """Whether fewer runs at once may do what these could not."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _groups(configs: Sequence[Config], together: int, devices: int) -> list[list[int]]:
    """Which runs are trained in one program: those that differ in nothing but data, shared out among the devices."""
    alike: dict[str, list[int]] = {}
    for i, config in enumerate(configs):
        alike.setdefault(_code(config), []).append(i)
    groups = []
    for which in alike.values():
        size = min(together, -(-len(which) // devices))
        groups += [which[start : start + size] for start in range(0, len(which), size)]
    return groups


def _code(config: Config) -> str:
    """What a program and its number of epochs are a function of; the rest, such as seeds and rates, are data."""
    settings = to_dict(without_rates(config))
    settings["seed"] = settings["varies"] = 0
    for name in ("class_weights", "patience", "min_steps", "select"):
        settings["training"][name] = 0
    return json.dumps(settings, sort_keys=True)


def side_by_side(jobs: Sequence[Job]) -> None:
    """Runs every job once, each on a device of its own while it lasts.

    The first exception of a job, or Ctrl-C, stops the others at their next `check` and is raised.
    """
    devices: queue.SimpleQueue[jax.Device] = queue.SimpleQueue()
    for device in jax.local_devices():
        devices.put(device)
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Stopped

    def on_free_device(job: Job) -> None:
        check()
        device = devices.get()
        try:
            with jax.default_device(device):
                job(check)
        finally:
            devices.put(device)

    with ThreadPoolExecutor(max_workers=len(jax.local_devices())) as pool:
        failed = []
        try:
            futures = [pool.submit(on_free_device, job) for job in jobs]
            left = set(futures)
            while left and not failed:
                done, left = wait(futures, LISTEN_SECONDS, return_when=FIRST_EXCEPTION)
                failed = [future for future in done if future.exception() is not None]
        except BaseException:
            stop.set()
            raise
        if failed:
            stop.set()
            raise failed[0].exception()
