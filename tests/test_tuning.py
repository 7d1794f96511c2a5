"""Tuning: every variant has the same number of trials, each fold chooses alone, and no trial reads test texts."""

import itertools
import json

import numpy as np
import pytest

from experiments.variants import load_config, space_of
from research.comparison.plan import Variant
from research.comparison.tuning import SearchedVariant, SearchSpec, chosen_settings, draw, expected_best, tune
from research.errors import UserError
from tests.comparing import compare_into
from tests.variant_cases import contract_variants

pytestmark = pytest.mark.usefixtures("no_plots")


def test_trials_fill_the_space_and_more_trials_begin_with_the_same_ones():
    space = {"a": ("log", 1e-4, 1e-1), "b": ("uniform", 10, 20), "c": ("choice", "x", "y")}
    few, many = draw(space, 5, seed=1), draw(space, 64, seed=1)
    assert many[:5] == few
    assert draw(space, 5, seed=2) != few
    values = {name: [trial[name] for trial in many] for name in space}
    assert all(1e-4 <= a <= 1e-1 for a in values["a"])
    assert 24 <= sum(a < 10**-2.5 for a in values["a"]) <= 40  # half of them below the geometric middle
    assert all(isinstance(b, int) and 10 <= b <= 20 for b in values["b"])
    assert 24 <= values["c"].count("x") <= 40
    with pytest.raises(UserError, match="expected \\('log' or 'uniform', low, high\\)"):
        draw({"a": ("normal", 0, 1)}, 2, seed=0)


@pytest.mark.parametrize("name", contract_variants())
def test_every_space_makes_configs(name):
    for settings in draw(space_of(name), 4, seed=0):
        load_config(name, [f"--config.{field}={value}" for field, value in settings.items()])


def test_the_expected_best_is_the_mean_over_all_draws():
    scores = np.array([0.7, 0.9, 0.6, 0.8])
    for k in (1, 2, 3):
        brute = np.mean([max(drawn) for drawn in itertools.product(scores, repeat=k)])
        assert expected_best(scores)[k - 1] == pytest.approx(brute)


def searched_variant(name):
    fast = ["--config.training.epochs=4"]

    def make(settings):
        return load_config(name, [*fast, *(f"--config.{field}={value}" for field, value in settings.items())])

    return SearchedVariant(name, space_of(name), make)


def test_a_search_reads_no_test_texts_and_its_choice_is_used(small_corpus, tmp_path):
    folder = tmp_path / "search"
    search = tune(SearchSpec([searched_variant("linear")], small_corpus, trials=3, folds=2), folder)
    assert len(list(folder.glob("linear/trial*/fold*/record.json"))) == 6
    assert not list(folder.glob("**/predictions.npz"))
    for metrics in folder.glob("**/metrics.jsonl"):
        assert "test" not in {json.loads(line)["split"] for line in metrics.read_text().splitlines()}
    entry = search["variants"]["linear"]
    assert all(len(accuracies) == 3 for accuracies in entry["validation_accuracy"].values())
    assert entry["chosen"] == {run: int(np.argmax(scores)) for run, scores in entry["validation_score"].items()}
    # With few validation texts, the score is the negative log loss.
    assert all(score < 0 for scores in entry["validation_score"].values() for score in scores)

    chosen = chosen_settings(folder, "linear", small_corpus, 2)
    configs = {run: (searched_variant("linear").make(settings), ()) for run, settings in chosen.items()}
    variant = Variant("linear", load_config("linear"), (), configs)
    out = compare_into(tmp_path / "out", [variant], small_corpus, folds=2)
    for run, settings in chosen.items():
        used = json.loads((out / "linear" / run / "config.json").read_text())["settings"]
        assert used["training"]["l2"] == settings["training.l2"]
    with pytest.raises(UserError, match="was not tuned for repeat 1: call tune with repeats=2"):
        compare_into(tmp_path / "out", [variant], small_corpus, folds=2, repeats=2)

    before = {path: path.stat().st_mtime_ns for path in folder.glob("**/record.json")}
    longer = tune(SearchSpec([searched_variant("linear")], small_corpus, trials=4, folds=2), folder)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert longer["variants"]["linear"]["settings"][:3] == entry["settings"]
    with pytest.raises(UserError, match="holds another search, expected one on this corpus"):
        tune(SearchSpec([searched_variant("linear")], small_corpus, trials=3, folds=3), folder)
    with pytest.raises(UserError, match=r"trials is 8, expected 4, as .* has of linear, or linear in variants"):
        tune(SearchSpec([searched_variant("mlp")], small_corpus, trials=8, folds=2), folder)
    with pytest.raises(UserError, match="has no lstm, expected one of linear"):
        chosen_settings(folder, "lstm", small_corpus, 2)
