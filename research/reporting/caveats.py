"""What a reader has to know beside a comparison's table, in sentences."""

import numpy as np

from research.reporting.results import Results

_STEPS = 30  # of L-BFGS, that `linear` takes by default


def caveats(results: Results) -> list[str]:
    """A sentence for each; none where there is nothing to say."""
    found = (_one_label(results), _few_steps(results), _mixed_code(results), _single_runs(results))
    return [sentence for sentence in found if sentence]


def _one_label(results: Results) -> str:
    """A sentence on the runs that give all texts one label, which their accuracy alone does not show; else empty."""
    found = []
    for variant, outcomes in results.outcomes.items():
        several = [outcome for outcome in outcomes if len(np.unique(outcome.label)) > 1]
        alike = sum(len(np.unique(outcome.probabilities.argmax(axis=1))) == 1 for outcome in several)
        found += [f"{variant} in {alike} of {len(outcomes)} run(s)"] if alike else []
    if not found:
        return ""
    return (
        f"All test texts get one label from {', '.join(found)}: perhaps not trained enough, which more "
        "training.epochs, or patience=0, would show."
    )


def _mixed_code(results: Results) -> str:
    """A sentence on variants whose runs were made by different code of their model; else empty."""
    made_by = {v: {row["model_code"] for row in results.done(v)} for v in results.estimates}
    # Codes of a kind alone can be compared (`training/model_code.py`); those without one are of an earlier version.
    kinds = {v: [code.partition("-")[0] for code in codes if "-" in code] for v, codes in made_by.items()}
    mixed = [variant for variant, of_variant in kinds.items() if len(of_variant) > len(set(of_variant))]
    if not mixed:
        return ""
    return (
        f"The code of the model changed between the runs of {', '.join(mixed)} (column model_code of results.csv): "
        "their rows mix several models; compare --overwrite makes all runs anew."
    )


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
