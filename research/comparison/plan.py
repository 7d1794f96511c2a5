"""Make and extend the plan of a comparison, its `plan.json`: variants, folds, repeats, looks and claims."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from research.comparison.foreign_models import check_model
from research.comparison.foreign_variant import ForeignVariant, continue_foreign, describe_foreign, require_same_kind
from research.data.audit import audit, describe_problems
from research.data.corpora import Corpus
from research.errors import UserError, shorten
from research.evaluation.metrics import METRICS, default_metric, is_measurable, unit_of
from research.evaluation.planning import detectable_difference, typical_spread
from research.evaluation.spread import Spread
from research.models import config_from_dict
from research.reporting.claims import Claims, baseline_of, first_claims, level_of, pairs_of, planned_claims
from research.runs import run_files
from research.runs.plan_file import read_plan
from research.runs.record import environment
from research.settings import Config, differences, to_dict, without_places

_MAX_NAME = 200  # letters of a variant, so that its folder has a name that every file system takes


class Variant(NamedTuple):
    """A model and its settings, under the name that it has in tables."""

    name: str
    config: Config
    flags: tuple[str, ...] = ()  # the flags of the `train` command that does the same
    # Tuned settings: name of a run -> its config and flags. With a test split, "repeat0" stands for every repeat.
    tuned: Mapping[str, tuple[Config, tuple[str, ...]]] | None = None

    @property
    def source(self) -> str:
        """The value of `--config` that names the variant."""
        return self.flags[0].removeprefix("--config=")

    def of_run(self, fold: int, repeat: int, folds: int) -> tuple[Config, tuple[str, ...]]:
        """Return the config and flags of one run.

        Raises:
          UserError: the settings were not tuned for this repeat.
        """
        if self.tuned is None:
            return self.config, self.flags
        name = run_files.run_name(fold, repeat if folds else 0, folds)
        if name not in self.tuned:
            raise UserError(f"{self.name} was not tuned for repeat {repeat}: call tune with --repeats={repeat + 1}")
        return self.tuned[name]


def make_variant(name: str, value: Any) -> Variant | ForeignVariant:
    """Return the variant that a config, a file of predictions, or a model with scikit-learn's methods is.

    Raises:
      UserError: it is none of them.
    """
    if isinstance(value, Config):
        return Variant(name, value)
    if isinstance(value, Path):
        return ForeignVariant(name, predictions=value)
    check_model(name, value)
    return ForeignVariant(name, value)


class Comparison(NamedTuple):
    """A `ComparisonSpec` that was checked, with all defaults filled in."""

    variants: Sequence[Variant | ForeignVariant]
    corpus: Corpus
    folds: int  # 0 with a test split
    looks: range  # the numbers of repeats after which the table is looked at
    claims: Claims | None  # None means those that the folder holds; in a new folder, the default
    command: str = ""  # the command that makes the same comparison
    corpus_flags: tuple[str, ...] = ()  # the flags that name the corpus in a `train` command
    split_by: Config | None = None  # for models from elsewhere: its seed, `varies` and `data.train_size`

    @property
    def own(self) -> list[Variant]:
        """The variants of this project."""
        return [variant for variant in self.variants if isinstance(variant, Variant)]

    @property
    def foreign(self) -> list[ForeignVariant]:
        """The other variants."""
        return [variant for variant in self.variants if isinstance(variant, ForeignVariant)]

    @property
    def names(self) -> set[str]:
        """The names of the variants."""
        return {variant.name for variant in self.variants}


def extend_plan(folder: Path | None, comparison: Comparison) -> dict[str, Any]:
    """Return the plan of a comparison. It extends the plan that the folder holds, if any.

    A user who sees the table before adding repeats may go on until the table pleases. So the intervals allow for every
    number of repeats after which the table of the folder is looked at, now or in an earlier call. If there are results
    already, new claims do not replace the first ones: the report shows both (`first_claims`).

    Raises:
      UserError: the folder holds another comparison, a variant is named twice, or the baseline is not a variant.
    """
    _require_different(comparison.variants)
    plan, claims = _new_plan(comparison), comparison.claims
    first, started, has_results = None, set[str](), False
    if folder is not None and (folder / run_files.PLAN).exists():
        saved = read_plan(folder)
        _require_same(folder, saved, comparison)
        started = _started_variants(folder, saved)
        has_results = any(run_files.is_finished(run) for name in started for run in _runs_of(folder, saved, name))
        plan |= _continued(saved, comparison, started)
        first = first_claims(saved)._asdict()
        claims = planned_claims(saved) if claims is None else claims
    for variant in comparison.variants:
        saved_entry = plan["variants"].get(variant.name)
        entry = _entry(variant, comparison)
        if has_results and (saved_entry or {"added_later": True}).get("added_later"):
            entry["added_later"] = True
        if saved_entry and variant.name in started:
            require_same_kind(folder, variant.name, saved_entry, entry)
            if isinstance(variant, ForeignVariant):
                entry["foreign"] = continue_foreign(folder, variant.name, saved_entry["foreign"], entry["foreign"])
            else:
                _require_same_settings(folder, variant.name, saved_entry, entry)
        plan["variants"][variant.name] = entry
    claims = Claims(metric="") if claims is None else claims
    if not claims.metric:
        claims = claims._replace(metric=default_metric(comparison.corpus.labels))
        plan["metric_by_default"] = claims.metric != "accuracy"
    plan["claims"] = claims._replace(looks=len(plan["looks"]))._asdict()
    plan["first_claims"] = first if has_results else plan["claims"]
    baseline_of(list(plan["variants"]), claims)  # raises if the baseline is not a variant
    _require_measurable(plan, claims.metric)
    return plan


def _new_plan(comparison: Comparison) -> dict[str, Any]:
    corpus, looks = comparison.corpus, comparison.looks
    return {
        "corpus": corpus.describe() | {"texts": len(corpus), "notes": describe_problems(audit(corpus), corpus)},
        "classes": list(corpus.class_names),
        "folds": comparison.folds,
        "repeats": looks.start,
        "looks": list(looks),
        "command": comparison.command,
        "earlier_commands": [],
        "variants": {},
    } | environment()


def _require_different(variants: Sequence[Variant]) -> None:
    name_of: dict[str, str] = {}  # folder -> variant
    for variant in variants:
        folder = run_files.folder_name(variant.name)
        if folder in ("", ".", "..", "plots", "tensorboard"):
            raise UserError(f"a variant is named {variant.name!r}, expected letters or digits, such as 'svm'")
        if len(folder) > _MAX_NAME:
            name = shorten(variant.name)
            raise UserError(f"the variant {name!r} has {len(folder)} letters, expected at most {_MAX_NAME}")
        if folder.lower() in name_of:
            other = name_of[folder.lower()]
            if other == variant.name:
                raise UserError(f"the variant {variant.name} is named twice, expected different variants")
            raise UserError(
                f"the variants {other} and {variant.name} would share the folder {folder}; give them names that differ "
                "in letters from a to z, or digits"
            )
        name_of[folder.lower()] = variant.name


def _require_same(folder: Path, saved: Mapping[str, Any], comparison: Comparison) -> None:
    """Raise UserError if a folder holds a comparison on other texts or folds."""
    changed = []
    if saved["corpus"]["checksum"] != comparison.corpus.checksum:
        changed.append(f"the corpus {saved['corpus']['name']} with other texts")
    if saved["folds"] != comparison.folds:
        changed.append(f"{saved['folds']} folds")
    if changed:
        raise UserError(
            f"{folder} holds a comparison with {' and '.join(changed)}; name another --workdir, or pass --overwrite"
        )


def _started_variants(folder: Path, saved: Mapping[str, Any]) -> set[str]:
    """Return the variants with a run that has started. The settings of the others may still change."""
    entries = saved["variants"].items()
    return {name for name, entry in entries if any((folder / entry["folder"]).glob(f"*/{run_files.CONFIG}"))}


def _runs_of(folder: Path, saved: Mapping[str, Any], name: str) -> list[Path]:
    """Return the folders of a variant's runs that have a record."""
    return [path.parent for path in (folder / saved["variants"][name]["folder"]).glob(f"*/{run_files.RECORD}")]


def _continued(saved: Mapping[str, Any], comparison: Comparison, started: set[str]) -> dict[str, Any]:
    """Return the entries that a plan takes over from the saved one; `started` are the variants with runs."""
    looks, names = comparison.looks, started | comparison.names
    commands = dict.fromkeys([*saved.get("earlier_commands", []), saved["command"]])
    return {
        "variants": {name: entry for name, entry in saved["variants"].items() if name in names},
        "repeats": max(looks.start, saved["repeats"]),
        "looks": sorted({*looks, *saved.get("looks", [saved["repeats"]])}),
        "metric_by_default": saved.get("metric_by_default", False),
        "earlier_commands": [earlier for earlier in commands if earlier != comparison.command],
    }


def _entry(variant: Variant | ForeignVariant, comparison: Comparison) -> dict[str, Any]:
    """Return the entry of a variant in `plan.json`."""
    entry = {"folder": run_files.folder_name(variant.name)}
    if isinstance(variant, ForeignVariant):
        return entry | {"foreign": describe_foreign(variant, comparison.split_by, comparison.folds)}
    entry["settings"] = to_dict(variant.config)
    if variant.tuned is not None:
        entry["tuned"] = {run: list(flags) for run, (_, flags) in variant.tuned.items()}
    return entry


def _require_measurable(plan: Mapping[str, Any], metric: str) -> None:
    """Raise UserError if a variant predicts less than the deciding metric is computed from."""
    for name, entry in plan["variants"].items():
        predicts = entry.get("foreign", {}).get("predicts", "probabilities")
        if metric in METRICS and not is_measurable(metric, predicts):
            raise UserError(
                f"--metric is {metric}, which cannot be computed for {name}: it predicts {predicts}, no probabilities. "
                "Use another --metric"
            )


def _require_same_settings(folder: Path, name: str, saved: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    """Raise UserError if a variant in a folder has other settings.

    Settings that did not exist when the plan was written count as their defaults. The content of files is compared by
    each run.
    """
    earlier = to_dict(config_from_dict(saved["settings"]))
    changed = differences(without_places(earlier), without_places(entry["settings"]))
    is_tuned_alike = ("tuned" in entry) == ("tuned" in saved)
    if not is_tuned_alike or not entry.get("tuned", {}).items() >= saved.get("tuned", {}).items():
        changed.append("tuned differently")
    if changed:
        raise UserError(
            f"{folder} holds {name} with other settings ({'; '.join(changed)}); "
            "name another --workdir, or pass --overwrite"
        )


def detectable_sentence(plan: Mapping[str, Any], claims: Claims, texts: int, seen: Spread | None) -> str:
    """Return a sentence for the user before training: which differences the comparison can detect.

    Args:
      plan: the plan of the comparison.
      claims: the pairs, metric and margin.
      texts: the number of different test texts or groups.
      seen: the spread of the differences of earlier runs, if any.
    """
    pairs = len(pairs_of(list(plan["variants"]), claims))
    if not pairs:
        return "one variant: nothing to compare it with"
    if not plan["folds"] and plan["repeats"] == 1:
        return "one run per variant: no difference can be told from luck; use at least --repeats=2"
    if seen is None and claims.metric != "accuracy":  # `typical_spread` is for accuracy
        return f"which differences in {METRICS[claims.metric].title} can be detected is not known before the first runs"
    least = detectable_difference(
        seen or typical_spread(plan["folds"]),
        texts=texts,
        repeats=plan["repeats"],
        folds=plan["folds"],
        level=level_of(pairs, claims),
    )
    spread = "the spread seen so far" if seen else "the usual spread between runs"
    size = f"{least:.3f} nats" if unit_of(claims.metric) == "nats" else f"{100 * least:.1f} points"
    outlook = f"a true difference of {size} is detected in four of five cases"
    if least > 1 and unit_of(claims.metric) == "points":
        outlook = "no difference can be told from luck; use more --repeats or fewer variants"
    return (
        f"{texts:,} different test texts or groups, {plan['repeats'] * (plan['folds'] or 1)} runs per variant, "
        f"{pairs} pair(s): with {spread}, {outlook}"
    )
