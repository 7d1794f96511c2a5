"""The pairs that the answer, the first picture and the first table of a report are about."""

from typing import Any

from research.reporting.results import Results

_OPPOSITE = {"better": "worse", "worse": "better"}


def main_pairs(results: Results) -> list[dict[str, Any]]:
    """Return the pairs with the baseline; of all pairs (`--pairs=all`) those with the best variant that was trained.

    They are ordered by the mean score of `a`, the best first. With `--drop`, they may have several references `b`.
    """
    ranked = results.ranked()
    pairs = results.pairs
    if results.claims.all_pairs and pairs:
        in_pairs = {variant for pair in pairs for variant in (pair["a"], pair["b"])}
        best = min(in_pairs, key=lambda variant: (variant in results.untrained, ranked.index(variant)))
        pairs = [pair for pair in pairs if pair["b"] == best]
        pairs += [pair_from_second(pair) for pair in results.pairs if pair["a"] == best]
    return sorted(pairs, key=lambda pair: ranked.index(pair["a"]))


def single_reference(pairs: list[dict[str, Any]]) -> str | None:
    """Return the variant that all pairs compare with; None if there are several, or no pairs."""
    references = {pair["b"] for pair in pairs}
    return references.pop() if len(references) == 1 else None


def pair_from_second(pair: dict[str, Any]) -> dict[str, Any]:
    """Return a pair (a, b) as (b, a)."""
    low, high = pair["interval"]
    return pair | {
        "a": pair["b"],
        "b": pair["a"],
        "difference": -pair["difference"],
        "interval": [-high, -low],
        "verdict": _OPPOSITE.get(pair["verdict"], pair["verdict"]),
    }
