"""The level of simultaneous intervals against quadrature and brute force, and where intervals are missing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from research.evaluation.intervals import Sample, interval, spread_of
from research.evaluation.simultaneous import correlate_runs, correlate_texts, simultaneous_level
from research.evaluation.spread import half_width

BOUNDS = (-1.0, 1.0)


def family(variants, runs, *, run_sd, baseline_sd=None, texts=2_000, seed=0):
    """The differences of variants from a baseline, whose runs have a luck of their own."""
    random = np.random.default_rng(seed)
    sds = np.array([run_sd if baseline_sd is None else baseline_sd] + [run_sd] * (variants - 1))
    luck = random.normal(size=(variants, runs)) * sds[:, None]
    values = random.normal(0, 0.4, (variants, texts))
    return [Sample(luck[v] - luck[0], values[v] - values[0], 0.0, BOUNDS) for v in range(1, variants)]


def dunnett_level(count, correlation, level):
    """The level of each of `count` equally correlated normal intervals, by quadrature over what they share."""

    def all_hold(z, common):
        inside = [stats.norm.cdf((np.sqrt(correlation) * common + s * z) / np.sqrt(1 - correlation)) for s in (1, -1)]
        return stats.norm.pdf(common) * (inside[0] - inside[1]) ** count

    def excess(z):
        return integrate.quad(lambda common: all_hold(z, common), -8, 8)[0] - level

    return 2 * stats.norm.cdf(optimize.brentq(excess, 1, 5)) - 1


@pytest.mark.parametrize("variants", [3, 8, 28])
def test_where_texts_decide_the_level_is_dunnetts(variants):
    """Differences from a baseline whose texts vary like those of the others have a correlation of 1/2."""
    found = simultaneous_level(family(variants, 5, run_sd=1e-9, texts=20_000), 0.95)
    expected = dunnett_level(variants - 1, 0.5, 0.95)
    assert (1 - found) / (1 - expected) == pytest.approx(1, abs=0.06)


def test_uncorrelated_intervals_have_sidaks_level_and_equal_ones_need_no_allowance():
    random = np.random.default_rng(0)
    alone = [Sample(np.zeros(5), random.normal(0, 0.4, 50_000), 0.0, BOUNDS) for _ in range(10)]
    assert 1 - simultaneous_level(alone, 0.95) == pytest.approx(1 - 0.95 ** (1 / 10), rel=0.03)
    assert simultaneous_level([alone[0]] * 10, 0.95) == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize("baseline_sd", [0.01, 0.03])
def test_the_intervals_hold_together_as_often_as_they_should(baseline_sd):
    """Errors are drawn one by one as `intervals` describes them, with the same correlations and other numbers."""
    samples = family(6, 5, run_sd=0.01, baseline_sd=baseline_sd)
    level = simultaneous_level(samples, 0.95)
    spreads = [spread_of(sample) for sample in samples]
    halves = [half_width(spread, texts=2_000, runs=5, level=level) for spread in spreads]
    shared = np.array([spread.texts / 2_000 for spread in spreads])
    observed = np.array([spread.runs / 5 for spread in spreads])
    of_runs, of_texts = correlate_runs(samples), correlate_texts(samples)
    covariance = of_runs * np.sqrt(np.outer(observed, observed)) + of_texts * np.sqrt(np.outer(shared, shared))
    correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    random, held = np.random.default_rng(1), 0
    for _ in range(10_000):
        chi_squared = np.sum(random.multivariate_normal(np.zeros(5), of_runs, 4, method="eigh") ** 2, axis=0)
        errors = random.multivariate_normal(np.zeros(5), correlation, method="eigh")
        held += np.all(np.abs(errors) * np.sqrt(shared + observed * 4 / chi_squared) < halves)
    assert held / 10_000 == pytest.approx(0.95, abs=0.008)


def test_an_unstable_baseline_makes_intervals_alike():
    stable, unstable = (family(8, 5, run_sd=0.003, baseline_sd=sd) for sd in (0.003, 0.03))
    assert simultaneous_level(unstable, 0.95) < simultaneous_level(stable, 0.95)
    assert correlate_runs(unstable).min() > 0.9


def test_few_runs_that_seem_correlated_by_chance_are_not_believed():
    random = np.random.default_rng(0)
    samples = [Sample(random.normal(size=5), np.zeros(100), 0.0, BOUNDS) for _ in range(20)]
    observed = np.corrcoef([sample.scores for sample in samples])
    off_diagonal = ~np.eye(20, dtype=bool)
    assert np.sum(correlate_runs(samples)[off_diagonal] ** 2) < 0.2 * np.sum(observed[off_diagonal] ** 2)


@pytest.mark.parametrize("runs", [2, 3])
def test_two_or_three_runs_show_no_correlation(runs):
    """Two scores always have a correlation of 1 or -1. Where luck decides, the level is then Sidak's."""
    samples = family(3, runs, run_sd=0.01)
    assert correlate_runs(samples) == pytest.approx(np.eye(2))
    alike = [sample._replace(text_means=np.zeros(2_000)) for sample in samples]
    assert 1 - simultaneous_level(alike, 0.95) == pytest.approx(1 - 0.95 ** (1 / 2), rel=0.03)


def test_what_cannot_fail_keeps_its_share():
    samples = family(6, 5, run_sd=0.01)
    together = simultaneous_level(samples, 0.95)
    assert simultaneous_level(samples[:1], 0.95) == pytest.approx(0.95)
    assert simultaneous_level([], 0.95, planned=4) == pytest.approx(1 - 0.05 / 4)
    without_influence = [
        samples[0]._replace(is_identical=True),
        samples[0]._replace(text_means=np.full(2_000, np.nan)),
        samples[0]._replace(scores=samples[0].scores[:1]),
    ]
    for other in without_influence:
        assert simultaneous_level([*samples, other], 0.95) == simultaneous_level(samples, 0.95, planned=6) > together
    assert simultaneous_level([samples[0], *without_influence], 0.95) == pytest.approx(1 - 0.05 / 4)


def test_runs_and_texts_are_matched_by_their_ids():
    samples = [s._replace(runs=[(0, r) for r in range(8)], texts=np.arange(2_000)) for s in family(3, 8, run_sd=0.01)]
    whole = simultaneous_level(samples, 0.95)
    order = np.random.default_rng(0).permutation(8)
    moved = samples[1]._replace(scores=samples[1].scores[order], runs=[samples[1].runs[i] for i in order])
    assert simultaneous_level([samples[0], moved], 0.95) == pytest.approx(whole)
    fewer = samples[1]._replace(
        scores=samples[1].scores[:3],
        runs=samples[1].runs[:3],
        texts=samples[1].texts[::2],
        text_means=samples[1].text_means[::2],
    )
    assert abs(correlate_texts([samples[0], fewer])[0, 1]) < 0.75 * correlate_texts(samples)[0, 1]
    assert whole < simultaneous_level([samples[0], fewer], 0.95) <= 0.975


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 9), st.integers(2, 6)),
    sds=st.tuples(st.floats(0, 0.1), st.floats(0, 0.1)),
    explained=st.floats(0, 0.01),
    folds=st.sampled_from([0, 5]),
    level=st.floats(0.5, 0.999),
    seed=st.integers(0, 1_000),
)
def test_the_level_lies_between_that_of_one_interval_and_bonferronis(shape, sds, explained, folds, level, seed):
    variants, runs = shape
    samples = family(variants, runs, run_sd=sds[0], baseline_sd=sds[1], texts=30, seed=seed)
    samples = [sample._replace(explained=explained, folds=folds) for sample in samples]
    found = simultaneous_level(samples, level)
    assert level - 1e-9 <= found <= 1 - (1 - level) / len(samples) + 1e-9
    assert found == simultaneous_level(samples, level)
    assert all(np.isfinite(interval(sample, level=found)).all() for sample in samples)
