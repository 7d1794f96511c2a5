"""Say what would decide the undecided pairs: how many repeats, about how long they take, and the command."""

import shlex
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from research.reporting.formatting import format_minutes, join_names, round_up
from research.reporting.provenance import claim_flags
from research.reporting.results import Results

_FIRST_REPEATS = 5  # where there is one run of each variant
_ONE_RUN = "One run of each variant cannot tell a difference from luck; {} can"
_REPLACED = ("repeats", "max_repeats", "until", "overwrite", "nooverwrite")  # flags that the command must not keep
_SWITCHES = ("overwrite", "nooverwrite")  # flags without a value


class Advice(NamedTuple):
    """What would decide the undecided pairs."""

    text: str  # empty if nothing is undecided
    command: str = ""  # trains the repeats that the text names; empty without any, and if a command alone cannot do it


def advise(results: Results, pairs: list[dict[str, Any]]) -> Advice:
    """Return what would decide the undecided ones of some pairs."""
    undecided = [pair for pair in pairs if pair["verdict"] == "undecided" and not np.isnan(pair["difference"])]
    if not undecided:
        return Advice("")
    needs = {pair["a"]: pair["would_decide"] for pair in undecided if "would_decide" in pair}
    if not needs:
        return _advise_repeats(results, max(_FIRST_REPEATS, results.plan["repeats"]), _ONE_RUN)
    repeats_of = {variant: needed["repeats"] for variant, needed in needs.items() if needed["repeats"] is not None}
    if repeats_of:
        repeats = _cheapest(repeats_of.values(), results.plan["repeats"])
        decided = [variant for variant, needed in repeats_of.items() if needed <= repeats]
        names = "this" if len(undecided) == 1 else join_names(decided)
        stay = "the difference stays as it is" if len(decided) == 1 else "the differences stay as they are"
        return _advise_repeats(results, repeats, f"{{}} would decide {names}, if {stay}")
    for amount, text in (
        ("texts", "More repeats alone decide nothing here; {:,} test texts in all would decide {}."),
        ("times_both", "Neither repeats nor texts alone decide here; {:,} times as many of both would decide {}."),
    ):
        of_variant = {variant: needed[amount] for variant, needed in needs.items() if needed[amount] is not None}
        if of_variant:
            first = min(of_variant, key=of_variant.__getitem__)
            return Advice(text.format(round_up(of_variant[first]), "this" if len(undecided) == 1 else first))
    return Advice("No number of repeats or texts within reach would decide this.")


def _cheapest(needed: Iterable[int], repeats: int) -> int:
    """Return the number of repeats that decides the most pairs for each repeat added to those at hand."""
    sizes = enumerate(sorted(max(number, repeats) for number in needed), 1)
    return min(((number - repeats) / count, -count, number) for count, number in sizes)[2]


def _advise_repeats(results: Results, repeats: int, sentence: str) -> Advice:
    """Return the advice to have so many repeats in all; `sentence` has a place for what is to be trained."""
    more = repeats - results.plan["repeats"]
    if more:
        minutes = estimate_minutes(results, more)
        time = f" ({format_minutes(minutes)})" if minutes else ""
        text = sentence.format(f"{more} more repeat{'' if more == 1 else 's'}{time}")
    else:  # some runs have failed or are not finished
        text = sentence.format("training the runs without a result")
    text = text[0].upper() + text[1:]
    entries = results.plan["variants"].values()
    if results.plan["folds"] and any(entry.get("tuned") for entry in entries):
        return Advice(f"{text}. Call tune with --repeats={repeats} first, then compare with the same.")
    if files := [name for name, about in results.foreign.items() if about["kind"] == "predictions"]:
        return Advice(f"{text}. Have {join_names(files)} predict the rows of splits --repeats={repeats} first.")
    command = repeat_command(results, repeats)
    if not command:
        return Advice(f"{text}. Call compare again with --repeats={repeats}.")
    return Advice(f"{text}:", command)


def estimate_minutes(results: Results, repeats: int) -> float:
    """Return about how many minutes so many repeats of all variants take on the machine of the comparison.

    They are the seconds that compiling and training took, divided among the cores on CPU. 0 if they are unknown.
    """
    plan, seconds = results.plan, 0.0
    for variant in results.estimates:
        done = [row for row in results.done(variant) if row["train_seconds"] != ""]
        if done:
            seconds += np.mean([row["train_seconds"] + (row["compile_seconds"] or 0) for row in done])
    is_on_cpu = all(device.startswith("cpu") for device in plan["devices"])
    cores = plan.get("cores", 1) if is_on_cpu else 1
    return seconds * repeats * (plan["folds"] or 1) / cores / 60


def repeat_command(results: Results, repeats: int) -> str:
    """Return the commands that made the comparison, with another number of repeats; empty if they are unknown."""
    plan, claims = results.plan, claim_flags(results)
    replaced = {*_REPLACED, *(flag.removeprefix("--").partition("=")[0] for flag in claims)}
    commands = [command for command in (*plan.get("earlier_commands", ()), plan["command"]) if command]
    try:
        repeated = [[*_without_flags(command, replaced), *claims, f"--repeats={repeats}"] for command in commands]
    except ValueError:  # a command in a damaged plan has a quote too many
        return ""
    latest_last = list(dict.fromkeys(map(shlex.join, reversed(repeated))))[::-1]
    return " && ".join(latest_last)


def _without_flags(command: str, names: set[str]) -> list[str]:
    """Return the words of a command without some flags, written as `--name=value`, `--name value` or `--switch`."""
    words, kept = shlex.split(command), list[str]()
    while words:
        word = words.pop(0)
        name, has_value, _ = word.lstrip("-").partition("=")
        if not word.startswith("-") or name not in names:
            kept.append(word)
        elif not has_value and name not in _SWITCHES and words:
            words.pop(0)
    return kept
