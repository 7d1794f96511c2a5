"""Main effects and interactions of settings that were varied together, on predictions with known effects."""

import numpy as np
import pytest

from research.evaluation.outcome import Outcome
from research.reporting.claims import Claims
from research.reporting.effects import estimate_effects, find_grids

TEXTS = 1_000


def make_outcomes(accuracies):
    """Return a run for each accuracy, on a shared test split."""
    ids = np.arange(TEXTS)
    outcomes = []
    for repeat, accuracy in enumerate(accuracies):
        is_right = ids < round(accuracy * TEXTS)
        probabilities = np.stack([~is_right, is_right], axis=1).astype(np.float32)
        outcomes.append(Outcome((repeat, 0), ids, np.ones(TEXTS, np.int32), probabilities))
    return outcomes


def effects_of(cells):
    """Return the effects by name, for variants with the given accuracies of their runs."""
    outcomes = {variant: make_outcomes(accuracies) for variant, accuracies in cells.items()}
    effects = estimate_effects(list(cells), outcomes, Claims(metric="accuracy"), folds=0)
    return {effect.name: effect.estimate for effect in effects}


def test_effects_of_a_two_by_two_design():
    cells = {
        "lstm[model.a=1,model.b=x]": (0.60, 0.62),
        "lstm[model.a=1,model.b=y]": (0.70, 0.71),
        "lstm[model.a=2,model.b=x]": (0.60, 0.61),
        "lstm[model.a=2,model.b=y]": (0.80, 0.82),
    }
    effects = effects_of(cells)
    # (60.5 + 81 - 61 - 70.5) / 2; (70.5 + 81 - 61 - 60.5) / 2; (81 - 60.5) - (70.5 - 61)
    assert {name: estimate.mean for name, estimate in effects.items()} == {
        "lstm: model.a=2 against 1": pytest.approx(0.05),
        "lstm: model.b=y against x": pytest.approx(0.15),
        "lstm: interaction of model.a=2 and model.b=y": pytest.approx(0.11),
    }
    assert all(estimate.low < estimate.mean < estimate.high for estimate in effects.values())


def test_three_settings_and_levels_are_averaged():
    """Accuracy 0.5 + 0.01 i + 0.02 j + 0.03 i j + 0.1 k, so i adds 1 point and 3 more for each step of j."""
    cells = {
        f"cnn[i={i},j={j},k={k}]": (0.5 + 0.01 * i + 0.02 * j + 0.03 * i * j + 0.1 * k,) * 2
        for i in (0, 1)
        for j in (0, 1, 2)
        for k in (0, 1)
    }
    effects = {name: estimate.mean for name, estimate in effects_of(cells).items()}
    assert effects["cnn: i=1 against 0"] == pytest.approx(0.04)
    assert effects["cnn: j=2 against 0"] == pytest.approx(0.07)
    assert effects["cnn: k=1 against 0"] == pytest.approx(0.10)
    assert effects["cnn: interaction of i=1 and j=2"] == pytest.approx(0.06)
    assert effects["cnn: interaction of i=1 and k=1"] == pytest.approx(0.0, abs=1e-9)
    assert len(effects) == 1 + 2 + 1 + 2 + 1 + 2


@pytest.mark.parametrize(
    "names",
    [
        ["lstm", "cnn"],
        ["lstm[a=1,b=1]", "lstm[a=1,b=2]", "lstm[a=2,b=1]"],  # a cell is missing
        ["lstm", "lstm[model.dropout=0]"],  # --drop
    ],
)
def test_names_that_make_no_grid(names):
    assert find_grids(names) == []


def test_levels_may_be_tuples():
    widths = ("(3,4)", "(3,4,5)")
    (grid,) = find_grids([f"cnn[model.widths={width},seed={seed}]" for width in widths for seed in (1, 2)])
    assert grid.levels("model.widths") == ["(3,4)", "(3,4,5)"]
    assert grid.cells["(3,4)", "2"] == "cnn[model.widths=(3,4),seed=2]"


def test_one_run_a_cell_gives_no_effects():
    cells = {f"lstm[a={a},b={b}]": (0.5,) for a in (1, 2) for b in (1, 2)}
    assert effects_of(cells) == {}
