"""Say what a reader has to know beside a comparison's table."""

import collections
from collections.abc import Iterable

from research.evaluation.metrics import METRICS, is_measurable
from research.reporting.results import Results, list_later_choices
from research.reporting.run_result import CHANGED, MISPLACED

_MOST_OF_ERROR = 200  # characters
_LBFGS_STEPS = 30  # fewer than this may not reach the optimum


def list_caveats(results: Results) -> list[str]:
    """Return a sentence for each thing that may mislead."""
    sentences = (
        _failed_runs(results),
        _not_trained(results),
        _changed_predictions(results),
        _misplaced_runs(results),
        _later_choices(results),
        _few_steps(results),
        _frozen_encoders(results),
        _mixed_code(results),
        _seen_texts(results),
        _single_runs(results),
        _unchecked_predictions(results),
        _undefined_metric(results),
    )
    return [sentence for sentence in sentences if sentence]


def _failed_runs(results: Results) -> str:
    """Name the runs that an error ended, with the commonest error of each variant."""
    variants = []
    for variant, failures in results.failures.items():
        error, _ = collections.Counter(failures.values()).most_common(1)[0]
        planned = sum(row["variant"] == variant for row in results.rows)
        shown = error if len(error) <= _MOST_OF_ERROR else f"{error[:_MOST_OF_ERROR]}..."
        variants.append(f"{variant} in {len(failures)} of {planned} run(s) ({shown})")
    if not variants:
        return ""
    return (
        f"Failed: {'; '.join(variants)}. The record.json of a run has the traceback. The next call of compare tries "
        "these runs again."
    )


def _not_trained(results: Results) -> str:
    """Name the runs that did not learn, with why and what may help."""
    if not results.untrained:
        return ""
    variants = []
    for variant, problems in results.untrained.items():
        (problem, count), *others = collections.Counter(problems.values()).most_common()
        share = f" in {count} of them" if others else ""
        runs = f"{len(problems)} of {len(results.outcomes[variant])} run(s)"
        variants.append(f"{variant} in {runs} ({problem.why}{share}; this may help: {problem.mend})")
    return f"Not trained, so their pairs get no verdict: {'; '.join(variants)}. Other settings need another --workdir."


def _changed_predictions(results: Results) -> str:
    """Name the runs whose predictions are not those that they wrote."""
    changed = [row["run_folder"] for row in results.rows if row["status"] == CHANGED]
    if not changed:
        return ""
    return (
        f"The file predictions.npz is not the one that the run wrote in {', '.join(changed)}: left out of all "
        "results. Delete these folders and call compare again to train them anew."
    )


def _misplaced_runs(results: Results) -> str:
    """Name the folders that hold another run than the plan says."""
    misplaced = [row["run_folder"] for row in results.rows if row["status"] == MISPLACED]
    if not misplaced:
        return ""
    return f"The config.json of {', '.join(misplaced)} is that of another run: left out of all results."


def _later_choices(results: Results) -> str:
    """Name what was chosen when results existed already."""
    later = list_later_choices(results)
    if not later:
        return ""
    return (
        f"Chosen when results existed already: {'; '.join(later)}. A choice made after looking may be the one that "
        "looks best, and the intervals do not allow for that."
    )


def _few_steps(results: Results) -> str:
    """Name the variants that L-BFGS may not have fitted to the end."""
    entries = results.plan["variants"].items()
    settings_of = {variant: entry["settings"] for variant, entry in entries if "settings" in entry}
    steps_of = {
        variant: settings["training"]["epochs"]
        for variant, settings in settings_of.items()
        if settings["optimizer"]["name"] == "lbfgs" and settings["training"]["epochs"] < _LBFGS_STEPS
    }
    if not steps_of:
        return ""
    variants = ", ".join(f"{variant} ({steps})" for variant, steps in steps_of.items())
    return f"Fewer than {_LBFGS_STEPS} steps of L-BFGS (training.epochs), perhaps not fitted to the end: {variants}."


def _frozen_encoders(results: Results) -> str:
    """Name the variants whose parameters and seconds in the table are those of a classifier on a frozen encoder."""
    variants = []
    for variant in results.estimates:
        row = results.done(variant)[0]
        if row["frozen_parameters"]:
            costs = f"{row['frozen_parameters']:,} parameters, {row['encoding_seconds']:.1f} s"
            variants.append(f"{variant} ({costs})")
    if not variants:
        return ""
    return (
        "The parameters and seconds of these variants are without their frozen encoder, which encodes the corpus once "
        f"for all runs: {', '.join(variants)}."
    )


def _mixed_code(results: Results) -> str:
    """Name the variants whose runs were made by different code."""
    mixed = [v for v in results.estimates if _are_different(row["model_code"] for row in results.done(v))]
    # All variants share the training code, so it is compared over all runs.
    if _are_different(row["training_code"] for row in results.rows if row["status"] == "done"):
        mixed = [v for v in results.estimates if v not in results.foreign]
    if not mixed:
        return ""
    return (
        f"The code changed between the runs of {', '.join(mixed)} (columns model_code and training_code of "
        "results.csv): their rows mix several; compare --overwrite makes all runs anew."
    )


def _are_different(codes: Iterable[str]) -> bool:
    """Return whether hashes of code differ. Only those of one Python version are compared: `ast3.11-0123`."""
    comparable = {code for code in codes if "-" in code}
    return len(comparable) > len({code.partition("-")[0] for code in comparable})


def _seen_texts(results: Results) -> str:
    """Name the variants that start from a model that has seen the held-out texts, or may have."""
    copies = {v: max((row["near_copies"] or 0 for row in results.done(v)), default=0) for v in results.estimates}
    variants = ", ".join(f"{variant} ({count:,} in a run)" for variant, count in copies.items() if count)
    unknown = [v for v in results.estimates if any(row["unknown_sources"] for row in results.done(v))]
    sentences = []
    if variants:
        sentences.append(f"Variants that started from models trained on near copies of held-out texts: {variants}.")
    if unknown:
        names = ", ".join(unknown)
        sentences.append(f"Variants that started from models of which nobody knows what texts they saw: {names}.")
    return " ".join(sentences)


def _single_runs(results: Results) -> str:
    """Name the variants with one run, unless one run is the plan: then `describe_intervals` says so."""
    single = [variant for variant, outcomes in results.outcomes.items() if len(outcomes) == 1]
    if not single or (not results.plan["folds"] and results.plan["repeats"] == 1):
        return ""
    return f"Intervals of variants with one run are over its test texts alone: {', '.join(single)}."


def _unchecked_predictions(results: Results) -> str:
    """Name the variants whose predictions came from files, and those that know every label."""
    files = [v for v, about in results.foreign.items() if about["kind"] == "predictions" and v in results.outcomes]
    if not files:
        return ""
    sentence = (
        f"The predictions of {', '.join(files)} were made elsewhere: that a model saw no text of the fold that it "
        "predicts cannot be checked here."
    )
    perfect = [variant for variant in files if results.estimates[variant]["accuracy"].mean == 1]
    if perfect:
        sentence += f" Every prediction of {', '.join(perfect)} is right: are they the true labels?"
    return sentence


def _undefined_metric(results: Results) -> str:
    """Name the variants that lack what the deciding metric is computed from."""
    without = [
        variant
        for variant, outcomes in results.outcomes.items()
        if not all(is_measurable(results.metric, outcome.kind) for outcome in outcomes)
    ]
    if not without:
        return ""
    title = METRICS[results.metric].title
    return (
        f"There is no {title} without probabilities, so pairs with these variants stay undecided: {', '.join(without)}."
    )
