"""Train many runs on one machine.

On CPU, worker processes train one run each, on one core each: one small recurrence cannot use two cores, but two runs
can. On an accelerator, one program trains a group of runs together, and the devices share the runs of a group.
"""

import collections
import functools
import gc
import json
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax

from research.data.assets import ASSETS, fetch
from research.data.corpora import Corpus
from research.data.fingerprints import fingerprint_corpus
from research.errors import Diverged, UserError
from research.machine import release_memory
from research.models import config_from_dict
from research.parallel.interruptible import run_interruptibly
from research.parallel.worker_pool import Stopped, WorkerPool, Workers
from research.runs import run_files
from research.runs.prepare import Run
from research.runs.train import OnProgress, ignore_progress, train_group
from research.settings import Config, to_dict
from research.training.optimizers import without_rates
from research.training.sharding import share_runs

Outcome = Exception | None  # the error that a run failed with, or None
MOST_TOGETHER = 256  # runs of a group on each device; fewer if the memory cannot hold them


class RunHooks(NamedTuple):
    """The callbacks of `train_runs`."""

    # Called now and then, perhaps from another thread. If it raises KeyboardInterrupt, all runs stop.
    on_progress: OnProgress = ignore_progress
    # Called when a run ends or is skipped. If it raises an exception, all runs stop.
    on_run_end: Callable[[Run, Outcome], None] = lambda run, outcome: None


class _Job(NamedTuple):
    """The arguments of `train_group` that all runs of a call share."""

    corpus: Corpus
    folds: int | None
    test: bool


def train_runs(
    runs: Sequence[Run],
    corpus: Corpus,
    *,
    folds: int | None = None,
    test: bool = True,
    workers: Workers | None = None,
    most_together: int | None = None,
    hooks: RunHooks = RunHooks(),
) -> list[Outcome]:
    """Train runs into their folders, as many at once as the machine can.

    A worker process trains a run to the same bits as if it were the only run. In a group, the steps of a run are the
    same except for rounding, and its batches may have more padding.

    Args:
      runs: the runs, those of a variant one after the other. Finished and diverged runs are skipped. They count when
        runs are grouped, so that a resumed call trains the other runs in the same groups.
      corpus: labelled texts.
      folds: as in `train`.
      test: as in `train_group`.
      workers: the worker processes, which train one run at a time each. Runs that use all cores are trained in this
        process, and without workers all runs are.
      most_together: the maximum number of runs of a group on each device; by default 1 on CPU.
      hooks: the callbacks for progress and the end of each run.

    Returns:
      for each run the error that it failed with, or None.

    Raises:
      UserError: as in `train`, or a worker process was lost.
    """
    job, outcomes = _Job(corpus, folds, test), dict[int, Outcome]()

    def end(i: int, outcome: Outcome) -> None:
        outcomes[i] = outcome
        hooks.on_run_end(runs[i], outcome)

    def train_here(group: Sequence[int]) -> None:
        _train_in_this_process({i: runs[i] for i in group}, job, hooks.on_progress, end)

    left = list(range(len(runs)))
    if workers is not None:
        ended = [i for i in left if run_files.has_ended(runs[i].folder)]
        for i in ended:  # first: a folder that holds another run is noticed before others are trained
            train_here([i])
        in_workers = [i for i in left if i not in ended and not uses_all_cores(runs[i].config)]
        if in_workers:
            _train_in_workers({i: runs[i] for i in in_workers}, job, workers, hooks.on_progress, end)
        left = [i for i in left if i not in outcomes]
    if left:
        for group in group_runs([runs[i].config for i in left], _most_in_group(most_together)):
            train_here([left[i] for i in group])
    return [outcomes[i] for i in range(len(runs))]


def _most_in_group(per_device: int | None) -> int:
    """Return the maximum number of runs of a group; by default one for each device on CPU, where groups are slow."""
    if per_device is None:
        per_device = 1 if jax.default_backend() == "cpu" else MOST_TOGETHER
    return per_device * len(jax.local_devices())


def uses_all_cores(config: Config) -> bool:
    """Return whether one run can use all cores: the matrix products of a pretrained encoder are large enough."""
    return config.data.weights != "none"


def group_runs(configs: Sequence[Config], most_together: int) -> list[list[int]]:
    """Return groups of at most `most_together` runs, as indices. The runs of a group have the same `program_key`."""
    runs_of: dict[str, list[int]] = {}
    for i, config in enumerate(configs):
        runs_of.setdefault(program_key(config), []).append(i)
    return [
        runs[start : start + most_together] for runs in runs_of.values() for start in range(0, len(runs), most_together)
    ]


def program_key(config: Config) -> str:
    """Return the settings that decide the compiled program and the number of epochs, as JSON.

    The other settings, such as seeds and rates, may differ between the runs of a group.
    """
    settings = to_dict(without_rates(config))
    settings["seed"] = settings["varies"] = 0
    for name in ("class_weights", "patience", "min_steps", "select"):
        settings["training"][name] = 0
    return json.dumps(settings, sort_keys=True)


def _train_in_this_process(
    runs: dict[int, Run], job: _Job, on_progress: OnProgress, end: Callable[[int, Outcome], None]
) -> None:
    """Train a group of runs, by number. If the device's memory cannot hold a group, each half is tried alone."""
    waiting: list[tuple[list[int], list[str]]] = [(list(runs), [])]  # groups, with the tracebacks of larger groups
    while waiting:
        group, failures = waiting.pop()
        for i in group:
            if run_files.has_diverged(runs[i].folder):
                end(i, Diverged(run_files.read_record(runs[i].folder)["error"]))
        group = [i for i in group if not run_files.has_diverged(runs[i].folder)]
        if not group:
            continue
        try:
            outcomes = _train_interruptibly([runs[i] for i in group], job, on_progress)
        except (UserError, Stopped):
            raise
        except Exception as error:  # noqa: BLE001 - one failure must not end the runs of other programs
            trace = "".join(traceback.format_exception(error))
            traceback.clear_frames(error.__traceback__)  # they hold arrays on the device
            if len(group) > 1 and _is_out_of_memory(error):
                half = len(group) // 2
                waiting += [(group[half:], [*failures, trace]), (group[:half], [*failures, trace])]
                continue
            for earlier in failures:
                error.add_note(f"Before, trained together with more runs:\n{earlier}")
            outcomes = [error] * len(group)
        for i, outcome in zip(group, outcomes, strict=True):
            end(i, outcome)


def _train_interruptibly(runs: Sequence[Run], job: _Job, on_progress: OnProgress) -> list[Outcome]:
    """Train a group on as few devices as its largest share needs."""
    runs_per_device = -(-len(runs) // len(jax.local_devices()))
    placement = share_runs(-(-len(runs) // runs_per_device))

    def train(check: Callable[[], None]) -> list[Outcome]:
        def report(run: Run, epochs: float, loss: float) -> None:
            check()
            on_progress(run, epochs, loss)

        return train_group(runs, job.corpus, folds=job.folds, test=job.test, placement=placement, on_progress=report)

    return run_interruptibly(train)


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether the memory did not suffice, so that fewer runs at once may succeed."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _train_in_workers(
    runs: dict[int, Run],
    job: _Job,
    workers: Workers,
    on_progress: OnProgress,
    end: Callable[[int, Outcome], None],
) -> None:
    """Train runs, by number, one at a time in each worker process."""
    for vectors in {run.config.data.vectors for run in runs.values()} & ASSETS.keys():
        fetch(vectors)  # once, and not in each process
    fingerprint_corpus(job.corpus)  # if that takes long, the result is cached on disk for all processes
    keys = {i: program_key(run.config) for i, run in runs.items()}
    waiting, training = list(runs), dict[Future[Outcome], int]()
    compiled: dict[int, str] = {}  # worker -> the key of the program that it has compiled
    with WorkerPool(workers._replace(count=min(workers.count, len(runs))), job) as pool:
        while waiting or training:
            while waiting and pool.has_idle:
                worker = pool.next_worker
                i = next_run(waiting, keys, compiled.get(worker, ""), {keys[other] for other in training.values()})
                waiting.remove(i)
                compiled[worker] = keys[i]
                run, settings = runs[i], to_dict(runs[i].config)
                report = functools.partial(on_progress, run)
                arguments = run._replace(config=None), settings, keys[i]
                title = f"trained {run.folder}"
                training[pool.submit(_train_in_worker, *arguments, title=title, on_report=report)] = i
            pool.listen()
            for future in [future for future in training if future.done()]:
                i = training.pop(future)
                error = future.exception()
                if isinstance(error, UserError):
                    raise error
                end(i, future.result() if error is None else error)


def next_run(waiting: Sequence[int], keys: Sequence[str] | dict[int, str], own: str, others: set[str]) -> int:
    """Return the run that a worker trains next, so that as few workers as possible compile the same program.

    The first worker begins with the first program, the others with the last programs, which are usually larger. So no
    large program is left to the end, when every worker would have to compile it or wait.

    Args:
      waiting: the numbers of the runs that are left.
      keys: run -> `program_key`.
      own: the key of the program that the worker has compiled, or "".
      others: the keys of the programs that other workers are using.
    """
    counts = collections.Counter(keys[i] for i in waiting)
    unused = [key for key in counts if key not in others]
    if own in counts:
        chosen = own
    elif unused:
        chosen = unused[-1] if others else unused[0]
    else:
        chosen = counts.most_common(1)[0][0]
    return next(i for i in waiting if keys[i] == chosen)


_compiled = ""  # in a worker process: the key of the program that it has compiled


def _train_in_worker(job: _Job, run: Run, settings: dict[str, Any], key: str, report: Callable[..., None]) -> Outcome:
    global _compiled
    if key != _compiled:  # the programs of a variant take about 50 MB
        jax.clear_caches()
        gc.collect()  # programs refer to one another
        release_memory()
        _compiled = key
    run = run._replace(config=config_from_dict(settings))
    (outcome,) = train_group(
        [run],
        job.corpus,
        folds=job.folds,
        test=job.test,
        on_progress=lambda _, epochs, loss: report(epochs, loss),
    )
    return outcome
