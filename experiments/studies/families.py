"""Simulate comparisons of several variants: how often do all intervals of a table hold, and each of them?

A run has a text right if b + text + variant x text + hidden + run + run x text > 0. Each part is normal with a spread
of its own, and b is the threshold of the variant. *Hidden* is the luck of a variant with the training texts that all
folds and repeats of one comparison share.

The runs are drawn as arrays and turned into `Sample`s directly. A test shows that these are the `Sample`s of the same
runs as `Outcome`s. From there on, levels and intervals are those of a report.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy import stats

from research.evaluation.intervals import Sample, difference_interval
from research.evaluation.simultaneous import simultaneous_level

_TEXT_SD, _VARIANT_SD, _RUN_TEXT_SD = 1.0, 0.5, 0.6
_ACCURACY = 0.78
_WORSE_BY = (0.0, 0.01, 0.03)  # the variants in turn
_LEVEL = 0.95


class Family(NamedTuple):
    """One kind of comparison of V variants, the first of which is the baseline."""

    texts: int
    folds: int  # 0 for a fixed test split
    repeats: int
    run_sds: tuple[float, ...]  # of each variant's accuracy over runs; a fraction
    hidden_sd: float = 0.0  # of a difference of two accuracies over corpora, beyond their test texts; a fraction
    all_pairs: bool = False

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The compared variants (a, b)."""
        variants = range(len(self.run_sds))
        return list(itertools.combinations(variants, 2)) if self.all_pairs else [(v, 0) for v in variants[1:]]

    @property
    def accuracies(self) -> np.ndarray:
        """The expected accuracy of each variant, float [V]."""
        return _ACCURACY - np.resize(_WORSE_BY, len(self.run_sds))


class FamilyTally(NamedTuple):
    """The shares and means over the simulated comparisons of a family."""

    together: float  # all intervals contain the true difference
    worst: float  # the lowest share of one pair's intervals that do; pairs with equal standard deviations count as one
    worst_count: int  # the number of intervals behind it
    nominal: float  # the mean level of one interval
    half: float  # the mean half length of the intervals


def simulate_family(family: Family, comparisons: int, seed: int) -> FamilyTally:
    """Simulate comparisons and count how often their intervals hold."""
    random = np.random.default_rng(seed)
    truth = np.array([family.accuracies[a] - family.accuracies[b] for a, b in family.pairs])
    held, levels, halves = [], [], []
    for _ in range(comparisons):
        samples = make_samples(family, *draw_runs(family, random))
        levels.append(simultaneous_level(samples, _LEVEL))
        estimates = np.array([difference_interval(sample, level=levels[-1]) for sample in samples])
        held.append((estimates[:, 1] <= truth) & (truth <= estimates[:, 2]))
        halves.append(np.mean(estimates[:, 2] - estimates[:, 1]) / 2)
    of_kind: dict[tuple[float, ...], list[np.ndarray]] = {}
    for pair, of_pair in zip(family.pairs, np.transpose(held), strict=True):
        of_kind.setdefault(tuple(family.run_sds[variant] for variant in pair), []).append(of_pair)
    worst = min(of_kind.values(), key=np.mean)
    together = float(np.all(held, axis=1).mean())
    return FamilyTally(together, float(np.mean(worst)), np.size(worst), float(np.mean(levels)), float(np.mean(halves)))


def draw_runs(family: Family, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return which texts the runs have right, bool [V, R, N], and the folds that tested them, int [R, N]."""
    variants, repeats, texts = len(family.run_sds), family.repeats, family.texts
    folds = max(family.folds, 1)
    other_sd = np.sqrt(_TEXT_SD**2 + _VARIANT_SD**2 + _RUN_TEXT_SD**2)
    slope = stats.norm.pdf(stats.norm.ppf(_ACCURACY))  # change of accuracy for a shift by the total spread
    run_share, hidden_share = np.array(family.run_sds) / slope, family.hidden_sd / np.sqrt(2) / slope
    total_sd = other_sd / np.sqrt(1 - run_share**2 - hidden_share**2)
    hidden = random.normal(size=variants) * hidden_share * total_sd
    luck = random.normal(size=(variants, repeats, folds)) * (run_share * total_sd)[:, None, None]
    of_variant = (total_sd * stats.norm.ppf(family.accuracies) + hidden)[:, None].astype(np.float32)
    of_variant = of_variant + np.float32(_TEXT_SD) * random.standard_normal(texts, np.float32)
    of_variant += np.float32(_VARIANT_SD) * random.standard_normal((variants, texts), np.float32)
    fold_of = np.stack([random.permutation(texts) % folds for _ in range(repeats)])
    right = np.float32(_RUN_TEXT_SD) * random.standard_normal((variants, repeats, texts), np.float32)
    right += of_variant[:, None]
    for repeat, of_repeat in enumerate(fold_of):
        right[:, repeat] += luck[:, repeat].astype(np.float32)[:, of_repeat]
    return right > 0, fold_of


def make_samples(family: Family, right: np.ndarray, fold_of: np.ndarray) -> list[Sample]:
    """Return the sample of each pair's difference, from what `draw_runs` returns."""
    repeats, texts = fold_of.shape
    folds = max(family.folds, 1)
    of_text = right.mean(axis=1)
    run_of = (fold_of + folds * np.arange(repeats)[:, None]).ravel()
    sizes = np.bincount(run_of)
    scores = np.stack([np.bincount(run_of, of_variant.ravel()) / sizes for of_variant in right])
    samples = []
    for a, b in family.pairs:
        values = scores[a] - scores[b]
        means = of_text[a] - of_text[b]
        # The values of single texts are -1, 0 and 1, so the sum of their squares counts where the variants differ.
        squares = np.bincount(run_of, (right[a] != right[b]).ravel())
        if family.folds:
            explained = float(np.mean((squares - sizes * values**2) / (sizes - 1) / sizes))
        else:
            residual = squares.sum() - texts * np.sum(values**2) - repeats * np.sum((means - means.mean()) ** 2)
            explained = float(residual / (max(repeats - 1, 1) * (texts - 1)) / texts)
        samples.append(Sample(values, means, explained, (-1.0, 1.0), folds=family.folds))
    return samples
