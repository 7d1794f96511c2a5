"""What a comparison consists of, kept in its `plan.json`: variants, folds, repeats, looks and claims."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from research.data.audit import audit, sentence
from research.data.corpora import Corpus
from research.errors import UserError
from research.evaluation.metrics import NAMES, unit_of
from research.evaluation.planning import detectable_difference, typical_spread
from research.evaluation.scores import default_metric
from research.models import config_from_dict
from research.reporting.claims import Claims, baseline_of, first_claims, level_of, pairs_of, planned_claims
from research.reporting.results import read_results
from research.runs import run_files
from research.runs.plan_file import read_plan
from research.runs.record import environment
from research.settings import PLACES, Config, differences, to_dict


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
        name = run_files.run_name(fold, repeat if folds else 0, folds)
        if name not in self.tuned:
            raise UserError(f"{self.name} was not tuned for repeat {repeat}: call tune with --repeats={repeat + 1}")
        return self.tuned[name]


def extended_plan(
    folder: Path | None,
    variants: Sequence[Variant],
    corpus: Corpus,
    folds: int,
    looks: range,
    command: str,
    claims: Claims | None,
) -> dict[str, Any]:
    """Checks that the folder, if any, holds the same comparison or none; returns the plan, extended.

    Whoever adds repeats after a look at the table may go on until it pleases, so the intervals allow for every number
    of repeats (`looks`) after which the folder's table is looked at, in this call or in an earlier one. Claims that
    are made when there are results already stand beside those that were made before (`first_claims`).
    """
    names = [run_files.folder_name(variant.name).lower() for variant in variants]
    if len(set(names)) < len(names):
        twice = next(v.name for v, name in zip(variants, names, strict=True) if names.count(name) > 1)
        raise UserError(f"the variant {twice} is named twice, expected different variants")
    plan: dict[str, Any] = {
        "corpus": corpus.about() | {"texts": len(corpus), "notes": sentence(audit(corpus), corpus)},
        "classes": list(corpus.class_names),
        "folds": folds,
        "repeats": looks.start,
        "looks": list(looks),
        "command": command,
        "earlier_commands": [],
        "variants": {},
    } | environment()
    begun: set[str] = set()
    is_late = False  # whether there is a result already
    if folder is not None and (folder / run_files.PLAN).exists():
        there = read_plan(folder)
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
        begun = {
            n for n, old in there["variants"].items() if any((folder / old["folder"]).glob(f"*/{run_files.CONFIG}"))
        }
        plan["variants"] = {name: there["variants"][name] for name in there["variants"] if name in begun | asked}
        plan["repeats"] = max(looks.start, there["repeats"])
        plan["looks"] = sorted({*looks, *there.get("looks", [there["repeats"]])})
        first = first_claims(there)._asdict()
        plan["metric_by_default"] = there.get("metric_by_default", False)
        is_late = any(
            run_files.is_finished(path.parent) for n in begun for path in _records(folder, there["variants"][n])
        )
        claims = planned_claims(there) if claims is None else claims
        commands = dict.fromkeys([*there.get("earlier_commands", []), there["command"]])
        plan["earlier_commands"] = [earlier for earlier in commands if earlier != command]
    for variant in variants:
        entry = {"folder": run_files.folder_name(variant.name), "settings": to_dict(variant.config)}
        if is_late and plan["variants"].get(variant.name, {"added_later": True}).get("added_later"):
            entry["added_later"] = True
        if variant.tuned is not None:
            entry["tuned"] = {run: list(flags) for run, (_, flags) in variant.tuned.items()}
        old = plan["variants"].get(variant.name)
        if old and variant.name in begun:
            # Settings that came after it was written have their defaults.
            changed = differences(to_dict(config_from_dict(old["settings"])), entry["settings"])
            changed = [change for change in changed if change.partition(":")[0] not in PLACES]  # its runs know better
            alike = ("tuned" in entry) == ("tuned" in old)
            if not alike or not entry.get("tuned", {}).items() >= old.get("tuned", {}).items():
                changed.append("tuned otherwise")
            if changed:
                raise UserError(
                    f"{folder} holds {variant.name} with other settings ({'; '.join(changed)}); "
                    "name another --workdir, or pass --overwrite"
                )
        plan["variants"][variant.name] = entry
    claims = Claims(metric="") if claims is None else claims
    if not claims.metric:
        claims = claims._replace(metric=default_metric(corpus.labels))
        plan["metric_by_default"] = claims.metric != "accuracy"
    plan["claims"] = claims._replace(looks=len(plan["looks"]))._asdict()
    plan["first_claims"] = first if is_late else plan["claims"]
    baseline_of(list(plan["variants"]), claims)  # a wrong one is said at once
    return plan


def _records(folder: Path, entry: dict[str, Any]) -> list[Path]:
    return list((folder / entry["folder"]).glob(f"*/{run_files.RECORD}"))


def detectable_sentence(folder: Path, plan: dict[str, Any], claims: Claims, texts: int) -> str:
    """One line before training: which differences the comparison will be able to tell."""
    pairs = len(pairs_of(list(plan["variants"]), claims))
    if not pairs:
        return "one variant: nothing to compare it with"
    if not plan["folds"] and plan["repeats"] == 1:
        return "one run a variant: no difference can be told from luck, expected at least --repeats=2"
    seen = None
    with contextlib.suppress(UserError):  # nothing has been finished yet
        seen = read_results(folder, claims).spread
    if seen is None and claims.metric != "accuracy":  # `typical_spread` is for accuracy
        return f"what can be told by {NAMES[claims.metric]} is not known before the first runs"
    least = detectable_difference(
        seen or typical_spread(plan["folds"]),
        texts=texts,
        repeats=plan["repeats"],
        folds=plan["folds"],
        level=level_of(pairs, claims),
    )
    origin = "as seen so far" if seen else "as is typical"
    shown = f"{least:.3f} nats" if unit_of(claims.metric) == "nats" else f"{100 * least:.1f} points"
    found = f"a true difference of {shown} is found four times in five"
    if least > 1 and unit_of(claims.metric) == "points":
        found = "no difference can be told from luck, expected more repeats or fewer pairs"
    return (
        f"{texts:,} different test texts or groups, {plan['repeats'] * (plan['folds'] or 1)} runs a variant, "
        f"{pairs} pair(s): with spreads {origin}, {found}"
    )
