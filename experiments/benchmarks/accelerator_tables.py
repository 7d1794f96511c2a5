"""Turn what the parts measured on an accelerator into the sections of its report."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.benchmarks.accelerator_parts import ENVIRONMENT, POPULATIONS, RESTORE, TABLE, TABLE_AGAIN, TESTS, TORCH
from experiments.benchmarks.parts import DONE, SKIPPED, Outcome

ASKED_RATIO = 20.0  # times as many runs an hour as PyTorch, asked for a population


class Section(NamedTuple):
    """A part of the report: a table, sentences below it, and outputs as they are."""

    title: str
    header: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    sentences: Sequence[str] = ()
    outputs: Sequence[tuple[str, str]] = ()  # (name, text)


def make_sections(outcomes: Sequence[Outcome]) -> list[Section]:
    """Return the sections of the parts that have ended until now; those without results are left out."""
    of_name = {outcome.name: outcome for outcome in outcomes}
    every_size = [size for o in outcomes if o.name.startswith(POPULATIONS) for size in latest_of_each_size(o.results)]
    lstm = [size for size in every_size if size["variant"] == "lstm"]
    restored = [result for o in outcomes if o.name.startswith(RESTORE) for result in o.results]
    sections = [
        *(_environment(about) for about in _results(of_name, ENVIRONMENT)),
        _populations(every_size),
        _beside_torch(lstm, _results(of_name, TORCH)),
        _restored(restored),
        _table(of_name),
        *(_tests(counts) for counts in _results(of_name, TESTS)),
    ]
    return [section for section in sections if section.rows or section.sentences] + [_parts(outcomes)]


def _results(of_name: dict[str, Outcome], name: str) -> list[Any]:
    return of_name[name].results if name in of_name else []


def latest_of_each_size(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the last result of each number of runs, ascending: it holds all that is known of this size."""
    latest: dict[int, dict[str, Any]] = {}
    for result in results:  # an error after some epochs keeps what they measured
        latest[result["runs"]] = latest.get(result["runs"], {}) | result
    return [latest[size] for size in sorted(latest)]


def epoch_seconds(size: dict[str, Any]) -> float | None:
    """Return the median seconds of the epochs after the first, which includes what happens once; None if none ended."""
    later = size.get("epoch_seconds", [])[1:]
    return statistics.median(later) if later else None


def runs_per_hour(size: dict[str, Any], epochs: int) -> float | None:
    """Return how many runs of so many epochs a population finishes an hour, without starting and compiling."""
    of_epoch = epoch_seconds(size)
    return None if of_epoch is None else 3600 * size["runs"] / (epochs * of_epoch + size.get("test_seconds", 0.0))


def torch_runs_per_hour(runs: Sequence[dict[str, Any]]) -> float | None:
    """Return how many runs PyTorch finishes an hour, without the first, which includes what happens once."""
    return 3600 / statistics.median(run["seconds"] for run in runs[1:]) if len(runs) > 1 else None


def _mean_and_deviation(accuracies: Sequence[float]) -> str:
    """Return the mean of accuracies and their standard deviation, in percent."""
    if not accuracies:
        return ""
    mean = f"{100 * statistics.mean(accuracies):.1f}"
    return f"{mean} ± {100 * statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else mean


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _environment(about: dict[str, Any]) -> Section:
    memory = about["memory"].get("bytes_limit")
    sentences = [
        f"{', '.join(about['devices'])}; {about['processor']}; Python {about['python']}; {about['date']}; commit "
        f"`{about['commit']}`",
        f"platform: {' '.join(about['platform_version'].split())}",
        *([f"nvidia-smi: {about['nvidia_smi']}"] if about["nvidia_smi"] else []),
        *([f"memory that JAX may use: {memory / 1e9:.1f} GB"] if memory else []),
        ", ".join(f"{name} {version}" for name, version in about["libraries"].items()),
    ]
    return Section("Environment", sentences=sentences)


def _populations(sizes: Sequence[dict[str, Any]]) -> Section:
    header = (
        *("variant", "runs together", "texts a second", "an epoch, s", "start, s", "compile, s"),
        *("peak memory, GB", "epochs", "validation accuracy, %", "problem"),
    )
    rows = []
    for size in sizes:
        of_epoch, peak = epoch_seconds(size), size.get("peak_bytes")
        row = (
            size["variant"],
            str(size["runs"]),
            _number(size["train_texts"] / of_epoch if of_epoch else None, ",.0f"),
            _number(of_epoch, ".2f"),
            _number(size.get("start_seconds"), ".1f"),
            _number(size.get("compile_seconds"), ".1f"),
            _number(peak / 1e9 if peak else None, ".2f"),
            str(len(size.get("epoch_seconds", []))),
            _mean_and_deviation(size.get("validation_accuracy", [])),
            " ".join(size.get("error", "").split())[:100],
        )
        rows.append(row)
    sentences = [
        "An epoch is the median of those after the first, with its validation. Accuracies are of the last epoch, with "
        "the standard deviation over runs. Memory is empty where the device does not tell it, or where an earlier, "
        "larger population of the same process needed more."
    ]
    return Section("Populations: runs of one variant in one program", header, rows, sentences if rows else ())


def _beside_torch(sizes: Sequence[dict[str, Any]], torch: Sequence[dict[str, Any]]) -> Section:
    """Return the section that has runs an hour of populations of the `lstm` beside PyTorch."""
    per_hour = torch_runs_per_hour(torch)
    epochs = torch[0]["epochs"] if torch else max((size.get("epochs", 1) for size in sizes), default=1)
    header = ("lstm", f"runs of {epochs} epochs an hour", "times PyTorch", "test accuracy, %", "runs tested")
    rows, ratios = [], {}
    for size in sizes:
        ours = runs_per_hour(size, epochs)
        if ours and per_hour:
            ratios[size["runs"]] = ours / per_hour
        # Populations that train for fewer epochs would be compared with other ones.
        tested = size.get("test_accuracy", []) if len(size.get("epoch_seconds", [])) == epochs else []
        ratio = _number(ratios.get(size["runs"]), ".1f")
        name = f"{size['runs']} run(s) together"
        rows.append((name, _number(ours, ",.0f"), ratio, _mean_and_deviation(tested), str(len(tested))))
    if torch:
        accuracies = [run["test_accuracy"] for run in torch]
        name = f"PyTorch {torch[0]['torch']} on {torch[0]['device']}, one at a time"
        rows.append((name, _number(per_hour, ",.0f"), "", _mean_and_deviation(accuracies), str(len(torch))))
    sentences = ["Starting, compiling and PyTorch's first run are not counted. ± is the standard deviation over runs."]
    if ratios:
        best = max(ratios, key=ratios.__getitem__)
        verdict = "reached" if ratios[best] >= ASKED_RATIO else "not reached"
        sentences.append(
            f"{best} run(s) together finish {ratios[best]:.1f} times as many runs an hour as PyTorch. The goal, "
            f"{ASKED_RATIO:.0f} times at equal accuracy, is {verdict} in speed."
        )
    return Section("The lstm beside PyTorch", header, rows, sentences if rows else ())


def _restored(results: Sequence[dict[str, Any]]) -> Section:
    header = ("run", "largest difference of probabilities", "other labels", "texts", "accuracy here, there, %")
    rows = [
        (
            result["what"],
            f"{result['largest_difference']:.1e}",
            str(result["other_labels"]),
            str(result["texts"]),
            ", ".join(f"{100 * accuracy:.2f}" for accuracy in result["accuracies"]),
        )
        for result in results
        if "largest_difference" in result
    ]
    return Section("Restored and resumed on another device", header, rows)


def _table(of_name: dict[str, Outcome]) -> Section:
    """Return the section of the default table: seconds cold and warm, and the accuracy of each variant."""
    sentences = []
    for name in (TABLE, TABLE_AGAIN):
        for outcome in [of_name[name]] if name in of_name and of_name[name].results else []:
            finished = [row for row in outcome.results if row.get("status") == "done"]
            count = outcome.results[0].get("finished_runs", len(finished))
            sentences.append(f"{name}: {outcome.seconds:.1f} s, {outcome.status}, {count} run(s) finished")
    of_variant: dict[str, list[dict[str, str]]] = {}
    for row in _results(of_name, TABLE):
        if row.get("status") == "done":
            of_variant.setdefault(row["variant"], []).append(row)
    rows = [
        (
            variant,
            str(len(runs)),
            _mean_and_deviation([float(run["accuracy"]) for run in runs]),
            f"{sum(float(run['compile_seconds']) for run in runs):.1f}",
            f"{sum(float(run['train_seconds']) for run in runs):.1f}",
        )
        for variant, runs in of_variant.items()
    ]
    header = ("variant", "runs", "accuracy, %", "compile, s", "train, s")
    return Section("The default table", header, rows, sentences)


def _tests(counts: dict[str, Any]) -> Section:
    names = counts["names"]
    numbers = ", ".join(f"{count} {status}" for status, count in counts.items() if status != "names")
    failed = [f"failed: {name}" for name in names]
    return Section("Tests that need an accelerator", sentences=[numbers or "none ended", *failed])


def _parts(outcomes: Sequence[Outcome]) -> Section:
    header = ("part", "outcome", "seconds", "at most")
    rows = [(o.name, o.status, f"{o.seconds:.0f}", f"{o.limit:.0f}") for o in outcomes]
    skipped = [f"{o.name}: {o.message}" for o in outcomes if o.status == SKIPPED]
    outputs = [(o.name, o.message) for o in outcomes if o.status not in (DONE, SKIPPED) and o.message]
    return Section("How the parts ended", header, rows, skipped, outputs)
