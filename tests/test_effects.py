"""Main effects and interactions of settings varied together, where the truth is planted."""

import numpy as np
import pytest

from research.evaluation.intervals import Outcome
from research.reporting.claims import Claims
from research.reporting.effects import effects_table, grids
from research.reporting.results import Results

TEXTS = 1_000


def outcomes(accuracies):
    """A run for each accuracy, on a shared test split."""
    ids = np.arange(TEXTS)
    listed = []
    for repeat, accuracy in enumerate(accuracies):
        right = ids < round(accuracy * TEXTS)
        probabilities = np.stack([~right, right], axis=1).astype(np.float32)
        listed.append(Outcome((repeat, 0), ids, np.ones(TEXTS, np.int32), probabilities))
    return listed


def results(cells):
    by_name = {name: outcomes(accuracies) for name, accuracies in cells.items()}
    plan = {"variants": {name: {} for name in cells}, "folds": 0, "repeats": 2}
    return Results(plan, Claims(metric="accuracy"), [], {}, [], None, {}, by_name, {})


def test_effects_of_a_two_by_two_design():
    cells = {
        "lstm[model.a=1,model.b=x]": (0.60, 0.62),
        "lstm[model.a=1,model.b=y]": (0.70, 0.71),
        "lstm[model.a=2,model.b=x]": (0.60, 0.61),
        "lstm[model.a=2,model.b=y]": (0.80, 0.82),
    }
    rows = {name: (effect, spread) for name, effect, spread in effects_table(results(cells)).rows}
    effects = {name: effect for name, (effect, _) in rows.items()}
    # (60.5 + 81 - 61 - 70.5) / 2; (70.5 + 81 - 61 - 60.5) / 2; (81 - 60.5) - (70.5 - 61)
    assert effects == {
        "lstm: model.a=2 against 1": "+5.0",
        "lstm: model.b=y against x": "+15.0",
        "lstm: interaction of model.a=2 and model.b=y": "+11.0",
    }
    assert all(spread.startswith("[") for _, spread in rows.values())


def test_three_settings_and_levels_are_averaged():
    """Accuracy 0.5 + 0.01 i + 0.02 j + 0.03 i j + 0.1 k, so what i does is 1 point and 3 more a step of j."""
    cells = {
        f"cnn[i={i},j={j},k={k}]": (0.5 + 0.01 * i + 0.02 * j + 0.03 * i * j + 0.1 * k,) * 2
        for i in (0, 1)
        for j in (0, 1, 2)
        for k in (0, 1)
    }
    effects = {name: effect for name, effect, _ in effects_table(results(cells)).rows}
    assert effects["cnn: i=1 against 0"] == "+4.0"
    assert effects["cnn: j=2 against 0"] == "+7.0"
    assert effects["cnn: k=1 against 0"] == "+10.0"
    assert effects["cnn: interaction of i=1 and j=2"] == "+6.0"
    assert effects["cnn: interaction of i=1 and k=1"] in ("+0.0", "-0.0")
    assert len(effects) == 1 + 2 + 1 + 2 + 1 + 2


@pytest.mark.parametrize(
    "names",
    [
        ["lstm", "cnn"],
        ["lstm[a=1,b=1]", "lstm[a=1,b=2]", "lstm[a=2,b=1]"],  # a cell lacks
        ["lstm", "lstm[model.dropout=0]"],  # --drop
    ],
)
def test_what_is_no_grid(names):
    assert grids(names) == []


def test_levels_may_be_tuples():
    widths = ("(3,4)", "(3,4,5)")
    (grid,) = grids([f"cnn[model.widths={width},seed={seed}]" for width in widths for seed in (1, 2)])
    assert grid.levels("model.widths") == ["(3,4)", "(3,4,5)"]
    assert grid.cells["(3,4)", "2"] == "cnn[model.widths=(3,4),seed=2]"


def test_one_run_a_cell_says_nothing():
    cells = {f"lstm[a={a},b={b}]": (0.5,) for a in (1, 2) for b in (1, 2)}
    assert effects_table(results(cells)).rows == []
