"""Say what is known about a model that was trained on all texts: what the comparison that chose it has measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.evaluation.metrics import METRICS
from research.json_files import missing_in
from research.reporting.documents import Table
from research.runs import run_files

NOT_TESTED = "It was trained on all texts. Nothing was held out, so this model itself was not tested."
_NEEDS = {
    "comparison": str,
    "variant": str,
    "runs": int,
    "planned_runs": int,
    "epochs": list,
    "metric": str,
    "rank": int,
    "variants": int,
    "estimates": dict,
    "not_trained": list,
}


def read_evidence(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the evidence in the `record.json` of a refit; None if there is none, or if it is damaged."""
    evidence = record.get("refit")
    if missing_in(evidence, _NEEDS) or evidence["metric"] not in evidence["estimates"]:
        return None
    entries = evidence["estimates"].values()
    return None if any(missing_in(entry, {"interval": list}) for entry in entries) else evidence


def describe_length(evidence: Mapping[str, Any], epochs: int) -> str:
    """Return a sentence that says how long a refit was trained, and why."""
    runs = f"the {evidence['runs']} run(s) of {evidence['variant']} in {evidence['comparison']}"
    if evidence.get("fitted_at_once"):
        return f"It was fitted to all texts at once, as {runs} were to theirs."
    numbers = ", ".join(map(str, sorted(evidence["epochs"])))
    return f"It was trained for {epochs} epoch(s): the median of those after which {runs} were best ({numbers})."


def describe_evidence(evidence: Mapping[str, Any]) -> list[str]:
    """Return sentences that say which score stands for a refit, and what to beware of."""
    metric, name = evidence["metric"], evidence["variant"]
    estimate = evidence["estimates"][metric]
    low, high = (_show(end) for end in estimate["interval"])
    title = METRICS[metric].title if metric in METRICS else metric
    texts = evidence.get("train_texts")
    trained_on = f", each trained on about {texts:,} texts," if texts else ""
    sentences = [
        f"What stands for it is the mean of the {evidence['runs']} run(s) of {name} in {evidence['comparison']}"
        f"{trained_on} on texts that were held out: {title} {_show(estimate['mean'])}, "
        f"95 % interval [{low}, {high}]."
    ]
    if evidence["runs"] < evidence["planned_runs"]:
        sentences.append(f"Only {evidence['runs']} of the {evidence['planned_runs']} planned runs were finished.")
    if evidence["rank"] == 1 and evidence["variants"] > 1:
        sentences.append(
            f"It was the best of {evidence['variants']} variants there; the best of several looks somewhat better than "
            "it is."
        )
    if evidence["not_trained"]:
        untrained = evidence["not_trained"]
        sentences.append(f"{len(untrained)} of these run(s) count as not trained, one of them because: {untrained[0]}.")
    return sentences


def describe_no_texts(folder: Path, corpus: str, split: str) -> str:
    """Return why a run has no texts of its own corpus to score, and what stands for it instead."""
    advice = "To score it, name texts that it has not seen with --corpus"
    if not run_files.read_json(folder / run_files.CONFIG).get("refit_epochs"):
        return f"{folder} holds out no {split} texts of {corpus}. {advice}"
    evidence = read_evidence(run_files.read_record(folder))
    known = [] if evidence is None else describe_evidence(evidence)
    nothing = f"{folder} was trained on all texts of {corpus}, so nothing is held out to score."
    return " ".join([nothing, *known, advice])


def evidence_table(evidence: Mapping[str, Any]) -> Table:
    """Return one row per metric: the mean over the runs of the comparison, and its interval."""
    rows = []
    for metric, estimate in evidence["estimates"].items():
        low, high = (_show(end) for end in estimate["interval"])
        rows.append((metric, _show(estimate["mean"]), f"[{low}, {high}]"))
    return Table(("metric", "mean of the runs", "95 % interval"), rows)


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
