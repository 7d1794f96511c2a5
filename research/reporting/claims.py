"""The claims of a comparison: which pairs are compared, by which metric and margin, and at which confidence level."""

import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from research.errors import UserError
from research.evaluation.intervals import Sample
from research.evaluation.metrics import METRICS
from research.evaluation.simultaneous import simultaneous_level
from research.runs import run_files
from research.settings import OFF

LEVEL = 0.95


class Claims(NamedTuple):
    """The choices behind the verdicts: pairs, metric, and the difference that is too small to matter."""

    baseline: str = ""  # a variant; "" is the linear one, else the first; with `--drop` the variant that lost nothing
    margin: float = 0.01  # a difference within it is negligible
    all_pairs: bool = False  # compare every pair, not only those with the baseline
    metric: str = ""  # the metric that decides, one of `METRICS`; "" is what suits the corpus (`default_metric`)
    looks: int = 1  # how often the table may be looked at to see whether all is decided
    corpora: int = 1  # the number of corpora that are compared on, with this one


def planned_claims(plan: dict[str, Any]) -> Claims:
    """Return the claims of a comparison's last call. They hold unless other ones are asked for.

    Raises:
      UserError: the plan is damaged, or a newer version wrote it.
    """
    return _claims_in(plan, "claims")


def first_claims(plan: dict[str, Any]) -> Claims:
    """Return the claims that were made before there was any result."""
    return _claims_in(plan, "first_claims" if "first_claims" in plan else "claims")


def _claims_in(plan: dict[str, Any], name: str) -> Claims:
    saved = plan.get(name, {})
    if not isinstance(saved, dict):
        raise UserError(f"{run_files.PLAN} has {name}: {saved!r:.40}, expected an object; the file is damaged")
    if unknown := sorted(set(saved) - set(Claims._fields)):
        raise UserError(
            f"{run_files.PLAN} has {name}: {unknown[0]!r}, which is not known here; the file is damaged, or a newer "
            "version wrote it"
        )
    for field, default in Claims._field_defaults.items():
        kind = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(saved.get(field, default), kind):
            raise UserError(f"{run_files.PLAN} has {name}: {field} is {saved[field]!r:.40}; the file is damaged")
    claims = Claims(**{"metric": "accuracy"} | saved)  # earlier versions had no other metric
    if claims.metric not in METRICS or claims.looks < 1 or claims.corpora < 1:
        raise UserError(f"{run_files.PLAN} has {name}: {saved!r:.200}; the file is damaged")
    return claims


def baseline_of(variants: list[str], claims: Claims) -> str:
    """Return the variant that the others are compared with.

    Raises:
      UserError: the claims name a baseline that is no variant.
    """
    if claims.baseline and claims.baseline not in variants:
        raise UserError(f"--baseline is {claims.baseline!r}, expected one of {', '.join(variants)}")
    linear = next((v for v in variants if v.split(":")[0].split("[")[0] == "linear"), variants[0])
    return claims.baseline or linear


def pairs_of(variants: list[str], claims: Claims) -> list[tuple[str, str]]:
    """Return the pairs (a, b) that get a verdict.

    Unless the claims name a baseline, a variant with a part switched off (`--drop`) is compared with the whole variant.
    """
    if claims.all_pairs:
        return list(itertools.combinations(variants, 2))
    baseline = baseline_of(variants, claims)
    others = [variant for variant in variants if variant != baseline]
    if claims.baseline:
        return [(variant, baseline) for variant in others]
    return [(variant, _whole_variant(variant, variants) or baseline) for variant in others]


def settings_in(variant: str) -> tuple[str, list[tuple[str, str]]]:
    """Return a variant's name without brackets, and the (setting, value) pairs within them.

    `lstm[model.hidden_size=64,seed=1]` -> `("lstm", [("model.hidden_size", "64"), ("seed", "1")])`.
    """
    base, _, inside = variant.removesuffix("]").partition("[")
    # Commas inside brackets belong to a tuple: widths=(3,4).
    return base, re.findall(r"([\w.]+)=(\([^)]*\)|[^,]+)", inside)


def _whole_variant(variant: str, variants: list[str]) -> str | None:
    """Return the same variant without its last setting, if `--drop` switched that off; None if it is not compared."""
    base, settings = settings_in(variant)
    if not settings or settings[-1][1] not in OFF:
        return None
    others = ",".join(f"{name}={value}" for name, value in settings[:-1])
    name = f"{base}[{others}]" if others else base
    return name if name in variants else None


def level_of(pairs: int, claims: Claims, samples: Sequence[Sample] = ()) -> float:
    """Return the confidence level of one pair's interval, so that the intervals of all planned pairs hold together.

    Looks and corpora count by Bonferroni. So do the pairs before there are results; then their correlation is used.

    Args:
      pairs: the number of planned pairs.
      claims: the number of looks and corpora.
      samples: the differences of the pairs that have common runs.
    """
    together = 1 - (1 - LEVEL) / (claims.looks * claims.corpora)
    return simultaneous_level(samples, together, planned=pairs)
