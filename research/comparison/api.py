"""The two calls that train from Python: `compare` and `train`. They take names of variants and show their progress."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from research.comparison.compare import ComparisonSpec, default_repeats, run_comparison
from research.comparison.comparison_result import ComparisonResult
from research.comparison.foreign_variant import ForeignVariant
from research.comparison.plan import Variant, make_variant
from research.comparison.trained_run import TrainedRun, train_showing_progress
from research.data.corpora import Corpus, as_corpus
from research.data.splits import resolve_folds
from research.errors import UserError, expected, in_python_words
from research.evaluation.metrics import METRICS
from research.parallel.device_setup import make_workers
from research.progress import python_reporting
from research.reporting.claims import Claims, planned_claims
from research.runs import run_files
from research.runs import train as runs
from research.runs.named_configs import named_config, variant_label
from research.runs.plan_file import read_plan
from research.settings import Config

_PAIRS = ("baseline", "all")
_MOST_MARGIN = 0.2  # a larger one is likely meant in points


class ComparisonOptions(TypedDict, total=False):
    """The further arguments of `compare`, all of them optional."""

    metric: str  # the metric that decides; by default accuracy; macro_f1 if one class has more than 80 % of texts
    baseline: str  # the variant that the others are compared with; by default the linear one, else the first
    margin: float  # a difference within it is negligible; a fraction, by default 0.01, one point
    pairs: Literal["baseline", "all"]  # compare each variant with the baseline, or every two variants
    max_repeats: int  # add repeats, up to this number, to the variants of undecided pairs
    minutes: float  # with max_repeats: begin no repeat that is expected to end later than this
    overwrite: bool  # remove an earlier comparison from the folder
    progress: bool  # show the progress, on a terminal or in a notebook; by default True


class TrainOptions(TypedDict, total=False):
    """The further arguments of `train`, all of them optional."""

    overwrite: bool  # remove an earlier run from the folder
    devices: int  # number of devices that share each batch; by default as many as make training faster
    progress: bool  # show the progress, on a terminal or in a notebook; by default True


def compare(
    variants: Sequence[str] | Mapping[str, Any],
    corpus: Corpus | Path | str,
    workdir: Path | str,
    *,
    folds: int | None = None,
    repeats: int | None = None,
    **options: Unpack[ComparisonOptions],
) -> ComparisonResult:
    """Train every variant over folds and repeats of a corpus, and compare them.

    The call resumes what was interrupted: finished runs are not repeated. More variants or repeats extend a comparison.
    Without an accelerator, one worker process for each core trains the runs.

    Args:
      variants: names such as `["lstm", "cnn:rand"]`; or a mapping from the names in tables to names, configs, models
        with the methods of scikit-learn, or files of predictions as `Path`s, such as `{"lstm": "lstm", "wide": config,
        "svm": pipeline}`. See docs/other-models.md.
      corpus: a `Corpus`; a known name or a path; a DataFrame or data set with the columns `text` and `label`.
      workdir: the folder of the comparison.
      folds: number of folds of the cross-validation, by default 5; leave it out if the corpus has a test split.
      repeats: number of repeats. The default is the number that the folder holds; in a new folder it is 5 with a test
        split, else 1.
      **options: see `ComparisonOptions`.

    Returns:
      the table, the verdicts and the runs.

    Raises:
      UserError: an argument is wrong, a text or label cannot be used, or the folder holds another comparison.
    """
    _check_options("compare", options, ComparisonOptions)
    folder, corpus = Path(workdir), as_corpus(corpus)
    overwrite, max_repeats = options.get("overwrite", False), options.get("max_repeats")
    _check_integers(folds=folds, repeats=repeats, max_repeats=max_repeats)
    chosen = _choose_variants(variants)
    spec = ComparisonSpec(
        chosen,
        corpus,
        folds=folds,
        repeats=repeats,
        max_repeats=max_repeats,
        minutes=options.get("minutes"),
        claims=_claims(None if overwrite else folder, options),
        overwrite=overwrite,
    )
    num_folds = resolve_folds(corpus, folds)
    most = max_repeats or repeats or default_repeats(None if overwrite else folder, num_folds)
    total = len(chosen) * (num_folds or 1) * most
    with python_reporting(total, "runs", is_shown=options.get("progress", True)) as reporter:
        results = run_comparison(
            spec,
            folder,
            workers=make_workers(),
            on_progress=reporter.progress,
            log=lambda line: reporter.say(in_python_words(line)),
        )
    return ComparisonResult(results, folder, corpus)


def train(
    config: Config | str,
    corpus: Corpus | Path | str,
    workdir: Path | str,
    *,
    folds: int | None = None,
    fold: int = 0,
    repeat: int = 0,
    **options: Unpack[TrainOptions],
) -> TrainedRun:
    """Train one run into a folder, or resume it if it was interrupted.

    Args:
      config: the name of a variant, or its settings.
      corpus: as in `compare`.
      workdir: the run's folder, created if it does not exist.
      folds: the number of folds, 5 by default; 0 tests no text. Leave it out if the corpus has a test split.
      fold: the fold that is held out as test.
      repeat: the number of the repetition; each has its own split, initialisation, data order and dropout.
      **options: see `TrainOptions`.

    Returns:
      the run, which predicts. Wherever a path is expected, it stands for its folder.

    Raises:
      UserError: an argument is wrong, or the folder holds something else.
      Diverged: the loss is no longer finite; the best state before is saved.
    """
    _check_options("train", options, TrainOptions)
    _check_integers(folds=folds, fold=fold, repeat=repeat)
    name, settings = (variant_label(config), named_config(config)) if isinstance(config, str) else ("run", config)
    if not isinstance(settings, Config):
        kind = type(settings).__name__
        raise UserError(f'config is a {kind}, expected the name of a variant such as "lstm", or a Config')
    corpus = as_corpus(corpus)

    def train_to(on_progress: runs.OnProgress) -> None:
        run_options = runs.RunOptions(
            overwrite=options.get("overwrite", False), devices=options.get("devices", 0), on_progress=on_progress
        )
        runs.train(settings, corpus, workdir, folds=folds, fold=fold, repeat=repeat, options=run_options)

    train_showing_progress(name, settings.training.epochs, train_to, is_shown=options.get("progress", True))
    return TrainedRun(Path(workdir))


def _check_options(function: str, options: Mapping[str, Any], known: type) -> None:
    """Raise UserError if a call has an argument that its function does not have."""
    names = list(known.__annotations__)
    if unknown := [name for name in options if name not in names]:
        raise UserError(f"{function} has no argument {unknown[0]!r}, {expected(unknown[0], names)}")


def _check_integers(**given: Any) -> None:
    """Raise UserError if an argument is neither None nor an integer."""
    for name, value in given.items():
        if value is not None and type(value) is not int:
            raise UserError(f"{name} is {value!r}, expected an integer")


def _choose_variants(variants: Sequence[str] | Mapping[str, Any]) -> list[Variant | ForeignVariant]:
    """Return the variants by their names in tables, with their configs."""
    if isinstance(variants, str):
        variants = [variants]
    if isinstance(variants, Mapping):
        for name, value in variants.items():
            if not isinstance(name, str):
                raise UserError(f"a variant is named {name!r}, expected a string such as {str(name)!r}")
            if isinstance(value, str) and value.lower().endswith((".csv", ".csv.gz")):
                raise UserError(f"{name} is {value!r}; expected Path({value!r}) for a file of predictions")
        return [make_variant(n, named_config(v) if isinstance(v, str) else v) for n, v in variants.items()]
    if not isinstance(variants, Sequence):
        raise UserError(f'variants is a {type(variants).__name__}, expected names such as ["lstm", "cnn:rand"]')
    for i, name in enumerate(variants):
        if not isinstance(name, str):
            kind = type(name).__name__
            raise UserError(f'variants[{i}] is a {kind}, expected a name; give it one: {{"mine": ...}}')
    return [Variant(variant_label(name), named_config(name)) for name in variants]


def _claims(folder: Path | None, options: ComparisonOptions) -> Claims | None:
    """Return the claims that the options ask for: they change those that the folder holds, if it holds any.

    None if the options name no claim.

    Raises:
      UserError: an option has a wrong value.
    """
    given: dict[str, Any] = {name: options[name] for name in ("metric", "baseline", "margin") if name in options}
    if given.get("metric", "accuracy") not in METRICS:
        raise UserError(f"metric is {given['metric']!r}, {expected(str(given['metric']), METRICS)}")
    margin = given.get("margin", 0.0)
    if not isinstance(margin, (int, float)) or not 0 <= margin <= _MOST_MARGIN:
        raise UserError(f"margin is {margin!r}, expected a fraction such as 0.01 for one point")
    if "pairs" in options:
        if options["pairs"] not in _PAIRS:
            raise UserError(f"pairs is {options['pairs']!r}, expected one of {', '.join(_PAIRS)}")
        given["all_pairs"] = options["pairs"] == "all"
    if not given:
        return None
    holds_plan = folder is not None and (folder / run_files.PLAN).exists()
    return (planned_claims(read_plan(folder)) if holds_plan else Claims(metric=""))._replace(**given)
