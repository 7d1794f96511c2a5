"""Choose the variants that get another repeat under `--until=decided`, and say what it takes and what it may decide.

Only variants of undecided pairs are trained again: a decided pair needs no more runs. A pair is given up when even a
difference one standard error more favourable than the observed one would stay undecided at the largest number of
repeats. Neither rule makes a claim, so neither raises the error rate, which the level of every look allows for.
"""

import time
from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

from research.reporting.results import NOT_TRAINED, Results


class NextRepeat(NamedTuple):
    """The variants to train once more, and the sentences that tell the user why."""

    variants: frozenset[str]  # those that get another repeat; none if the comparison ends here
    sentences: tuple[str, ...]


class Limits(NamedTuple):
    """How far repeats are added."""

    repeats: int  # the largest number
    minutes: float | None = None  # the time that this call may take


class Pace:
    """Seconds that a comparison takes for each second that its runs train, measured as it goes."""

    def __init__(self) -> None:
        self.start, self._ratio = time.monotonic(), 1.0

    @property
    def elapsed(self) -> float:
        """Seconds since the call began."""
        return time.monotonic() - self.start

    def learn(self, results: Results, new_runs: Set[str], seconds: float) -> None:
        """Compare the seconds that a repeat took with those that its runs report; `new_runs` are their folders."""
        trained = sum(_seconds(row) for row in results.rows if row["run_folder"] in new_runs)
        if trained > 0:
            self._ratio = seconds / trained

    def expected_seconds(self, results: Results, variants: Iterable[str]) -> float:
        """Return the seconds that another repeat of these variants is expected to take."""
        total = 0.0
        for variant in variants:
            done = results.done(variant)
            total += sum(map(_seconds, done)) / max(len(done), 1) * (results.plan["folds"] or 1)
        return self._ratio * total


def _seconds(row: Mapping[str, Any]) -> float:
    return float(row["train_seconds"] or 0.0)


def next_repeat(results: Results, names: Set[str], pace: Pace, repeats: int, limits: Limits) -> NextRepeat:
    """Return which variants get another repeat.

    Args:
      results: the table after the last repeat.
      names: the variants of this call; pairs with others are not waited for.
      pace: how long repeats have taken.
      repeats: the number of repeats so far.
      limits: how far repeats are added.
    """
    most = limits.repeats
    pairs = [pair for pair in results.pairs if {pair["a"], pair["b"]} <= names]
    undecided = [pair for pair in pairs if pair["verdict"] == "undecided"]
    sentences = []
    if untrained := sum(pair["verdict"] == NOT_TRAINED for pair in pairs):
        sentences.append(f"{untrained} pair(s) have a variant that was not trained; more repeats will not change that")
    if not pairs:
        return NextRepeat(frozenset(), ("there is no pair to decide",))
    if not undecided:
        every = "every pair of trained variants" if untrained else "every pair"
        return NextRepeat(frozenset(), (*sentences, f"{every} is decided after {repeats} repeat(s)"))
    hopeful = [pair for pair in undecided if _may_be_decided(pair, most)]
    variants = frozenset(name for pair in hopeful for name in (pair["a"], pair["b"]))
    summary = f"{len(undecided)} pair(s) undecided after {repeats} repeat(s)"
    if repeats >= most:
        return NextRepeat(frozenset(), (*sentences, f"{summary}, as many as are allowed"))
    if not hopeful:
        why = f"even {most} repeats are not expected to decide them. The table says what would"
        return NextRepeat(frozenset(), (*sentences, f"{summary}; {why}"))
    seconds = pace.expected_seconds(results, variants)
    cost = f"{len(variants) * (results.plan['folds'] or 1)} runs, about {_duration(seconds)}"
    if limits.minutes is not None and pace.elapsed + seconds > 60 * limits.minutes:
        cost = f"another repeat of {_listed(variants)} ({cost})"
        why = f"{cost} exceeds --minutes={limits.minutes:g}; a higher value goes on"
        return NextRepeat(frozenset(), (*sentences, f"{summary}; {why}"))
    sentences.append(f"{summary}; repeat {repeats + 1} of {_listed(variants)}: {cost}. {_outlook(hopeful, most)}")
    if given_up := len(undecided) - len(hopeful):
        sentences.append(
            f"{given_up} of the pairs get no more runs: even {most} repeats are not expected to decide them"
        )
    return NextRepeat(variants, tuple(sentences))


def _may_be_decided(pair: Mapping[str, Any], most: int) -> bool:
    """Return whether up to `most` repeats may decide a pair. Nothing is known of a pair with one run each."""
    if "would_decide" not in pair:
        return True
    needed = pair["would_decide"]["repeats_at_best"]
    return needed is not None and needed <= most


def _outlook(pairs: list[Mapping[str, Any]], most: int) -> str:
    """Return what more repeats are expected to decide if the differences stay as they are."""
    expected = {
        f"{pair['a']} against {pair['b']}": pair["would_decide"]["repeats"] for pair in pairs if "would_decide" in pair
    }
    soon = [f"{name} (by repeat {needed})" for name, needed in expected.items() if needed and needed <= most]
    if not soon:
        return f"Up to {most} repeats decide them only if a difference turns out clearer than it looks"
    return f"Expected to be decided: {', '.join(soon)}"


def _listed(variants: Iterable[str]) -> str:
    return ", ".join(sorted(variants))


def _duration(seconds: float) -> str:
    return f"{max(seconds, 1):.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
