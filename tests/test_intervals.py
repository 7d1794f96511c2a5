"""Intervals and verdicts against their formulas and by simulation."""

import numpy as np
import pytest
from scipy import stats

from research.evaluation.intervals import KAPPA, Estimate, Sample, difference, estimate, interval, mcnemar, verdict
from research.evaluation.metrics import METRICS, bounds_of
from research.evaluation.outcome import Outcome


def outcome(run, correct):
    """Return the outcome of a run on texts of label 1 that it has right where `correct`."""
    probabilities = np.where(np.asarray(correct)[:, None], [0.2, 0.8], [0.8, 0.2]).astype(np.float32)
    ids = np.array([f"{i:06d}" for i in range(len(correct))])
    return Outcome(run, ids, np.ones(len(correct), np.int32), probabilities)


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_lies_within_its_interval_and_its_bounds(metric):
    random = np.random.default_rng(1)
    for classes in (2, 3):
        labels = np.arange(30, dtype=np.int32) % classes
        for sharpness in (-3.0, 0.0, 3.0):  # worse than chance, chance, better
            logits = random.normal(size=(30, classes)) + sharpness * np.eye(classes)[labels]
            p = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
            found = estimate([Outcome((0, 0), np.arange(30).astype(str), labels, p)], metric, folds=0)
            low, high = bounds_of(metric, classes)
            assert low <= found.low <= found.mean <= found.high <= high


def test_no_interval_leaves_the_values_that_a_metric_can_have():
    random = np.random.default_rng(0)
    for classes, most in ((2, 1.0), (3, 2.0)):
        wrong = np.eye(classes, dtype=np.float32)[random.integers(1, classes, 6)]
        ids, labels = np.array([f"{i}" for i in range(6)]), np.array([0, 0, 0, 0, 1, 1], np.int32)
        runs = [Outcome((repeat, 0), ids, labels, np.roll(wrong, repeat, axis=0)) for repeat in range(2)]
        found = estimate(runs, "brier", folds=0)
        assert 0 <= found.low <= found.mean <= found.high == most
        others = [run._replace(probabilities=1 - run.probabilities) for run in runs]
        gap = difference(runs, others, "brier", folds=0)
        assert -most <= gap.low <= gap.mean <= gap.high <= most


def runs_of(accuracies, count=100):
    return [outcome((0, fold), np.arange(count) < round(a * count)) for fold, a in enumerate(accuracies)]


def correct_by_text(random, runs, count, run_sd=0.03):
    """bool [runs, count]: texts differ in difficulty, runs in luck, and each run in each text."""
    difficulty = random.normal(0.9, 1.0, count)
    return difficulty + random.normal(0, run_sd, (runs, 1)) + random.normal(0, 0.6, (runs, count)) > 0


def holds(half, shared, least, seen, runs, texts):
    """How often +-half holds: t times the root of A + max(w / J, (J - 1) s^2 / (J X)), drawn 400,000 times."""
    random = np.random.default_rng(0)
    variance = shared + np.maximum(least, seen * (runs - 1) / random.chisquare(runs - 1, 400_000))
    return np.mean(np.abs(random.standard_t(texts - 1, 400_000)) * np.sqrt(variance) < half)


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_a_fixed_split_has_the_variance_components_of_the_crossed_design(level):
    """w is the mean square of the run x text residual, v_texts that of the texts."""
    correct = correct_by_text(np.random.default_rng(0), 5, 200, run_sd=0.3)
    found = estimate([outcome((r, 0), row) for r, row in enumerate(correct)], "accuracy", folds=0, level=level)
    y = correct.astype(float)
    rows, columns = y.mean(axis=1), y.mean(axis=0)
    of_texts = 5 * np.sum((columns - y.mean()) ** 2) / 199
    residual = np.sum((y - rows[:, None] - columns[None, :] + y.mean()) ** 2) / (4 * 199)
    assert (found.low + found.high) / 2 == pytest.approx(y.mean())
    half = (found.high - found.low) / 2
    held = holds(half, (of_texts - residual) / 1000 + 1 / 200**2, residual / 1000, rows.var(ddof=1) / 5, 5, 200)
    assert held == pytest.approx(level, abs=0.002)


@pytest.mark.parametrize("repeats", [1, 3])
def test_cross_validation_against_its_formula(repeats):
    random = np.random.default_rng(1)
    count, folds = 100, 5
    values, outcomes = np.zeros((repeats, count)), []
    fold_means, within = [], []
    for repeat in range(repeats):
        fold_of = random.permutation(np.arange(count) % folds)
        for fold in range(folds):
            texts = np.flatnonzero(fold_of == fold)
            correct = random.random(len(texts)) < 0.3 + 0.1 * fold
            values[repeat, texts] = correct
            ids = np.array([f"{i:06d}" for i in texts])
            outcomes.append(outcome((repeat, fold), correct)._replace(id=ids))
            fold_means.append(correct.mean())
            within.append(correct.var(ddof=1) / len(texts))
    runs = repeats * folds
    least = np.mean(within) / runs
    found = estimate(outcomes, "accuracy", folds=folds)
    assert (found.low + found.high) / 2 == pytest.approx(np.mean(fold_means))
    hidden = KAPPA * np.mean(within) / folds  # does not shrink with repeats
    shared = values.mean(axis=0).var(ddof=1) / count + 1 / count**2 - least + hidden
    half = (found.high - found.low) / 2
    assert holds(half, shared, least, np.var(fold_means, ddof=1) / runs, runs, count) == pytest.approx(0.95, abs=0.002)


def test_without_variance_of_texts_the_interval_is_students():
    """Texts contribute almost nothing and runs differ by 5 points: t with J - 1 degrees of freedom."""
    scores = np.array([0.7, 0.75, 0.8, 0.72, 0.78])
    found = interval(Sample(scores, np.zeros(10_000), 0.0, (0.0, 1.0)), level=0.99)
    expected = stats.t.interval(0.99, 4, scores.mean(), stats.sem(scores))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-3)


@pytest.mark.extra
def test_where_luck_weighs_as_much_as_texts_few_runs_do_not_deceive():
    """The variance of 5 scores is five times the part that texts explain; the level is that of one pair of six.

    0.8 % of 2,000 is 17. Satterthwaite's degrees of freedom for s^2 - w would err several times as often.
    """
    random, texts, level = np.random.default_rng(0), 1_000, 1 - 0.05 / 6
    of_texts = np.where(np.arange(texts) % 2, 0.5, -0.5)
    explained = 5 * of_texts.var(ddof=1) / texts
    scores = random.normal(0, np.sqrt(5 * explained), (2_000, 5))
    found = [interval(Sample(row, of_texts, explained, (-1.0, 1.0)), level=level) for row in scores]
    assert sum(f.low > 0 or f.high < 0 for f in found) <= 30


def test_two_seeds_of_one_procedure_are_seldom_called_different_though_their_folds_differ():
    """`--vary=seed=1,2` compares them like this: texts are paired and folds are not."""
    random = np.random.default_rng(0)
    count, folds, wrong = 200, 5, 0
    for _ in range(200):
        difficulty = random.normal(0.9, 1.0, count)
        sides = []
        for _ in range(2):
            fold_of = random.permutation(np.arange(count) % folds)
            side = []
            for fold in range(folds):
                texts = np.flatnonzero(fold_of == fold)
                right = difficulty[texts] + random.normal(0, 0.2) + random.normal(0, 0.6, len(texts)) > 0
                side.append(outcome((0, fold), right)._replace(id=np.array([f"{i:06d}" for i in texts])))
            sides.append(side)
        found = difference(*sides, "accuracy", folds=folds)
        wrong += found.low > 0 or found.high < 0
    assert wrong <= 20


def test_mcnemar_is_the_binomial_test_of_the_texts_that_only_one_has_right():
    random = np.random.default_rng(0)
    a, b = outcome((0, 0), random.random(300) < 0.8), outcome((0, 0), random.random(300) < 0.7)
    right = [o.probabilities.argmax(axis=1) == o.label for o in (a, b)]
    counts = int(np.sum(right[0] & ~right[1])), int(np.sum(~right[0] & right[1]))
    only_a, only_b, p = mcnemar(a, b)
    assert (only_a, only_b) == counts
    assert p == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue)
    assert mcnemar(b, a) == (only_b, only_a, p)
    assert mcnemar(a, a) == (0, 0, 1.0)


@pytest.mark.parametrize("folds", [0, 5])
def test_texts_of_one_group_are_no_independent_evidence(folds):
    """Groups of 20 texts that each variant finds easy or hard together: two equal ones are seldom called different."""
    random, wrong = np.random.default_rng(0), {True: 0, False: 0}
    group = np.repeat(np.arange(40), 20)
    for _ in range(150):
        fold_of = (random.permutation(40) % folds)[group] if folds else None
        sides = []
        for _ in range(2):
            easy = 0.9 + random.normal(0, 0.7, 40)[group]
            side = []
            for run in range(5):
                texts = np.flatnonzero(fold_of == run) if folds else np.arange(800)
                right = easy[texts] + random.normal(0, 1, len(texts)) > 0
                key = (0, run) if folds else (run, 0)
                ids = np.array([f"{i:06d}" for i in texts])
                side.append(outcome(key, right)._replace(id=ids, group=group[texts]))
            sides.append(side)
        for grouped in (True, False):
            runs = sides if grouped else [[o._replace(group=None) for o in side] for side in sides]
            found = difference(*runs, "accuracy", folds=folds)
            wrong[grouped] += found.low > 0 or found.high < 0
    assert wrong[True] <= 15
    assert wrong[False] > wrong[True]


def test_one_run_each_decides_nothing():
    correct = correct_by_text(np.random.default_rng(0), 1, 400)[0]
    a, b = [outcome((0, 0), correct)], [outcome((0, 0), correct & (np.arange(400) % 2 == 0))]
    found = difference(a, b, "accuracy", folds=0)
    assert found.mean > 0.2
    assert (found.low, found.high) == (-1.0, 1.0)
    assert verdict(found, 0.01) == ("undecided", False)
    one, other = [outcome((0, 0), np.array([True]))], [outcome((0, 0), np.array([False]))]
    assert difference(one, other, "accuracy", folds=0) == Estimate(1.0, -1.0, 1.0)


def test_few_texts_that_agree_do_not_make_two_models_equivalent():
    """Both have all texts right, with different probabilities: this says nothing about other texts."""
    right = np.ones(20, bool)
    a = [outcome((r, 0), right) for r in range(3)]
    b = [o._replace(probabilities=o.probabilities * 0.9 + 0.05) for o in a]
    found = difference(a, b, "accuracy", folds=0)
    assert found.mean == 0
    assert found.high > 0.05
    assert estimate(a, "accuracy", folds=0).high == 1.0
    assert estimate(a, "accuracy", folds=0).low < 0.95


def test_near_the_bounds_the_intervals_hold():
    """Two models without luck, which have 99 % and 96 % of 50 texts right."""
    random, held, equivalent = np.random.default_rng(0), 0, 0
    for _ in range(300):
        a, b = ([outcome((r, 0), right) for r in range(5)] for right in (random.random((2, 50)) < [[0.99], [0.96]]))
        b = [o._replace(probabilities=o.probabilities * 0.9 + 0.05) for o in b]
        found = difference(a, b, "accuracy", folds=0)
        held += found.low <= 0.03 <= found.high
        equivalent += verdict(found, 0.01)[0] == "equivalent"
    assert held >= 0.93 * 300
    assert not equivalent


def test_a_metric_that_is_not_defined_has_no_interval():
    """A fold with one class has no AUROC; the other metrics are unaffected."""
    outcomes = [outcome((0, fold), np.arange(6) < 4)._replace(label=np.full(6, fold, np.int32)) for fold in (0, 1)]
    for metric in METRICS:
        found = estimate(outcomes, metric, folds=2)
        assert np.isfinite(found.low) == (metric != "auroc"), metric
    single = estimate([outcome((0, 0), np.array([True]))], "macro_f1", folds=0)
    assert np.isfinite(single.mean)


def test_a_single_run_has_the_interval_of_its_texts():
    """The normal interval of a proportion: the article's 79.21 % of 380 is +-4.1 points."""
    found = estimate(runs_of([0.7921], count=380), "accuracy", folds=0)
    half = 1.96 * np.sqrt(0.7921 * 0.2079 / 380)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.02)
    assert half == pytest.approx(0.0408, abs=1e-4)


def test_identical_predictions_differ_by_nothing():
    same = runs_of([0.7, 0.8])
    found = difference(same, same, "accuracy", folds=2)
    assert found == Estimate(0.0, 0.0, 0.0)
    assert verdict(found, 0.01) == ("equivalent", False)


def test_differences_pair_the_runs_that_both_have():
    a, b = runs_of([0.8, 0.7, 0.9]), runs_of([0.7, 0.65])
    assert difference(a, b, "accuracy", folds=3).mean == pytest.approx(0.075)
    assert difference(a[2:], b, "accuracy", folds=3) is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.011, 0.03, ("better", False)),
        (0.001, 0.03, ("better", False)),
        (0.001, 0.009, ("better", True)),
        (-0.03, -0.001, ("worse", False)),
        (-0.009, -0.001, ("worse", True)),
        (-0.009, 0.009, ("equivalent", False)),
        (-0.02, 0.009, ("undecided", False)),
    ],
)
def test_verdicts(low, high, expected):
    assert verdict(Estimate((low + high) / 2, low, high), 0.01) == expected


@pytest.mark.parametrize("run_sd", [0.0, 0.15])
def test_on_a_fixed_test_split_equal_procedures_are_seldom_called_different(run_sd):
    """200 comparisons of two names for one procedure; 5 % may err, 10 % would be a fault."""
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        correct = correct_by_text(random, 10, 300, run_sd)
        sides = [[outcome((r, 0), row) for r, row in enumerate(side)] for side in (correct[:5], correct[5:])]
        found = difference(*sides, "accuracy", folds=0)
        wrong += found.low > 0 or found.high < 0
    assert wrong <= 20
