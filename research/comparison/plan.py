"""Make and extend the plan of a comparison, its `plan.json`: variants, folds, repeats, looks and claims."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from research.data.audit import audit, describe_problems
from research.data.corpora import Corpus
from research.errors import UserError
from research.evaluation.intervals import Spread
from research.evaluation.metrics import METRICS, default_metric, unit_of
from research.evaluation.planning import detectable_difference, typical_spread
from research.models import config_from_dict
from research.reporting.claims import Claims, baseline_of, first_claims, level_of, pairs_of, planned_claims
from research.runs import run_files
from research.runs.plan_file import read_plan
from research.runs.record import environment
from research.settings import PLACES, Config, differences, to_dict


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


class Comparison(NamedTuple):
    """A `ComparisonSpec` that was checked, with all defaults filled in."""

    variants: Sequence[Variant]
    corpus: Corpus
    folds: int  # 0 with a test split
    looks: range  # the numbers of repeats after which the table is looked at
    claims: Claims | None  # None means those that the folder holds; in a new folder, the default
    command: str = ""  # the command that makes the same comparison
    corpus_flags: tuple[str, ...] = ()  # the flags that name the corpus in a `train` command

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
        entry = _entry(variant)
        if has_results and (saved_entry or {"added_later": True}).get("added_later"):
            entry["added_later"] = True
        if saved_entry and variant.name in started:
            _require_same_settings(folder, variant.name, saved_entry, entry)
        plan["variants"][variant.name] = entry
    claims = Claims(metric="") if claims is None else claims
    if not claims.metric:
        claims = claims._replace(metric=default_metric(comparison.corpus.labels))
        plan["metric_by_default"] = claims.metric != "accuracy"
    plan["claims"] = claims._replace(looks=len(plan["looks"]))._asdict()
    plan["first_claims"] = first if has_results else plan["claims"]
    baseline_of(list(plan["variants"]), claims)  # raises if the baseline is not a variant
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
    names = [run_files.folder_name(variant.name).lower() for variant in variants]
    for variant, name in zip(variants, names, strict=True):
        if names.count(name) > 1:
            raise UserError(f"the variant {variant.name} is named twice, expected different variants")


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


def _entry(variant: Variant) -> dict[str, Any]:
    """Return the entry of a variant in `plan.json`."""
    entry = {"folder": run_files.folder_name(variant.name), "settings": to_dict(variant.config)}
    if variant.tuned is not None:
        entry["tuned"] = {run: list(flags) for run, (_, flags) in variant.tuned.items()}
    return entry


def _require_same_settings(folder: Path, name: str, saved: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    """Raise UserError if a variant in a folder has other settings.

    Settings that did not exist when the plan was written count as their defaults. The content of files is compared by
    each run.
    """
    changed = differences(to_dict(config_from_dict(saved["settings"])), entry["settings"])
    changed = [change for change in changed if change.partition(":")[0] not in PLACES]
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
