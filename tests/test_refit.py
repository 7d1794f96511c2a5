"""A variant of a comparison is trained on all texts, and all runs of a variant predict together."""

import shutil

import numpy as np
import pytest

from experiments.variants import load_config
from research import Corpus, compare, refit, restore, train
from research.comparison.plan import Variant
from research.comparison.refit import prepare_refit
from research.data.corpora import load, make_corpus
from research.data.fingerprints import fingerprint_corpus
from research.data.reader import Row
from research.errors import UserError
from research.json_files import write_json
from research.reporting.results import read_results
from research.runs import run_files
from research.runs.prepare import Refit, Run
from research.runs.train import RunOptions, train_run
from research.serving.model_card import render_card
from research.settings import config_hash
from tests.comparing import compare_into
from tests.small import small_lstm

BEST_EPOCHS = (2, 3, 5)  # of the runs of `lstm`, in place of those that three small folds happen to have


@pytest.fixture(scope="module")
def compared(tmp_path_factory, small_corpus):
    """The folder of a comparison of `linear` and `lstm` in three folds."""
    variants = {"linear": load_config("linear"), "lstm": small_lstm()}
    return compare_into(tmp_path_factory.mktemp("refit") / "compared", variants, small_corpus, folds=3)


@pytest.fixture(scope="module")
def other_epochs(compared):
    """The same comparison with other best epochs in its records."""
    folder = shutil.copytree(compared, compared.parent / "other_epochs")
    for fold, epoch in enumerate(BEST_EPOCHS):
        run = folder / "lstm" / f"fold{fold}-repeat0"
        write_json(run / run_files.RECORD, run_files.read_record(run) | {"best_epoch": epoch})
    return folder


@pytest.fixture(scope="module")
def final(other_epochs):
    return refit(other_epochs, "lstm", other_epochs.parent / "final", progress=False).folder


def test_it_trains_on_all_texts_for_the_median_of_the_epochs(final, small_corpus):
    record = run_files.read_record(final)
    assert record["texts"] == {"train": 240, "validation": 0, "test": 0}
    assert record["best_epoch"] == 3
    assert [entry["step"] for entry in run_files.read_metrics(final)] == [8, 16, 24]
    seen = run_files.read_seen(final)
    assert set(seen["words"]) == set(fingerprint_corpus(small_corpus)["words"])
    assert seen["trained"].all()


def test_the_record_and_the_card_say_what_stands_for_it(other_epochs, final):
    results, evidence = read_results(other_epochs), run_files.read_record(final)["refit"]
    mean, low, high = results.estimates["lstm"]["accuracy"]
    assert evidence["estimates"]["accuracy"] == {"mean": mean, "interval": [low, high]}
    assert (evidence["runs"], evidence["planned_runs"], evidence["train_texts"]) == (3, 3, 144)
    said = " ".join(render_card(final, restore(final), "").split())
    assert "this model itself was not tested" in said
    assert f"the 3 run(s) of lstm in {other_epochs.resolve()} were best (2, 3, 5)" in said
    assert f"| accuracy | {mean:.4f} | [{low:.4f}, {high:.4f}] |" in said
    assert "These are not scores of this model." in said
    assert ("It was the best of 2 variants" in said) == (results.ranked()[0] == "lstm")


def test_an_interrupted_refit_resumes(other_epochs, final, tmp_path):
    def stop(run, epochs, loss):
        if epochs > 1:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run, corpus = prepare_refit(other_epochs, "lstm", folder)
        train_run(run, corpus, options=RunOptions(on_progress=stop))
    assert not run_files.is_finished(folder)
    refit(other_epochs, "lstm", folder)
    assert (folder / run_files.METRICS).read_bytes() == (final / run_files.METRICS).read_bytes()
    texts = ["a fine film", "", "two hours"]
    np.testing.assert_array_equal(restore(folder).predict_proba(texts), restore(final).predict_proba(texts))


def test_a_linear_model_is_fitted_to_all_texts(compared, tmp_path, small_corpus):
    folder = refit(compared, "linear", tmp_path / "run").folder
    accuracy = np.mean(restore(folder).predict_proba(small_corpus.texts).argmax(axis=1) == small_corpus.labels)
    assert run_files.read_record(folder)["texts"]["train"] == 240
    assert accuracy > 0.95
    assert "fitted to all texts at once" in render_card(folder, restore(folder), "")


def test_without_a_name_the_best_variant_is_taken(compared, tmp_path):
    folder = refit(compared, "", tmp_path / "run").folder
    best = read_results(compared).ranked()[0]
    assert run_files.read_record(folder)["refit"]["variant"] == best
    assert "It was the best of 2 variants" in render_card(folder, restore(folder), "")


def test_the_learning_rate_of_an_epoch_does_not_depend_on_their_number(small_corpus, tmp_path):
    """A cosine schedule that ended sooner would have lower rates from the first step on."""
    config = small_lstm("--config.optimizer.schedule=cosine")
    folders = [train_run(Run(config, tmp_path / str(epochs), refit=Refit(epochs)), small_corpus) for epochs in (2, 3)]
    short, long = map(run_files.read_metrics, folders)
    assert long[:2] == short
    assert restore(folders[0]).hash == config_hash(config)


def test_all_splits_of_a_corpus_are_trained_on(tmp_path):
    rows = {
        split: [Row(f"{split} {i} is {'fine' if i % 2 else 'dull'}", str(i % 2), "", "f") for i in range(count)]
        for split, count in (("train", 40), ("validation", 10), ("test", 20))
    }
    corpus = make_corpus("split", rows)
    comparison = compare_into(tmp_path / "c", {"linear": load_config("linear")}, corpus, repeats=2)
    folder = refit(comparison, "linear", tmp_path / "final", corpus=corpus)
    assert run_files.read_record(folder)["texts"] == {"train": 70, "validation": 0, "test": 0}
    with pytest.raises(UserError, match="was made in Python and is in no file"):
        refit(comparison, "linear", tmp_path / "other")


def test_what_cannot_be_refitted_is_refused(compared, tmp_path, small_tsv):
    lines = small_tsv.read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "fewer.tsv").write_text("".join(lines[:100]), "utf-8")
    for variant, options, message in (
        ("cnn", {}, "no variant 'cnn', expected one of linear, lstm"),
        ("lstm", {"corpus": tmp_path / "fewer.tsv"}, "fewer has other texts"),
    ):
        with pytest.raises(UserError, match=message):
            refit(compared, variant, tmp_path / "run", **options)
    with pytest.raises(UserError, match=r"no plan.json"):
        refit(compared / "lstm", "lstm", tmp_path / "run")
    config = small_lstm("--config.data.train_size=50")
    with pytest.raises(UserError, match="train_size is 50, expected 0"):
        train_run(Run(config, tmp_path / "run", refit=Refit(1)), load(small_tsv))
    assert not (tmp_path / "run").exists()


def test_a_variant_that_was_tuned_for_each_run_is_refused(small_corpus, tmp_path):
    config = load_config("linear")
    tuned = {f"fold{fold}-repeat0": (config, ("--config=linear", "--config.training.l2=2.0")) for fold in (0, 1)}
    variant = Variant("linear", config, ("--config=linear",), tuned)
    comparison = compare_into(tmp_path / "c", [variant], small_corpus, folds=2)
    with pytest.raises(UserError, match=r"tuned for each run apart.*config.training.l2 = 2.0"):
        refit(comparison, "linear", tmp_path / "run")


def test_a_run_without_folds_tests_no_text(small_corpus, tmp_path):
    folder = train(small_lstm(), small_corpus, tmp_path / "run", folds=0)
    assert run_files.read_record(folder)["texts"] == {"train": 216, "validation": 24, "test": 0}
    assert not (folder / run_files.PREDICTIONS).exists()
    assert {entry["split"] for entry in run_files.read_metrics(folder)} == {"train", "validation"}
    with pytest.raises(UserError, match="tests no text"):
        compare_into(tmp_path / "c", {"lstm": small_lstm()}, small_corpus, folds=0)


def test_python_refits_the_best_variant_of_a_comparison(small_corpus, tmp_path):
    """Also of a corpus that is in memory alone."""
    names = [small_corpus.class_names[label] for label in small_corpus.labels]
    corpus = Corpus.from_texts(small_corpus.texts, names)
    best = compare(["linear"], corpus, tmp_path / "c", folds=2, progress=False).best
    final = best.refit(tmp_path / "final", progress=False)
    assert set(final.predict(["a fine film"])) <= {"0", "1"}
    assert "this model itself was not tested" in repr(final)
    assert f"accuracy {best.estimate.mean:.4f}" in repr(final)
    with pytest.raises(UserError, match="nothing is held out to score"):
        final.evaluate(corpus)


def test_the_programs_say_what_stands_for_a_refit(run, compared):
    folder = compared.parent
    out, _ = run("train", "--refit=compared", "--variant=lstm", "--workdir=by_program", cwd=folder)
    assert "this model itself was not tested" in out
    assert "the mean of the 3 run(s) of lstm" in out
    _, err = run("evaluate", "--workdir=by_program", cwd=folder, code=2)
    assert "nothing is held out to score. What stands for it is the mean of the 3 run(s) of lstm" in err
    command = run_files.read_record(folder / "by_program")["command"]
    assert command == "./launch.sh train --refit=compared --variant=lstm --workdir=by_program"
    _, err = run("train", "--refit=compared", "--config=lstm", "--workdir=by_program", cwd=folder)
    assert "is finished already" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--refit=compared", "--config.seed=1"], "--config.seed=1 is given, but a refit has the settings"),
        (["--refit=compared", "--folds=3"], "--folds is given"),
        (["--refit=compared", "--variant=gru"], "has no variant 'gru', expected one of linear, lstm"),
        (["--refit", "--variant=lstm"], "--refit has no value"),
        (["--variant=lstm", "--corpus=x.tsv"], "expected --refit=COMPARISON with it"),
        (["--refit=nowhere"], "nowhere: no plan.json"),
    ],
)
def test_mistakes_of_a_refit_are_named(ask, compared, flags, message):
    code, err, names = ask("train", compared.parent, [*flags, "--workdir=wrong"])
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert "wrong" not in names


def test_all_finished_runs_of_a_variant_predict_together(compared, tmp_path):
    comparison = tmp_path / "compared"
    shutil.copytree(compared, comparison)
    (comparison / "lstm" / "fold1-repeat0" / run_files.RECORD).unlink()  # as if it were not finished
    texts = ["a fine film", "", "two hours of my life"]
    runs = [restore(comparison / "lstm" / f"fold{fold}-repeat0").predict_proba(texts) for fold in (0, 2)]
    together = restore(comparison, "lstm")
    np.testing.assert_allclose(together.predict_proba(texts), np.mean(runs, axis=0), atol=1e-7)
    assert np.abs(runs[0] - runs[1]).max() > 1e-4
    assert (len(together.runs), together.class_names) == (2, ("0", "1"))
    assert together.predict_proba(texts).dtype == np.float32
    path = comparison / "lstm" / "fold2-repeat0" / run_files.CONFIG
    write_json(path, run_files.read_json(path) | {"classes": ["bad", "good"]})
    with pytest.raises(UserError, match="has the classes bad, good, expected 0, 1"):
        restore(comparison, "lstm")


def test_predict_averages_a_variant_of_a_comparison(run, ask, compared):
    (compared.parent / "texts.txt").write_text("a fine film\n", "utf-8")
    flags = ("--workdir=compared", "--input=texts.txt")
    out, err = run("predict", *flags, "--variant=lstm", cwd=compared.parent)
    assert "mean over 3 finished run(s) of lstm" in err
    probability = restore(compared, "lstm").predict_proba(["a fine film"])[0, 1]
    assert f'"1": {float(probability)}' in out
    for more, message in (
        ([], "compared is a comparison of linear, lstm, expected a run of it, such as compared/linear/fold0-repeat0"),
        (["--variant=gru"], "has no variant 'gru', expected one of linear, lstm"),
        (["--variant=lstm", "--explain"], "--explain explains a single run"),
    ):
        code, err, _ = ask("predict", compared.parent, [*flags, *more])
        assert (code, message in err) == (2, True), err


def test_a_damaged_evidence_is_not_shown(final, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(final, folder)
    record = run_files.read_record(folder)
    for evidence in (None, [], {**record["refit"], "epochs": 3}, {**record["refit"], "estimates": {"accuracy": 1}}):
        write_json(folder / run_files.RECORD, record | {"refit": evidence})
        assert "Nothing is known about how well it predicts." in render_card(folder, restore(folder), "")
