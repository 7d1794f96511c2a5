"""The claims of a comparison: which pairs are compared, by which metric and margin, and at which level."""

import itertools
import re
from typing import Any, NamedTuple

from research.errors import UserError
from research.evaluation.metrics import METRICS
from research.runs import run_files
from research.settings import OFF

LEVEL = 0.95


class Claims(NamedTuple):
    """Which differences are claimed about, and what is too small to matter."""

    baseline: str = ""  # a variant; "" is the linear one, else the first, and of `--drop` the variant itself
    margin: float = 0.01  # a difference within it is negligible
    all_pairs: bool = False  # every pair, rather than those with the baseline
    metric: str = ""  # which decides, one of `METRICS`; "" is what suits the corpus (`default_metric`)
    looks: int = 1  # how often it may be looked whether all is decided
    corpora: int = 1  # of which this is one


def planned_claims(plan: dict[str, Any]) -> Claims:
    """The claims that a comparison makes unless others are asked for: those of its last call.

    Raises:
      UserError: a later version wrote them.
    """
    return _claims_in(plan, "claims")


def first_claims(plan: dict[str, Any]) -> Claims:
    """The claims that were made before there was any result."""
    return _claims_in(plan, "first_claims" if "first_claims" in plan else "claims")


def _claims_in(plan: dict[str, Any], name: str) -> Claims:
    written = plan.get(name, {})
    if not isinstance(written, dict):
        raise UserError(f"{run_files.PLAN} has {name}: {written!r:.40}, expected an object; the file is damaged")
    if unknown := sorted(set(written) - set(Claims._fields)):
        raise UserError(
            f"{run_files.PLAN} has {name}: {unknown[0]!r}, which is not known here; the file is damaged, or a newer "
            "version wrote it"
        )
    for field, default in Claims._field_defaults.items():
        kind = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(written.get(field, default), kind):
            raise UserError(f"{run_files.PLAN} has {name}: {field} is {written[field]!r:.40}; the file is damaged")
    found = Claims(**{"metric": "accuracy"} | written)  # of an earlier version, which had no other
    if found.metric not in METRICS or found.looks < 1 or found.corpora < 1:
        raise UserError(f"{run_files.PLAN} has {name}: {written!r:.200}; the file is damaged")
    return found


def baseline_of(variants: list[str], claims: Claims) -> str:
    """The variant that the others are compared with.

    Raises:
      UserError: the one that is asked for is not there.
    """
    if claims.baseline and claims.baseline not in variants:
        raise UserError(f"--baseline is {claims.baseline!r}, expected one of {', '.join(variants)}")
    linear = next((v for v in variants if v.split(":")[0].split("[")[0] == "linear"), variants[0])
    return claims.baseline or linear


def pairs_of(variants: list[str], claims: Claims) -> list[tuple[str, str]]:
    """The pairs (a, b) that are claimed about.

    Without a baseline that is asked for, a variant with something switched off is compared with itself as it was.
    """
    if claims.all_pairs:
        return list(itertools.combinations(variants, 2))
    baseline = baseline_of(variants, claims)
    others = (variant for variant in variants if variant != baseline)
    return [(v, baseline if claims.baseline else _undropped(v, variants) or baseline) for v in others]


def settings_in(variant: str) -> tuple[str, list[tuple[str, str]]]:
    """`lstm[model.hidden_size=64,seed=1]` -> its name without brackets, and (setting, value) of each within."""
    base, _, inside = variant.removesuffix("]").partition("[")
    # Commas inside brackets belong to a tuple: widths=(3,4).
    return base, re.findall(r"([\w.]+)=(\([^)]*\)|[^,]+)", inside)


def _undropped(variant: str, variants: list[str]) -> str | None:
    """The same variant with what `--drop` has switched off, the last setting in its name; None if not there."""
    base, settings = settings_in(variant)
    if not settings or settings[-1][1] not in OFF:
        return None
    kept = ",".join(f"{name}={value}" for name, value in settings[:-1])
    name = f"{base}[{kept}]" if kept else base
    return name if name in variants else None


def level_of(pairs: int, claims: Claims) -> float:
    """Of the interval of one pair (Bonferroni over pairs, looks and corpora)."""
    return 1 - (1 - LEVEL) / (max(pairs, 1) * claims.looks * claims.corpora)
