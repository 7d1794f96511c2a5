"""Train variants over folds and seeds, and print a table with intervals and verdicts.

    ./launch.sh compare
    ./launch.sh compare --variants=lstm,cnn,luong:general --corpus=my.tsv --workdir=runs/mine
    ./launch.sh compare --variants=all --workdir=runs/all
    ./launch.sh compare --variants=lstm --vary=optimizer.learning_rate=1e-3,3e-4 --workdir=runs/rates
    ./launch.sh compare --variants=cnn --drop=model.dropout,optimizer.max_norm --workdir=runs/ablation
    ./launch.sh compare --variants=lstm --vary=data.train_size=500,1000,2000 --workdir=runs/sizes
    ./launch.sh compare --variants=linear,lstm --corpus=rotten_tomatoes,my.tsv --workdir=runs/both
    ./launch.sh compare --variants=linear,lstm --until=decided --max_repeats=8 --workdir=runs/decided
    ./launch.sh compare --variants=linear,lstm --predictions=svm=svm.csv --corpus=my.tsv --workdir=runs/other

The same command resumes a comparison; more variants or repeats extend it. `--config.FIELD=VALUE` is applied to every
variant. A variant that lacks the setting of `--vary` or `--drop` takes part unchanged.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments import comparison_flags, corpus_flags, program
from experiments.grid import expand
from experiments.live_curves import define_tensorboard, live_curves
from experiments.printing import print_results, print_table
from experiments.unlabelled_test import best_own_variant, predict_unlabelled
from experiments.variants import every_variant, load_config, refuse_overrides
from research.atomic_files import write_text
from research.errors import UserError
from research.parallel import device_setup
from research.progress import reporting
from research.runs import run_files
from research.runs.plan_file import read_plan

_DEFAULT = ["linear", "mlp", "rnn:tanh", "gru", "lstm", "cnn", "luong:general", "transformer:pre"]
flags.DEFINE_list("variants", _DEFAULT, "Variants to compare, such as lstm,cnn,luong:general; or: all.")
corpus_flags.define_folds()
flags.DEFINE_integer(
    "repeats", None, "Number of repeats (default: as the folder has; in a new one 1 with folds, 5 with a test split)."
)
flags.DEFINE_enum("until", "repeats", ["repeats", "decided"], "decided: add repeats to variants of undecided pairs.")
flags.DEFINE_integer("max_repeats", 10, "Largest number of repeats with --until=decided.", lower_bound=1)
flags.DEFINE_float("minutes", None, "With --until=decided: begin no repeat that is expected to end later than this.")
flags.DEFINE_list("drop", [], "Settings to switch off one by one (0, false or none): an ablation of each variant.")
flags.DEFINE_string("tuned", None, "The folder of a search by ./launch.sh tune, whose chosen settings are used.")
flags.DEFINE_multi_string(
    "predictions",
    [],
    "NAME=FILE: a model that was trained elsewhere, by its predictions for the test rows of ./launch.sh splits. A CSV "
    "file with the columns id, repeat, fold, and label or probability_LABEL for each label. It may be given often.",
)
flags.DEFINE_multi_string("vary", [], "A setting to vary: FIELD=VALUE,VALUE... Several settings: their cross product")
comparison_flags.define_claims()
corpus_flags.define_corpus("rotten_tomatoes")
corpus_flags.define_clean()
define_tensorboard()
program.define_workdir("The comparison's folder (default: runs/ and the name of the corpus).")
FLAGS = flags.FLAGS

if TYPE_CHECKING:
    from research.comparison.foreign_variant import ForeignVariant
    from research.comparison.plan import Variant
    from research.data.corpora import Corpus
    from research.reporting.results import Results


def main(overrides: list[str]) -> None:
    program.required("corpus")
    if FLAGS.tuned and (FLAGS.vary or FLAGS.drop):
        raise UserError("--tuned sets the settings itself, expected neither --vary nor --drop with it")
    for name in ("max_repeats", "minutes"):
        if FLAGS[name].present and FLAGS.until != "decided":
            raise UserError(f"--{name} is {FLAGS[name].value}, expected --until=decided with it")
    device_setup.expect_workers()
    names = FLAGS.variants
    if names == ["all"]:
        names = every_variant()
        print(f"all leaves out the variants that take long: {', '.join(every_variant('NAMED_ALONE'))}", file=sys.stderr)
    predictions = _read_predictions()
    variants = expand(names, overrides, FLAGS.vary, FLAGS.drop) + predictions
    device_setup.use_devices()
    sources = [FLAGS.corpus] if Path(FLAGS.corpus).exists() else FLAGS.corpus.split(",")
    corpora = {source: corpus_flags.load_corpus(source) for source in sources}
    corpus_names = [corpus.name for corpus in corpora.values()]
    if len(set(corpus_names)) < len(sources):
        raise UserError(f"--corpus is {FLAGS.corpus}, expected corpora of different names")
    if predictions and len(sources) > 1:
        raise UserError(f"--predictions={FLAGS.predictions[0]} is of one corpus, expected one --corpus")
    folder = Path(FLAGS.workdir or "runs/" + "-".join(corpus_names))
    results = {}
    for source, corpus in corpora.items():
        own_folder = folder if len(corpora) == 1 else folder / corpus.name
        results[corpus.name] = _compare(variants, corpus, source, own_folder, overrides, len(corpora))
    if len(corpora) > 1:
        _print_replication(results, folder)
    _exit_if_failed(results)


def _read_predictions() -> list["ForeignVariant"]:
    """Return the variants of `--predictions`."""
    if not FLAGS.predictions:
        return []
    from research.comparison.foreign_variant import ForeignVariant

    variants = []
    for value in FLAGS.predictions:
        name, _, file = value.partition("=")
        if not name or not file:
            raise UserError(f"--predictions is {value!r}, expected NAME=FILE, such as svm=svm.csv")
        if not Path(file).is_file():
            raise UserError(f"--predictions={value}: there is no file {file}")
        variants.append(ForeignVariant(name, predictions=Path(file)))
    return variants


def _print_replication(results: dict[str, "Results"], folder: Path) -> None:
    """Print the table of verdicts over several corpora, and write it into the folder."""
    from research.reporting.documents import markdown_table
    from research.reporting.tables import replication_table

    header, rows, _ = replication_table(results)
    if rows:
        title = "Verdicts over the corpora (the intervals are simultaneous over pairs and corpora)"
        print_table(title, header, rows)
        write_text(folder / "replication.md", f"# {title}\n\n{markdown_table(header, rows)}")


def _exit_if_failed(results: dict[str, "Results"]) -> None:
    """Exit with code 1 if a run failed; the tables above name it."""
    if any(row["status"] == "failed" for of_corpus in results.values() for row in of_corpus.rows):
        sys.exit(1)


def _compare(
    variants: list["Variant | ForeignVariant"],
    corpus: "Corpus",
    source: str,
    folder: Path,
    overrides: list[str],
    corpora: int,
) -> "Results":
    """Compare the variants on one of `corpora` corpora and print the results.

    Args:
      variants: the variants.
      corpus: the corpus that they are compared on.
      source: its name or path as the user gave it.
      folder: the folder of the comparison.
      overrides: `--config.FIELD=VALUE` of every variant.
      corpora: number of corpora, over which the claims are simultaneous.
    """
    from research.comparison.compare import ComparisonSpec, default_repeats, run_comparison
    from research.data.splits import resolve_folds
    from research.reporting.claims import Claims, planned_claims

    folds = resolve_folds(corpus, FLAGS.folds)
    if FLAGS.tuned:
        variants = [_tuned(v, corpus, folds, overrides) if hasattr(v, "tuned") else v for v in variants]
    earlier = None if FLAGS.overwrite else folder
    claims = Claims(metric="")
    if earlier is not None and (earlier / run_files.PLAN).exists():
        claims = planned_claims(read_plan(earlier))
    most = FLAGS.max_repeats if FLAGS.until == "decided" else FLAGS.repeats or default_repeats(earlier, folds)
    with reporting(len(variants) * (folds or 1) * most, "runs") as reporter:
        spec = ComparisonSpec(
            variants,
            corpus,
            folds=FLAGS.folds,
            repeats=FLAGS.repeats,
            max_repeats=FLAGS.max_repeats if FLAGS.until == "decided" else None,
            minutes=FLAGS.minutes,
            claims=comparison_flags.update_claims(claims)._replace(corpora=corpora),
            corpus_flags=corpus_flags.flags_of_corpus(source),
            command=program.command(),
            overwrite=FLAGS.overwrite,
            split_by=None if FLAGS.variants else load_config("linear", overrides),
        )
        workers = device_setup.make_workers()
        with live_curves(folder, "*/*"):
            results = run_comparison(spec, folder, workers=workers, on_progress=reporter.progress, log=reporter.say)
    print_results(results, folder)
    if variant := best_own_variant(results):
        predict_unlabelled(corpus, folder, variant)
    return results


def _tuned(variant: "Variant", corpus: "Corpus", folds: int, overrides: list[str]) -> "Variant":
    """Return the variant with the settings that a search chose for each of its runs."""
    from research.comparison.tuning import chosen_settings

    config_of_run = {}
    for run, settings in chosen_settings(Path(FLAGS.tuned), variant.name, corpus, folds).items():
        refuse_overrides(overrides, settings, f"what {FLAGS.tuned} tuned for {variant.name}")
        chosen = [f"--config.{field}={value}" for field, value in settings.items()]
        config_of_run[run] = (load_config(variant.source, [*overrides, *chosen]), (*variant.flags, *chosen))
    return variant._replace(tuned=config_of_run)


if __name__ == "__main__":
    program.launch(main)
