"""Plans keep their promises: what is detectable is detected, and what is required decides a pair."""

import numpy as np
import pytest

from research.evaluation.intervals import Estimate, interval, make_sample
from research.evaluation.planning import detectable_difference, required_amounts, typical_spread
from research.evaluation.spread import Spread, half_width

SPREAD = Spread(texts=0.2, explained=0.0, runs=0.01**2)
PLAN = {"texts": 1000, "repeats": 5, "folds": 0, "level": 0.95}


def half(texts=1000, repeats=5, spread=SPREAD):
    return half_width(spread, texts=texts, runs=repeats, level=0.95)


def test_a_detectable_difference_is_detected_four_times_in_five():
    """Runs and texts of a known spread on a fixed split, shifted by the detectable difference."""
    random, texts, runs = np.random.default_rng(0), 200, 5
    shift = detectable_difference(SPREAD, texts=texts, repeats=runs, folds=0, level=0.95)
    ids = [np.arange(texts)] * runs
    detected = 0
    for _ in range(300):
        differences = random.normal(shift, np.sqrt(SPREAD.texts), texts)
        values = [differences + random.normal(0, np.sqrt(SPREAD.runs)) for _ in range(runs)]
        scores = np.array([run.mean() for run in values])
        sample = make_sample(scores, values, ids, folds=0, bounds=(-1.0, 1.0))
        detected += interval(sample, level=0.95).low > 0
    assert 0.72 < detected / 300 < 0.88


@pytest.mark.parametrize("folds", [0, 5])
def test_more_repeats_and_more_texts_detect_smaller_differences(folds):
    def least(texts, repeats):
        return detectable_difference(typical_spread(folds), texts=texts, repeats=repeats, folds=folds, level=0.95)

    assert least(2000, 10) < least(2000, 5) < least(1000, 5)


def test_the_required_amounts_decide_an_undecided_pair_and_less_does_not():
    undecided = Estimate(0.028, 0.028 - half(), 0.028 + half())
    assert undecided.low < 0
    amounts = required_amounts(undecided, SPREAD, **PLAN, margin=0.01)
    assert half(repeats=amounts.repeats) < 0.028 <= half(repeats=amounts.repeats - 1)
    assert half(texts=amounts.texts) < 0.028 <= half(texts=amounts.texts - 1)
    assert amounts.times_both is None


def test_if_neither_repeats_nor_texts_decide_alone_both_are_multiplied():
    amounts = required_amounts(Estimate(0.001, -0.02, 0.022), SPREAD, **PLAN, margin=0.0001)
    assert amounts.repeats is amounts.texts is None
    assert half(1000 * amounts.times_both, 5 * amounts.times_both) < 0.001


def test_two_equal_variants_need_texts_that_show_their_equivalence():
    spread = Spread(0.2, 0.0, 0.0)
    amounts = required_amounts(Estimate(0.0, -0.03, 0.03), spread, **PLAN, margin=0.01)
    assert half(texts=amounts.texts, spread=spread) <= 0.01
