"""A comparison: variants x runs on one corpus, in a folder that can be gone on with and extended."""

import contextlib
import itertools
import shlex
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research import runs
from research.data.corpora import Corpus, load
from research.data.splits import resolve_folds, split_corpus
from research.errors import Diverged, UserError
from research.evaluation.planning import detectable, typical
from research.models import config_from_dict
from research.reporting.report import write_report
from research.reporting.results import Claims, baseline_of, level_of, pairs_of, planned_claims, read_results
from research.settings import Config, config_hash, differences, to_dict, validate
from research.training.begin import Run
from research.training.environment import environment, release_memory
from research.training.population import train_many
from research.training.preparation import cut_sentence
from research.training.workers import Workers

REPEATS = 5  # with a test split; 1 with cross-validation, where folds are repeats of a kind
_MOST_REPEATS = 1000


class Variant(NamedTuple):
    """A model with its settings under the name that tables give it."""

    name: str
    config: Config
    flags: tuple[str, ...] = ()  # of the `train` command that does the same
    # Where settings were tuned: name of a run -> its config and flags; with a test split "repeat0" is for every repeat.
    tuned: Mapping[str, tuple[Config, tuple[str, ...]]] | None = None

    @property
    def source(self) -> str:
        """What `--config` names it by."""
        return self.flags[0].removeprefix("--config=")

    def of_run(self, fold: int, repeat: int, folds: int) -> tuple[Config, tuple[str, ...]]:
        """The config and flags of one run.

        Raises:
          UserError: the settings were not tuned for this repeat.
        """
        if self.tuned is None:
            return self.config, self.flags
        name = runs.run_name(fold, repeat if folds else 0, folds)
        if name not in self.tuned:
            raise UserError(f"{self.name} was not tuned for repeat {repeat}: call tune with --repeats={repeat + 1}")
        return self.tuned[name]


def compare(
    variants: Mapping[str, Config] | Sequence[Variant],
    corpus: Corpus | Path | str,
    workdir: Path | str,
    *,
    folds: int | None = None,
    repeats: int | None = None,
    corpus_flags: Sequence[str] = (),
    command: str = "",
    claims: Claims = Claims(),
    max_repeats: int | None = None,
    workers: Workers | None = None,
    progress: Callable[[str, float, float], None] = lambda run, done, loss: None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Trains every variant over folds and repeats and writes the report; finished runs are not repeated.

    Args:
      variants: name -> config, or `Variant`s.
      corpus: labelled texts, a known corpus's name or a path.
      workdir: the comparison's folder; one with fewer variants or repeats is extended.
      folds: of the cross-validation, default 5; not with a corpus that has a test split.
      repeats: default those that the folder holds, in a new one 5 with a test split, else 1.
      corpus_flags: how the `train` command names the corpus; kept in the records.
      command: the command that does the same; kept in the report.
      claims: which pairs the report compares, and the margin.
      max_repeats: where given, repeats are added one by one up to it while a pair is undecided. The intervals are then
        those of all looks that may be taken, so that stopping at a good moment does not raise the rate of errors.
      workers: as in `train_many`.
      progress: called now and then with (run, runs done in all, a recent loss).
      say: called with a line for each finished run.

    Returns:
      the folder.

    Raises:
      UserError: settings that do not fit, or a folder that holds another comparison.
    """
    if isinstance(variants, Mapping):
        variants = [Variant(name, config) for name, config in variants.items()]
    folder = Path(workdir)
    if not isinstance(corpus, Corpus):
        corpus = load(corpus)
    folds = resolve_folds(corpus, folds)
    repeats = default_repeats(folder, folds) if repeats is None else repeats
    if not 1 <= repeats <= _MOST_REPEATS:
        raise UserError(f"--repeats is {repeats}, expected 1 to {_MOST_REPEATS}")
    last = repeats if max_repeats is None else max_repeats
    if not repeats <= last <= _MOST_REPEATS:
        raise UserError(f"--max_repeats is {last}, expected {repeats}, as --repeats, to {_MOST_REPEATS}")
    if not variants:
        raise UserError("--variants is empty, expected at least one variant")
    cut: dict[str, list[str]] = {}
    for variant in variants:
        validate(variant.config)
        for repeat in range(last):
            variant.of_run(0, repeat, folds)  # tuned settings that are missing are said at once
        split_corpus(corpus, variant.config.seed, folds=folds, fold=0, repeat=0)  # a wrong --folds is said at once
        cut.setdefault(cut_sentence(corpus, variant.config.data), []).append(variant.name)
    release_memory()  # of files that were read
    for sentence, names in cut.items():
        if sentence:
            say(f"{sentence} ({', '.join(names) if len(cut) > 1 else 'by every variant'})")
    tested = corpus.groups if folds else corpus.groups[corpus.splits == "test"]
    with runs.owned(folder, runs.PLAN):
        plan = _claim(folder, variants, corpus, folds, range(repeats, last + 1), command, claims)
        claims = planned_claims(plan)
        if others := sorted(plan["variants"].keys() - {variant.name for variant in variants}):
            say(f"{folder} also holds {', '.join(others)}, by earlier commands; table and claims are of all of them")
        say(_detectable(folder, plan, claims, len(np.unique(tested))))
        for upto in range(repeats, last + 1):
            plan["repeats"] = max(plan["repeats"], upto)
            runs.write_json(folder / runs.PLAN, plan)
            _train_all(folder, variants, corpus, folds, upto, tuple(corpus_flags), workers, progress, say)
            release_memory()  # to matplotlib
            pairs = write_report(folder).pairs
            undecided = sum(pair["verdict"] == "undecided" for pair in pairs)
            if last > repeats and pairs and not undecided:
                saved = (last - upto) * len(variants) * (folds or 1)
                say(f"every pair is decided after {upto} repeat(s); {saved} of the runs that were allowed are saved")
                break
            if upto < last:
                say(f"{undecided} pair(s) undecided after {upto} repeat(s)")
    return folder


def default_repeats(folder: Path, folds: int) -> int:
    """How many a comparison has that is not told: as many as the folder holds already."""
    if (folder / runs.PLAN).exists():
        return runs.read_json(folder / runs.PLAN)["repeats"]
    return 1 if folds else REPEATS


def _train_all(
    folder: Path,
    variants: Sequence[Variant],
    corpus: Corpus,
    folds: int,
    repeats: int,
    corpus_flags: tuple[str, ...],
    workers: Workers | None,
    progress: Callable[[str, float, float], None],
    say: Callable[[str], None],
) -> None:
    """Trains what is not finished, side by side."""
    asked, titles = [], []
    # A variant after the other, so that its compiled programs are used up before they are let go.
    for variant, repeat, fold in itertools.product(variants, range(repeats), range(folds or 1)):
        name, (config, flags) = runs.run_name(fold, repeat, folds), variant.of_run(fold, repeat, folds)
        which = (*((f"--folds={folds}", f"--fold={fold}") if folds else ()), f"--repeat={repeat}", "--workdir=RUN")
        flags = (*flags, *corpus_flags, *which)
        path = folder / runs.folder_name(variant.name) / name
        asked.append(Run(config, path, fold, repeat, f"./launch.sh train {shlex.join(flags)}"))
        titles.append(f"{variant.name} {name.replace('-', ' ')}")
    ended = {at for at, run in enumerate(asked) if runs.has_ended(run.folder)}
    if ended:
        say(f"{len(ended)} of {len(asked)} runs are finished already")
    board = _Progress(len(ended), progress)

    def tick(at: int, epochs: float, loss: float) -> None:
        board.update(titles[at], epochs / asked[at].config.training.epochs, loss)

    def done(at: int, error: Exception | None) -> None:
        if at in ended:
            return
        board.update(titles[at], 1.0, float("nan"))  # it may have ended before its last epoch
        say(f"{titles[at]}: {_outcome(asked[at], error)}")

    train_many(asked, corpus, folds=folds or None, tick=tick, done=done, workers=workers)


def _outcome(run: Run, error: Exception | None) -> str:
    """How a run ended, in words; a failure that is not the user's is recorded."""
    if isinstance(error, Diverged):
        return f"diverged ({error})"
    if error is not None:
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        told = "".join(traceback.format_exception(error))
        record = {"status": "failed", "command": run.command, "error": problem, "traceback": told}
        with contextlib.suppress(OSError):  # where it cannot be written either, the run counts as unfinished
            runs.write_json(run.folder / runs.RECORD, record | environment())
        return f"failed ({problem})"
    record = runs.read_json(run.folder / runs.RECORD)
    test = next(r for r in runs.read_metrics(run.folder) if r["split"] == "test")
    seconds = record["seconds"]["compile"] + record["seconds"]["train"]
    which = "the last" if run.config.training.select == "last" else "chosen"
    return f"accuracy {test['accuracy']:.4f}, epoch {record['best_epoch']}, {which}, {seconds:.1f} s"


def _claim(
    folder: Path,
    variants: Sequence[Variant],
    corpus: Corpus,
    folds: int,
    looks: range,
    command: str,
    claims: Claims,
) -> dict[str, Any]:
    """Checks that the folder holds the same comparison, if any; returns the plan, extended.

    Whoever adds repeats after a look at the table may go on until it pleases, so the intervals allow for every number
    of repeats (`looks`) after which the folder's table is looked at, in this call or in an earlier one.
    """
    names = [runs.folder_name(variant.name).lower() for variant in variants]
    if len(set(names)) < len(names):
        twice = next(v.name for v, name in zip(variants, names, strict=True) if names.count(name) > 1)
        raise UserError(f"the variant {twice} is named twice, expected different variants")
    plan: dict[str, Any] = {
        "corpus": {"name": corpus.name, "checksum": corpus.checksum, "texts": len(corpus)}
        | {"source": corpus.source, "columns": list(corpus.columns or ()), "cleaned": corpus.cleaned},
        "classes": list(corpus.class_names),
        "folds": folds,
        "repeats": looks.start,
        "looks": list(looks),
        "command": command,
        "earlier_commands": [],
        "variants": {},
    } | environment()
    begun: set[str] = set()
    if (folder / runs.PLAN).exists():
        there = runs.read_json(folder / runs.PLAN)
        changed = []
        if there["corpus"]["checksum"] != corpus.checksum:
            changed.append(f"the corpus {there['corpus']['name']} of other content")
        if there["folds"] != folds:
            changed.append(f"{there['folds']} folds")
        if changed:
            raise UserError(
                f"{folder} holds a comparison with {' and '.join(changed)}; name another --workdir, or pass --overwrite"
            )
        # Of a variant none of whose runs began, nothing is there that another one could differ from.
        asked = {variant.name for variant in variants}
        begun = {n for n, old in there["variants"].items() if any((folder / old["folder"]).glob(f"*/{runs.CONFIG}"))}
        plan["variants"] = {name: there["variants"][name] for name in there["variants"] if name in begun | asked}
        plan["repeats"] = max(looks.start, there["repeats"])
        plan["looks"] = sorted({*looks, *there.get("looks", [there["repeats"]])})
        commands = dict.fromkeys([*there.get("earlier_commands", []), there["command"]])
        plan["earlier_commands"] = [earlier for earlier in commands if earlier != command]
    for variant in variants:
        entry = {"folder": runs.folder_name(variant.name), "hash": config_hash(variant.config)}
        entry["settings"] = to_dict(variant.config)
        if variant.tuned is not None:
            entry["tuned"] = {run: list(flags) for run, (_, flags) in variant.tuned.items()}
        old = plan["variants"].get(variant.name)
        if old and variant.name in begun:
            # Settings that came after it was written have their defaults.
            changed = differences(to_dict(config_from_dict(old["settings"])), entry["settings"])
            alike = ("tuned" in entry) == ("tuned" in old)
            if not alike or not entry.get("tuned", {}).items() >= old.get("tuned", {}).items():
                changed.append("tuned otherwise")
            if changed:
                raise UserError(
                    f"{folder} holds {variant.name} with other settings ({'; '.join(changed)}); "
                    "name another --workdir, or pass --overwrite"
                )
        plan["variants"][variant.name] = entry
    plan["claims"] = claims._replace(looks=len(plan["looks"]))._asdict()
    baseline_of(list(plan["variants"]), claims)  # a wrong one is said at once
    return plan


def _detectable(folder: Path, plan: dict[str, Any], claims: Claims, texts: int) -> str:
    """One line before training: which differences the comparison will be able to tell."""
    pairs = len(pairs_of(list(plan["variants"]), claims))
    if not pairs:
        return "one variant: nothing to compare it with"
    if not plan["folds"] and plan["repeats"] == 1:
        return "one run a variant: no difference can be told from luck, expected at least --repeats=2"
    seen = None
    with contextlib.suppress(UserError):  # nothing has been finished yet
        seen = read_results(folder, claims).spread
    least = detectable(
        seen or typical(plan["folds"]),
        texts=texts,
        repeats=plan["repeats"],
        folds=plan["folds"],
        level=level_of(pairs, claims),
    )
    origin = "as seen so far" if seen else "as is typical"
    found = f"a true difference of {100 * least:.1f} points is found four times in five"
    if least > 1:
        found = "no difference can be told from luck, expected more repeats or fewer pairs"
    return (
        f"{texts:,} different test texts or groups, {plan['repeats'] * (plan['folds'] or 1)} runs a variant, "
        f"{pairs} pair(s): with spreads {origin}, {found}"
    )


class _Progress:
    """Adds up what the runs have done, from several threads."""

    def __init__(self, finished: int, progress: Callable[[str, float, float], None]):
        self._finished, self._progress = finished, progress
        self._running: dict[str, float] = {}
        self._lock = threading.Lock()

    def update(self, name: str, done: float, loss: float) -> None:
        with self._lock:
            self._running[name] = done
            self._progress(name, self._finished + sum(self._running.values()), loss)
