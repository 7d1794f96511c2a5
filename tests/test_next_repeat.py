"""`--until=decided` adds repeats only where they may decide, within a number of repeats and of minutes."""

import json

import numpy as np
import pytest

from research.data.corpora import Corpus
from research.errors import UserError
from research.reporting.claims import Claims
from research.runs.plan_file import read_plan, repeats_of
from tests.comparing import compare_into

pytestmark = pytest.mark.usefixtures("no_plots")


class Wrong:
    """A model that knows the labels of texts and errs in a share of them, by chance."""

    def __init__(self, share, other_draws=0):
        self.share, self.other_draws = share, other_draws

    def fit(self, texts, labels):
        pass

    def predict(self, texts):
        np.random.random(self.other_draws)
        errs = np.random.random(len(texts)) < self.share
        return np.array([int("fine" in text) for text in texts]) ^ errs


VARIANTS = {"right": Wrong(0.0), "half": Wrong(0.5), "nearly": Wrong(0.015)}
CLAIMS = Claims(baseline="right", margin=0.005)


@pytest.fixture(scope="module")
def corpus():
    texts = [f"text {i} is {'fine' if i % 2 else 'dull'}" for i in range(600)]
    return Corpus.from_texts(texts, [i % 2 for i in range(600)])


def run_counts(folder):
    """Return the number of finished runs of each variant."""
    return {name: len(list((folder / name).glob("*/record.json"))) for name in VARIANTS}


def compare_until_decided(folder, corpus, **options):
    lines = []
    options = {"folds": 5, "repeats": 1, "max_repeats": 4, "claims": CLAIMS, "log": lines.append} | options
    compare_into(folder, VARIANTS, corpus, **options)
    return lines


def test_only_variants_of_undecided_pairs_get_more_repeats(corpus, tmp_path):
    lines = compare_until_decided(tmp_path / "c", corpus)
    counts, plan = run_counts(tmp_path / "c"), read_plan(tmp_path / "c")
    assert counts["half"] == 5  # its pair is decided by one repeat
    assert counts["nearly"] == counts["right"] > 5
    assert {name: 5 * repeats_of(plan, name) for name in VARIANTS} == counts
    assert any("1 pair(s) undecided after 1 repeat(s); repeat 2 of nearly, right: 10 runs, about" in x for x in lines)
    written = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert {entry["variant"]: entry["runs"] for entry in written["variants"]} == counts
    assert {pair["a"]: pair["verdict"] for pair in written["pairs"]}["half"] == "worse"
    assert ",missing," not in (tmp_path / "c" / "results.csv").read_text()
    assert written["claims"]["looks"] == 4

    again = compare_until_decided(tmp_path / "c", corpus)  # the same call finds all that it would train
    assert run_counts(tmp_path / "c") == counts
    assert again[-1] == lines[-1]
    compare_into(tmp_path / "c", VARIANTS, corpus, folds=5, repeats=2, claims=CLAIMS)  # a fixed number is for all
    assert run_counts(tmp_path / "c")["half"] == 10


def test_pairs_that_all_repeats_would_leave_undecided_are_given_up(corpus, tmp_path):
    lines, twins = [], {"right": Wrong(0.3), "twin": Wrong(0.3, other_draws=1)}
    compare_into(tmp_path / "c", twins, corpus, folds=5, max_repeats=2, claims=CLAIMS, log=lines.append)
    assert "even 2 repeats are not expected to decide them. The table says what would" in lines[-1]
    assert len(list((tmp_path / "c").glob("*/*/record.json"))) == 10


def test_no_repeat_is_begun_that_would_end_too_late(corpus, tmp_path):
    lines = compare_until_decided(tmp_path / "c", corpus, minutes=1e-6)
    assert "exceeds minutes=1e-06" in lines[-1] or "exceeds --minutes=1e-06" in lines[-1]
    assert set(run_counts(tmp_path / "c").values()) == {5}
    with pytest.raises(UserError, match="minutes is 0, expected more than 0"):
        compare_until_decided(tmp_path / "d", corpus, minutes=0)
