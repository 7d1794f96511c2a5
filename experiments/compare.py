"""Trains variants over folds and seeds and prints a table with intervals and verdicts.

    ./launch.sh compare
    ./launch.sh compare --variants=lstm,cnn,luong:general --corpus=my.tsv --workdir=runs/mine
    ./launch.sh compare --variants=all --workdir=runs/all
    ./launch.sh compare --variants=lstm --vary=optimizer.learning_rate=1e-3,3e-4 --workdir=runs/rates

    ./launch.sh compare --variants=cnn --drop=model.dropout,optimizer.max_norm --workdir=runs/ablation
    ./launch.sh compare --variants=lstm --vary=data.train_size=500,1000,2000 --workdir=runs/sizes
    ./launch.sh compare --variants=linear,lstm --corpus=rotten_tomatoes,my.tsv --workdir=runs/both
    ./launch.sh compare --variants=linear,lstm --until=decided --max_repeats=8 --workdir=runs/decided

Started again, it goes on where it stopped; more variants or repeats extend it. `--config.FIELD=VALUE` is applied to
every variant; one without the setting that `--vary` or `--drop` names stands as it is.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments import program
from experiments.progress import print_results, print_table, reporting
from experiments.variants import every_variant, expand, load_config, settled_otherwise
from research.atomic_files import write_text
from research.errors import UserError
from research.runs import run_files
from research.runs.plan_file import read_plan

_DEFAULT = ["linear", "mlp", "rnn:tanh", "gru", "lstm", "cnn", "luong:general", "transformer:pre"]
flags.DEFINE_list("variants", _DEFAULT, "Variants, separated by commas, or: all.")
program.define_folds()
flags.DEFINE_integer(
    "repeats", None, "Repetitions (default as many as the folder has; in a new one 1 with folds, 5 with a test split)."
)
flags.DEFINE_enum("until", "repeats", ["repeats", "decided"], "When to stop: decided adds repeats while a pair is not.")
flags.DEFINE_integer("max_repeats", 10, "The most repeats that --until=decided goes to.", lower_bound=1)
flags.DEFINE_list("drop", [], "Settings to switch off in turn (0, false or none): an ablation of each variant.")
flags.DEFINE_string("tuned", None, "The folder of a search (see the program tune) whose chosen settings are used.")
flags.DEFINE_multi_string("vary", [], "FIELD=VALUE,VALUE...: a setting to vary; repeated, the cross product is taken.")
program.define_claims()
program.define_corpus("rotten_tomatoes")
program.define_clean()
program.define_workdir("The comparison's folder.")
FLAGS = flags.FLAGS

if TYPE_CHECKING:
    from research.comparison.plan import Variant
    from research.data.corpora import Corpus
    from research.reporting.results import Results


def main(overrides: list[str]) -> None:
    program.required("corpus")
    if FLAGS.tuned and (FLAGS.vary or FLAGS.drop):
        raise UserError("--tuned brings settings of its own, expected neither --vary nor --drop beside it")
    if FLAGS["max_repeats"].present and FLAGS.until != "decided":
        raise UserError(f"--max_repeats is {FLAGS.max_repeats}, expected --until=decided with it")
    names = FLAGS.variants
    if names == ["all"]:
        names = every_variant()
        print(f"all leaves out what takes long: {', '.join(every_variant('NAMED_ALONE'))}", file=sys.stderr)
    variants = expand(names, overrides, FLAGS.vary, FLAGS.drop)
    program.use_devices(side_by_side=True)
    from research.reporting.documents import markdown_table
    from research.reporting.tables import replication_table

    sources = [FLAGS.corpus] if Path(FLAGS.corpus).exists() else FLAGS.corpus.split(",")
    corpora = {source: program.load_corpus(source) for source in sources}
    if len({corpus.name for corpus in corpora.values()}) < len(sources):
        raise UserError(f"--corpus is {FLAGS.corpus}, expected corpora of different names")
    if len(corpora) == 1:
        source, corpus = corpora.popitem()
        folder = Path(FLAGS.workdir or f"runs/{corpus.name}")
        _leave({corpus.name: _compare(variants, corpus, source, folder, overrides, 1)})
        return
    folder = Path(FLAGS.workdir or "runs/" + "-".join(corpus.name for corpus in corpora.values()))
    results = {
        corpus.name: _compare(variants, corpus, source, folder / corpus.name, overrides, len(corpora))
        for source, corpus in corpora.items()
    }
    header, rows, _ = replication_table(results)
    if rows:
        title = "Verdicts over the corpora (the intervals are simultaneous over pairs and corpora)"
        print_table(title, header, rows)
        write_text(folder / "replication.md", f"# {title}\n\n{markdown_table(header, rows)}")
    _leave(results)


def _leave(results: dict[str, "Results"]) -> None:
    """With 1 where a run failed by no fault of the user's; which did is said above."""
    if any(row["status"] == "failed" for fingerprint_corpus in results.values() for row in fingerprint_corpus.rows):
        sys.exit(1)


def _compare(
    variants: list["Variant"], corpus: "Corpus", source: str, folder: Path, overrides: list[str], corpora: int
) -> "Results":
    from research.comparison.compare import ComparisonSpec, compare, default_repeats
    from research.data.splits import resolve_folds
    from research.reporting.claims import Claims, planned_claims

    folds = resolve_folds(corpus, FLAGS.folds)
    if FLAGS.tuned:
        variants = [_tuned(variant, corpus, folds, overrides) for variant in variants]
    there = None if FLAGS.overwrite else folder
    is_there = there is not None and (there / run_files.PLAN).exists()
    earlier = planned_claims(read_plan(there)) if is_there else None
    most = FLAGS.max_repeats if FLAGS.until == "decided" else FLAGS.repeats or default_repeats(there, folds)
    with reporting(len(variants) * (folds or 1) * most, "runs") as reporter:
        spec = ComparisonSpec(
            variants,
            corpus,
            folds=FLAGS.folds,
            repeats=FLAGS.repeats,
            max_repeats=FLAGS.max_repeats if FLAGS.until == "decided" else None,
            claims=program.claims(earlier or Claims(metric=""))._replace(corpora=corpora),
            corpus_flags=program.corpus_flags(source),
            command=program.command(),
            overwrite=FLAGS.overwrite,
        )
        workers = program.workers()
        results = compare(spec, folder, workers=workers, on_progress=reporter.progress, log=reporter.say)
    print_results(results, folder)
    return results


def _tuned(variant: "Variant", corpus: "Corpus", folds: int, overrides: list[str]) -> "Variant":
    """The variant with the settings that a search chose for each of its runs."""
    from research.comparison.tuning import chosen_settings

    found = {}
    for run, settings in chosen_settings(Path(FLAGS.tuned), variant.name, corpus, folds).items():
        settled_otherwise(overrides, settings, f"what {FLAGS.tuned} tuned for {variant.name}")
        chosen = [f"--config.{field}={value}" for field, value in settings.items()]
        found[run] = (load_config(variant.source, [*overrides, *chosen]), (*variant.flags, *chosen))
    return variant._replace(tuned=found)


if __name__ == "__main__":
    program.launch(main)
