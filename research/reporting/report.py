"""Writes a comparison's report from its run folders: Markdown, one HTML page, LaTeX tables, CSV, JSON, plots."""

from collections import Counter
from pathlib import Path

import numpy as np

from research.atomic_files import write_text
from research.data.audit import reload_corpus
from research.errors import UserError
from research.evaluation.metrics import NAMES, per_class, unit_of
from research.json_files import write_json
from research.reporting.blocks import Block, Heading, Items, Plot, Table, Text, to_html, to_latex, to_markdown
from research.reporting.caveats import caveats
from research.reporting.claims import LEVEL, Claims, baseline_of, level_of, planned_claims
from research.reporting.effects import effects_table
from research.reporting.plots import write_plots
from research.reporting.results import Results, comparison_json, planned_pairs, read_results, results_csv
from research.reporting.tables import (
    between,
    costs_table,
    matrix,
    metrics_table,
    pairs_table,
    protocol,
    trained_pairs_table,
    variants_table,
)
from research.settings import leaves_of

_MOST_IN_MATRIX = 12
_TEXTS_SHOWN = 10
_LONGEST_TEXT = 200


def write_report(folder: Path, claims: Claims | None = None) -> Results:
    """Writes `results.csv`, `comparison.json`, `report.{md,html,tex}` and `plots/`; returns what they say.

    Raises:
      UserError: see `read_results`.
    """
    results = read_results(folder, claims)
    write_text(folder / "results.csv", results_csv(results))
    write_json(folder / "comparison.json", comparison_json(results))
    plots = write_plots(results, folder / "plots")
    blocks = _blocks(results, plots)
    title = f"Comparison on {results.plan['corpus']['name']}"
    write_text(folder / "report.md", to_markdown(title, blocks))
    write_text(folder / "report.html", to_html(title, blocks, folder / "plots"))
    tables = [block for block in blocks if isinstance(block, Table)][: 1 + bool(results.pairs)]
    about = " ".join([f"{protocol(results)}.", _method(results), *caveats(results)])
    captions = (about, f"Differences of {NAMES[results.metric]}. {_simultaneous(results)}")
    write_text(folder / "report.tex", to_latex(list(zip(tables, captions, strict=False))))
    return results


def _simultaneous(results: Results) -> str:
    pairs, claims = planned_pairs(results), results.claims
    return (
        f"Simultaneous {100 * LEVEL:.0f} % intervals: Bonferroni over {pairs} pair(s), {claims.looks} look(s) at the "
        f"table and {claims.corpora} corpus or corpora, so each is one of {100 * level_of(pairs, claims):.4g} %."
    )


def _method(results: Results) -> str:
    plan = results.plan
    if not plan["folds"] and plan["repeats"] == 1:
        return (
            f"Intervals: {100 * LEVEL:.0f} %, over test texts alone: with one run of each variant nothing is known of "
            "how another training would do, and no difference is claimed."
        )
    over = "test texts, splits, initialisations and data order"
    if not plan["folds"]:
        over = "test texts, initialisations and data order (what other training texts would change is not in them)"
    return (
        f"Intervals: {100 * LEVEL:.0f} %, for the expected score of the training procedure at this training size, over "
        f"{over}; generalised intervals (Weerahandi 1993) from the variance of texts and that between runs: the fewer "
        f"runs, the longer, unless more of them turn out to differ more."
    )


def _chosen(results: Results) -> str:
    """How epochs and settings were chosen."""
    entries = results.plan["variants"]
    last = [variant for variant, entry in entries.items() if entry["settings"]["training"]["select"] == "last"]
    if len(last) == len(entries):
        said = "The last epoch of each run was taken"
    else:
        done = [row for row in results.rows if row["train_texts"]]
        train, validation = (between(row[part] for row in done) for part in ("train_texts", "validation_texts"))
        said = "The epoch of each run was chosen on validation texts"
        said += f" (a run trains on {train} texts and chooses on {validation})" if done else ""
        said += f"; of {', '.join(last)} the last one was taken" if last else ""
    tuned = [variant for variant, entry in entries.items() if entry.get("tuned")]
    return f"{said}. " + (f"Tuned on validation texts, run by run: {', '.join(tuned)}. " if tuned else "")


def _blocks(results: Results, plots: dict[str, str]) -> list[Block]:
    ranked = results.ranked()
    blocks: list[Block] = [
        Text(f"{protocol(results)}."),
        *([Text(f"Of the texts of {notes}.")] if (notes := results.plan["corpus"].get("notes")) else []),
        Text(
            f"{_method(results)} {_chosen(results)}Each run looked at its test texts once. The rows of this table are "
            "not to be compared by their intervals; the verdicts below do that."
        ),
        variants_table(results),
        *map(Text, caveats(results)),
        Plot("scores", plots["scores"]),
    ]
    baseline = baseline_of(list(results.plan["variants"]), results.claims)
    if not results.pairs and len(results.plan["variants"]) > 1:
        blocks += [Heading("Verdicts"), Text(f"None: {baseline}, the baseline, shares no finished run with another.")]
    if results.pairs:
        blocks += [
            Heading("Verdicts"),
            Text(
                f"{_simultaneous(results)} They and nothing else decide: better or worse where the interval leaves out "
                f"0, equivalent where it lies within {_margin(results)}, else undecided. Where a run was not trained "
                "there is no verdict. What would decide with an even chance, counted in all, is for a true difference "
                "as large as that seen. A difference is over the runs that both variants have."
            ),
            pairs_table(results),
        ]
        if 2 < len(ranked) <= _MOST_IN_MATRIX:
            told = "" if results.claims.all_pairs else "; of the pairs without a word nothing is claimed (--pairs=all)"
            blocks += [
                Text(f"Row against column, {unit_of(results.metric)} of {NAMES[results.metric]}{told}:"),
                matrix(results),
            ]
    if (trained := trained_pairs_table(results)).rows:
        blocks += [
            Heading("These two trained models"),
            Text(
                "There is one run of each variant. Whether these very models differ, McNemar's exact test says; of "
                "another training it says nothing, so it decides nothing above."
            ),
            trained,
        ]
    if (effects := effects_table(results)).rows:
        blocks += [
            Heading("Effects of settings"),
            Text(
                "Averaged over the other settings; an interaction is how much one changes another. Simultaneous "
                "intervals."
            ),
            effects,
        ]
    if "settings" in plots:
        blocks += [Plot("settings", plots["settings"])]
    lacking = [row for row in results.rows if row["status"] != "done"]
    if lacking:
        blocks += [
            Heading("Runs without a result"),
            Text("They are left out of every mean above, which the column of runs shows."),
            Items(tuple(f"{row['run_folder']}: {row['status']}" for row in lacking)),
        ]
    blocks += [
        Heading("Other metrics"),
        metrics_table(results),
        Text(f"Per cent, but nats for log loss; means over runs with {100 * LEVEL:.0f} % intervals."),
        Text(f"Each class, by {ranked[0]}, all runs together:"),
        _classes_table(results, ranked[0]),
        Plot("confusion", plots["confusion"]),
        Heading("Learning"),
        Plot("curves", plots["curves"]),
        Heading("Cost"),
        Text("Means over runs; the peak is that of the process, with what it had trained before."),
        costs_table(results),
        Plot("cost", plots["cost"]),
        Heading("Calibration"),
        Plot("calibration", plots["calibration"]),
        *_texts(results),
        Heading("Settings"),
        Text("What each variant sets otherwise than most of them:"),
        Items(_settings(results)),
        Heading("Where this comes from"),
        Items(_provenance(results)),
    ]
    return blocks


def _margin(results: Results) -> str:
    margin, unit = results.claims.margin, unit_of(results.metric)
    return f"{margin:g} nats" if unit == "nats" else f"{100 * margin:g} point(s)"


def _classes_table(results: Results, variant: str) -> Table:
    outcomes = results.outcomes[variant]
    label = np.concatenate([o.label for o in outcomes])
    found = per_class(label, np.concatenate([o.probabilities for o in outcomes]))
    columns = [[f"{100 * value:.1f}" for value in found[metric]] for metric in ("precision", "recall", "f1")]
    rows = list(zip(results.plan["classes"], *columns, map("{:,}".format, found["support"]), strict=True))
    return Table(("class", "precision", "recall", "F1", "texts"), rows)


def _texts(results: Results) -> list[Block]:
    """The texts that tell variants apart, and those whose label all of them contradict."""
    try:
        corpus = reload_corpus(results.plan["corpus"], tuple(results.plan["classes"]))
    except UserError:
        return []  # the user's file is elsewhere or another one now
    position = {text_id: i for i, text_id in enumerate(corpus.ids)}
    ranked = results.ranked()
    right = np.full((len(ranked), len(corpus)), np.nan)  # share of a variant's runs
    against, tests = np.zeros(len(corpus)), np.zeros(len(corpus))  # probability of the label, summed over all runs
    for row, variant in enumerate(ranked):
        hits, times = np.zeros(len(corpus)), np.zeros(len(corpus))
        for outcome in results.outcomes[variant]:
            at = np.array([position[text_id] for text_id in outcome.id])
            hits[at] += outcome.probabilities.argmax(axis=1) == outcome.label
            against[at] += outcome.probabilities[np.arange(len(at)), outcome.label]
            times[at] += 1
        tests += times
        right[row] = np.where(times > 0, hits / np.maximum(times, 1), np.nan)
    tested = ~np.isnan(right).any(axis=0)
    blocks: list[Block] = []
    if len(ranked) > 1 and tested.any():
        spread = np.where(tested, np.nan_to_num(right).var(axis=0), -1)
        shown = np.argsort(-spread, kind="stable")[:_TEXTS_SHOWN]
        rows = []
        for i in shown[spread[shown] > 0]:
            good, bad = ([ranked[v] for v in np.flatnonzero((right[:, i] > 0.5) == side)] for side in (True, False))
            rows.append((_short(corpus.texts[i]), corpus.class_names[corpus.labels[i]], _list(good), _list(bad)))
        blocks += [Heading("Texts on which variants disagree most"), Table(("text", "label", "right", "wrong"), rows)]
    wrong = tested & (np.nan_to_num(right).max(axis=0) == 0)
    if wrong.any():
        shown = [i for i in np.argsort(against / np.maximum(tests, 1), kind="stable") if wrong[i]][:_TEXTS_SHOWN]
        rows = [(_short(corpus.texts[i]), corpus.class_names[corpus.labels[i]]) for i in shown]
        blocks += [
            Heading("Texts whose label every run contradicts"),
            Text(f"{int(wrong.sum()):,} in all; the most confidently contradicted may be labelled wrongly:"),
            Table(("text", "label"), rows),
        ]
    return blocks


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."


def _list(variants: list[str]) -> str:
    return ", ".join(variants[:4]) + (f" and {len(variants) - 4} more" if len(variants) > 4 else "") or "none"


def _settings(results: Results) -> tuple[str, ...]:
    flat = {variant: leaves_of(entry["settings"]) for variant, entry in results.plan["variants"].items()}
    counts: dict[str, Counter] = {}
    for settings in flat.values():
        for name, value in settings.items():
            counts.setdefault(name, Counter())[repr(value)] += 1
    common = {name: count.most_common(1)[0] for name, count in counts.items()}
    usual = {name: value if times > len(flat) / 2 else None for name, (value, times) in common.items()}
    rows = [
        f"{variant}: `{', '.join(f'{n}={v}' for n, v in settings.items() if repr(v) != usual[n]) or 'nothing'}`"
        for variant, settings in flat.items()
    ]
    for variant, entry in results.plan["variants"].items():
        rows += [f"{variant}, {run}, tuned: `{' '.join(flags)}`" for run, flags in entry.get("tuned", {}).items()]
    return tuple(rows)


def _other_claims(results: Results) -> list[str]:
    """The command that makes the claims, where it is not that of the comparison."""
    planned = planned_claims(results.plan)
    if results.claims == planned:
        return []
    baseline, margin, all_pairs, metric, *_ = results.claims
    flags = f" --baseline={baseline}" if baseline else ""
    if all_pairs != planned.all_pairs:
        flags += f" --pairs={'all' if all_pairs else 'baseline'}"
    if metric != planned.metric:
        flags += f" --metric={metric}"
    return [f"verdicts: `./launch.sh report --workdir=FOLDER{flags} --margin={100 * margin:g}`"]


def _provenance(results: Results) -> tuple[str, ...]:
    plan = results.plan
    seconds = sum(r["compile_seconds"] + r["train_seconds"] for r in results.rows if r["status"] == "done")
    versions = ", ".join(f"{name} {version}" for name, version in plan["versions"].items())
    return (
        f"command: `{plan['command']}`" if plan["command"] else "made by `research.compare`, from Python",
        *(f"before it, in the same folder: `{command}`" for command in plan.get("earlier_commands", ())),
        *_other_claims(results),
        f"corpus checksum: `{plan['corpus']['checksum']}`",
        f"commit: `{plan['commit'] or 'unknown'}`; Python {plan['python']}; {versions}",
        f"machine: {plan.get('processor', 'unknown')}; devices {', '.join(plan['devices'])}; {plan.get('date', '')}",
        f"duration: {seconds / 60:.1f} minutes of compiling and training, runs added up",
        "`results.csv` has a row a run with its scores and folder"
        + (", whose `record.json` holds the command that makes it" if plan["command"] else ""),
    )
