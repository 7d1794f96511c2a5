"""Train many runs on one machine.

On CPU, each run is trained by a worker process on a core of its own: one small recurrence cannot use two cores, and two
runs can. On an accelerator, runs of equal programs are trained as a group in one program, and the devices share the
runs of a group.
"""

import collections
import functools
import gc
import json
import traceback
from collections.abc import Callable, Sequence
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

Outcome = Exception | None  # what a run failed with
MOST_TOGETHER = 256  # runs of a group; fewer if the device's memory cannot hold them


class RunHooks(NamedTuple):
    """What the caller of `train_runs` is told; an exception that a hook raises stops all runs."""

    on_progress: OnProgress = ignore_progress
    on_run_end: Callable[[Run, Outcome], None] = lambda run, outcome: None


class _Job(NamedTuple):
    """What all runs of a call have in common."""

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

    In a worker process a run is bit for bit what it is alone. In a group its steps are those that it would take alone
    but for rounding, and its batches may be padded further.

    Args:
      runs: the runs, those of a variant one after the other. Finished and diverged ones are skipped, but count in what
        is trained together, so that what an interruption left is trained as it would have been.
      corpus: labelled texts.
      folds: as in `train`.
      test: as in `train_group`.
      workers: the processes that each train one run at a time. Runs that use all cores, or all runs without workers,
        are trained in this process.
      most_together: runs of a group at most for each device; by default 1 on CPU.
      hooks: progress, and the end of each run.

    Returns:
      for each run what it failed with, or None.

    Raises:
      UserError: as in `train`, or a worker process was lost.
    """
    job, outcomes = _Job(corpus, folds, test), dict[int, Outcome]()

    def end(i: int, outcome: Outcome) -> None:
        outcomes[i] = outcome
        hooks.on_run_end(runs[i], outcome)

    here = list(range(len(runs)))
    if workers is not None:
        here = [i for i, run in enumerate(runs) if run_files.has_ended(run.folder)]
        others = [i for i in range(len(runs)) if i not in here]
        of_workers = [i for i in others if not uses_all_cores(runs[i].config)]
        if of_workers:
            _train_in_workers({i: runs[i] for i in of_workers}, job, workers, hooks.on_progress, end)
        here += [i for i in others if i not in of_workers]
    for group in group_runs([runs[i].config for i in here], _most_in_a_group(most_together) if here else 1):
        _train_in_this_process({here[i]: runs[here[i]] for i in group}, job, hooks.on_progress, end)
    return [outcomes[i] for i in range(len(runs))]


def _most_in_a_group(of_a_device: int | None) -> int:
    """Return how many runs this process trains at once; by default 1 a device on CPU, where groups are slower."""
    if of_a_device is None:
        of_a_device = 1 if jax.default_backend() == "cpu" else MOST_TOGETHER
    return of_a_device * len(jax.local_devices())


def uses_all_cores(config: Config) -> bool:
    """Return whether all cores train one run: the products of a pretrained encoder are large enough for that."""
    return config.data.weights != "none"


def group_runs(configs: Sequence[Config], most_together: int) -> list[list[int]]:
    """Return which runs can be trained in one program: they differ in nothing but data."""
    alike: dict[str, list[int]] = {}
    for i, config in enumerate(configs):
        alike.setdefault(program_key(config), []).append(i)
    return [
        group[start : start + most_together]
        for group in alike.values()
        for start in range(0, len(group), most_together)
    ]


def program_key(config: Config) -> str:
    """Return what a compiled program and its number of epochs depend on; the rest, such as seeds and rates, is data."""
    settings = to_dict(without_rates(config))
    settings["seed"] = settings["varies"] = 0
    for name in ("class_weights", "patience", "min_steps", "select"):
        settings["training"][name] = 0
    return json.dumps(settings, sort_keys=True)


def _train_in_this_process(
    runs: dict[int, Run], job: _Job, on_progress: OnProgress, end: Callable[[int, Outcome], None]
) -> None:
    """Train a group of runs, by number; in halves, and halves of these, if the device's memory cannot hold it."""
    waiting: list[tuple[list[int], list[str]]] = [(list(runs), [])]  # and the tracebacks of larger groups
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
            shown = "".join(traceback.format_exception(error))
            traceback.clear_frames(error.__traceback__)  # they hold arrays on the device
            if len(group) > 1 and _is_out_of_memory(error):
                half = len(group) // 2
                waiting += [(group[half:], [*failures, shown]), (group[:half], [*failures, shown])]
                continue
            for earlier in failures:
                error.add_note(f"Before, trained together with more runs:\n{earlier}")
            outcomes = [error] * len(group)
        for i, outcome in zip(group, outcomes, strict=True):
            end(i, outcome)


def _train_interruptibly(runs: Sequence[Run], job: _Job, on_progress: OnProgress) -> list[Outcome]:
    devices = len(jax.local_devices())
    each = -(-len(runs) // devices)  # runs of a device
    placement = share_runs(-(-len(runs) // each))

    def train(check: Callable[[], None]) -> list[Outcome]:
        def report(run: Run, epochs: float, loss: float) -> None:
            check()
            on_progress(run, epochs, loss)

        return train_group(runs, job.corpus, folds=job.folds, test=job.test, placement=placement, on_progress=report)

    return run_interruptibly(train)


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether fewer runs at once may succeed where these failed."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _train_in_workers(
    runs: dict[int, Run],
    job: _Job,
    workers: Workers,
    on_progress: OnProgress,
    end: Callable[[int, Outcome], None],
) -> None:
    """Train runs, by number, each in a worker process as `train_group` trains it alone."""
    for vectors in {run.config.data.vectors for run in runs.values()} & ASSETS.keys():
        fetch(vectors)  # not in each process
    fingerprint_corpus(job.corpus)  # if that takes long it is cached on disk, for all processes
    keys = {i: program_key(run.config) for i, run in runs.items()}
    waiting, training, last = list(runs), {}, ""
    pool = WorkerPool(workers._replace(count=min(workers.count, len(runs))), job)
    with pool:
        while waiting or training:
            while waiting and pool.has_idle:
                i = next_run(waiting, keys, last, {keys[other] for other in training.values()})
                waiting.remove(i)
                run, settings = runs[i], to_dict(runs[i].config)
                report = functools.partial(on_progress, run)
                arguments = run._replace(config=None), settings, keys[i]
                title = f"trained {run.folder}"
                training[pool.submit(_train_in_worker, *arguments, title=title, on_report=report)] = i
            pool.listen()
            for future in [future for future in training if future.done()]:
                i = training.pop(future)
                last = keys[i]
                error = future.exception()
                if isinstance(error, UserError):
                    raise error
                end(i, future.result() if error is None else error)


def next_run(waiting: Sequence[int], keys: Sequence[str] | dict[int, str], own: str, others: set[str]) -> int:
    """Return which run a worker trains next, so that no two workers compile the same program if that can be helped.

    The first worker begins with the first program, the others with the last ones, which usually are the larger ones.
    So no large program is left to the end, when every worker would have to compile it or wait.

    Args:
      waiting: numbers of the runs that are left.
      keys: run -> `program_key`.
      own: the program that the worker has compiled.
      others: programs that other workers train by.
    """
    left = collections.Counter(keys[i] for i in waiting)
    fresh = [program for program in left if program not in others]
    preferred = (own, *(fresh[-1:] if others else fresh[:1]), left.most_common(1)[0][0])
    program = next(program for program in preferred if program in left)
    return next(i for i in waiting if keys[i] == program)


_compiled = ""  # in a worker process: the key of its compiled programs


def _train_in_worker(job: _Job, run: Run, settings: dict[str, Any], key: str, report: Callable[..., None]) -> Outcome:
    global _compiled
    if key != _compiled:  # some 50 MB a variant
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
