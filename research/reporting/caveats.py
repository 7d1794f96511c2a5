"""What a reader has to know beside a comparison's table, in sentences."""

import collections
from collections.abc import Iterable

from research.reporting.results import Results, later_claims
from research.reporting.run_result import CHANGED, MISPLACED

_STEPS = 30  # of L-BFGS, that `linear` takes by default


def caveats(results: Results) -> list[str]:
    """A sentence for each; none where there is nothing to say."""
    found = (
        _not_trained(results),
        _changed(results),
        _misplaced(results),
        _later_claims(results),
        _few_steps(results),
        _mixed_code(results),
        _near_copies(results),
        _single_runs(results),
    )
    return [sentence for sentence in found if sentence]


def _not_trained(results: Results) -> str:
    """On the runs that did not learn; else empty."""
    if not results.untrained:
        return ""
    found = []
    for variant, of_variant in results.untrained.items():
        (problem, count), *others = collections.Counter(of_variant.values()).most_common()
        more = f" in {count} of them" if others else ""
        runs = f"{len(of_variant)} of {len(results.outcomes[variant])} run(s)"
        found.append(f"{variant} in {runs} ({problem.why}{more}; what may help: {problem.mend})")
    return f"Not trained, so their pairs get no verdict: {'; '.join(found)}. Other settings need another --workdir."


def _changed(results: Results) -> str:
    """On the runs whose predictions are not what they wrote."""
    changed = [row["run_folder"] for row in results.rows if row["status"] == CHANGED]
    if not changed:
        return ""
    return (
        f"The file predictions.npz is not the one that the run wrote in {', '.join(changed)}: left out of all that "
        "follows. Delete these folders and call compare again to train them anew."
    )


def _misplaced(results: Results) -> str:
    """On the run folders that hold another run than the plan says."""
    found = [row["run_folder"] for row in results.rows if row["status"] == MISPLACED]
    if not found:
        return ""
    return f"The config.json of {', '.join(found)} is that of another run: left out of all that follows."


def _later_claims(results: Results) -> str:
    """On what was chosen when results existed already."""
    later = later_claims(results)
    if not later:
        return ""
    return (
        f"Chosen when results existed already: {'; '.join(later)}. Whoever chooses after looking may choose what looks "
        "best, and the intervals do not allow for that."
    )


def _near_copies(results: Results) -> str:
    """On variants that start from what has read nearly the same texts as are held out here."""
    found = {v: max((row["near_copies"] or 0 for row in results.done(v)), default=0) for v in results.estimates}
    listed = ", ".join(f"{variant} ({count:,} in a run)" for variant, count in found.items() if count)
    unknown = [v for v in results.estimates if any(row["unknown_sources"] for row in results.done(v))]
    said = []
    if listed:
        said.append(f"Near copies of held-out texts were trained on by what these variants started from: {listed}.")
    if unknown:
        said.append(f"Nobody can tell which texts were seen by what these variants started from: {', '.join(unknown)}.")
    return " ".join(said)


def _mixed_code(results: Results) -> str:
    """A sentence on variants whose runs were made by different code; else empty."""
    mixed = [v for v in results.estimates if _are_several(row["model_code"] for row in results.done(v))]
    # What trains is the same code for all variants, so that all runs can be compared by it.
    if _are_several(row["training_code"] for row in results.rows if row["status"] == "done"):
        mixed = list(results.estimates)
    if not mixed:
        return ""
    return (
        f"The code changed between the runs of {', '.join(mixed)} (columns model_code and training_code of "
        "results.csv): their rows mix several; compare --overwrite makes all runs anew."
    )


def _are_several(codes: Iterable[str]) -> bool:
    """Return whether codes differ; those of other kinds (another Python, an earlier version) cannot be compared."""
    different = {code for code in codes if "-" in code}
    return len(different) > len({code.partition("-")[0] for code in different})


def _few_steps(results: Results) -> str:
    """A sentence on variants that L-BFGS may not have fitted to their end, because of few epochs; else empty."""
    trained = {v: entry["settings"] for v, entry in results.plan["variants"].items()}
    found = {
        v: settings["training"]["epochs"]
        for v, settings in trained.items()
        if settings["optimizer"]["name"] == "lbfgs" and settings["training"]["epochs"] < _STEPS
    }
    if not found:
        return ""
    listed = ", ".join(f"{variant} ({steps})" for variant, steps in found.items())
    return f"Of L-BFGS, fewer than {_STEPS} steps (training.epochs): {listed}; perhaps not fitted to the end."


def _single_runs(results: Results) -> str:
    """On the variants with one run; where that is the plan, the method says so."""
    alone = [variant for variant, outcomes in results.outcomes.items() if len(outcomes) == 1]
    if not alone or (not results.plan["folds"] and results.plan["repeats"] == 1):
        return ""
    return f"Intervals of variants with one run are over its test texts alone: {', '.join(alone)}."
