"""A comparison, as `compare` returns it to Python: tables as DataFrames, the answer, plots and wrong predictions."""

import base64
import dataclasses
import html
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from research.comparison.refit import refit
from research.comparison.trained_run import TrainedRun
from research.data.corpora import Corpus
from research.errors import UserError, expected, in_python_words, not_installed
from research.evaluation.intervals import Estimate
from research.evaluation.metrics import METRICS
from research.reporting.answer import find_answer
from research.reporting.caveats import list_caveats
from research.reporting.documents import Table, html_table
from research.reporting.figures import Figure
from research.reporting.pairs import single_reference
from research.reporting.plots import describe_plot, draw_plot
from research.reporting.results import Results
from research.reporting.summary import describe_protocol
from research.reporting.tables import pairs_table, variants_table

if TYPE_CHECKING:  # it is an extra
    from pandas import DataFrame

_COSTS = ("train_seconds", "predict_ms")  # columns of `results.csv` that are averaged over the runs


@dataclasses.dataclass(frozen=True)
class BestVariant:
    """The variant with the best mean score. The verdicts say whether it is better than others, or only luckier.

    Attributes:
      name: its name in the tables.
      estimate: mean and interval of its test score, by the metric that decides.
      runs: the folders of its finished runs.
    """

    name: str
    estimate: Estimate
    runs: tuple[Path, ...]
    _comparison: Path = dataclasses.field(repr=False)
    _corpus: Corpus = dataclasses.field(repr=False)

    def refit(self, workdir: Path | str, *, overwrite: bool = False, progress: bool = True) -> TrainedRun:
        """Train the variant once more, on all texts, and return the run; see `research.refit`."""
        options = {"overwrite": overwrite, "progress": progress}
        return refit(self._comparison, self.name, workdir, corpus=self._corpus, **options)


class ComparisonResult:
    """A comparison. It can be used as the path of its folder: `restore(result, "lstm")`. Only the tables need pandas.

    Attributes:
      folder: the comparison's folder, with `report.html`.
      results: all that the report shows, as plain values.
    """

    def __init__(self, results: Results, folder: Path, corpus: Corpus):
        self.results = results
        self.folder = folder
        self._corpus = corpus

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def answer(self) -> str:
        """The answer in two or three sentences: which variant to take, and what would decide undecided pairs."""
        return in_python_words(str(find_answer(self.results)))

    @property
    def table(self) -> "DataFrame":
        """One row per variant, the best first.

        Columns: `variant`; the metric that decides with `low` and `high`, its 95 % interval; the other metrics;
        `parameters`; `train_seconds` and `predict_ms` (per text), means over the runs; `runs`, the number of finished
        runs; and `not_trained`, how many of them did not learn. Scores are fractions, and nats for `log_loss`.
        """
        results, rows = self.results, []
        for variant in results.ranked():
            estimates, done = results.estimates[variant], results.done(variant)
            mean, low, high = estimates[results.metric]
            row = {"variant": variant, results.metric: mean, "low": low, "high": high}
            row |= {metric: estimates[metric].mean for metric in METRICS if metric != results.metric}
            row["parameters"] = done[0]["parameters"]
            row |= {name: _mean([run[name] for run in done]) for name in _COSTS}
            rows.append(row | {"runs": len(done), "not_trained": len(results.untrained.get(variant, {}))})
        return _frame(rows)

    @property
    def verdicts(self) -> "DataFrame":
        """One row per pair of variants.

        Columns: `a`, `b`, `metric`; `difference`, a - b, with `low` and `high`, its simultaneous 95 % interval;
        `verdict`, seen from a; `negligible`, whether a is better or worse, but by less than the margin.
        """
        columns = ("a", "b", "metric", "difference", "low", "high", "verdict", "negligible")
        rows = [pair | dict(zip(("low", "high"), pair["interval"], strict=True)) for pair in self.results.pairs]
        return _frame([{name: row[name] for name in columns} for row in rows], columns)

    @property
    def runs(self) -> "DataFrame":
        """One row per run, with the columns of `results.csv`; runs that failed or are missing too."""
        return _frame(
            [{name: None if value == "" else value for name, value in row.items()} for row in self.results.rows]
        )

    @property
    def best(self) -> BestVariant:
        """The variant with the best mean score."""
        name = self.results.ranked()[0]
        runs = tuple(self.folder / row["run_folder"] for row in self.results.done(name))
        estimate = self.results.estimates[name][self.results.metric]
        return BestVariant(name, estimate, runs, self.folder, self._corpus)

    def errors(self, variant: str | None = None) -> "DataFrame":
        """Return the held-out texts that a variant got wrong, those first of which it was most certain.

        Columns: `text`, `label`, `prediction`, `probability` of the prediction (missing if the model predicts none),
        and the `fold` and `repeat` of the run.

        Args:
          variant: its name in the table; by default the best.

        Raises:
          UserError: there is no such variant with a finished run.
        """
        variant = self.best.name if variant is None else variant
        if variant not in self.results.outcomes:
            raise UserError(f"there is no finished run of {variant!r}, {expected(variant, self.results.outcomes)}")
        position = {text_id: i for i, text_id in enumerate(self._corpus.ids)}
        names, rows = self._corpus.class_names, []
        for outcome in self.results.outcomes[variant]:
            repeat, fold = outcome.run
            predicted, has_probabilities = outcome.probabilities.argmax(axis=1), outcome.kind == "probabilities"
            for i in np.flatnonzero(predicted != outcome.label):
                rows.append(
                    {
                        "text": self._corpus.texts[position[outcome.id[i]]],
                        "label": names[outcome.label[i]],
                        "prediction": names[predicted[i]],
                        "probability": float(outcome.probabilities[i, predicted[i]]) if has_probabilities else None,
                        "fold": fold,
                        "repeat": repeat,
                    }
                )
        rows.sort(key=lambda row: -(row["probability"] or 0.0))
        columns = ("text", "label", "prediction", "probability", "fold", "repeat")
        return _frame(rows, columns).astype({"probability": float})

    def plot(self, name: str | None = None) -> Figure:
        """Return a plot of the report: "differences", "scores", "curves", "cost", "calibration" or "confusion".

        The default is the first picture of the report: "differences", or "scores" if no difference is known.

        Raises:
          UserError: there is no such plot.
        """
        return draw_plot(self.results, name)

    def __repr__(self) -> str:
        parts = [self.answer, "", f"{describe_protocol(self.results)}:", *_aligned(variants_table(self.results))]
        for table in self._further_tables:
            parts += ["", *_aligned(table)]
        caveats = map(in_python_words, list_caveats(self.results))
        return "\n".join([*parts, "", *caveats, f"report: {self.folder / 'report.html'}"])

    @property
    def _further_tables(self) -> list[Table]:
        """The tables that are shown beside that of the variants, which has all pairs if they have one reference."""
        pairs = self.results.pairs
        return [pairs_table(self.results)] if pairs and single_reference(pairs) is None else []

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.plot()._repr_png_()).decode()
        shown = [f'<img alt="{html.escape(describe_plot(self.results))}" src="data:image/png;base64,{picture}">']
        shown += [html_table(table) for table in (variants_table(self.results), *self._further_tables)]
        notes = [f"{describe_protocol(self.results)}.", self.results.plan["corpus"].get("notes", "")]
        notes += [*list_caveats(self.results), f"Report: {self.folder / 'report.html'}"]
        lines = [f"<p>{html.escape(in_python_words(note))}</p>" for note in notes if note]
        return "\n".join([f"<p><b>{html.escape(self.answer)}</b></p>", *shown, *lines])


def _frame(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> "DataFrame":
    """Return rows as a DataFrame; empty cells are missing values.

    Raises:
      UserError: pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        raise not_installed("this table", "pandas", "notebook") from None
    known = [{name: None if cell == "" else cell for name, cell in row.items()} for row in rows]
    return pandas.DataFrame(known, columns=columns)


def _mean(values: Sequence[Any]) -> float:
    """Return the mean of the values that are known; NaN without any."""
    known = [value for value in values if value != ""]
    return float(np.mean(known)) if known else float("nan")


def _aligned(table: Table) -> list[str]:
    """Return the lines of a table; the first column is aligned left, the others right."""
    lines = [table.header, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = []
    for name, *cells in lines:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        aligned.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
    return aligned
