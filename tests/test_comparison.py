"""Comparisons from Python: repeats are added until every pair is decided, and the user is told why."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from experiments.variants import load_config
from research.comparison.plan import Variant, detectable_sentence
from research.data.corpora import make_corpus
from research.data.reader import Row
from research.errors import UserError
from research.reporting.claims import Claims, level_of, planned_claims
from research.runs.plan_file import read_plan
from tests.comparing import compare_into

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture
def easy():
    """A corpus with one word in each text that tells its label."""
    rows = [Row(f"text {i} is {'fine' if i % 2 else 'dull'}", str(i % 2), "", f"f:{i}") for i in range(60)]
    test = [Row(f"a test {i} was {'fine' if i % 2 else 'dull'}", str(i % 2), "", f"f:{i}") for i in range(80)]
    return make_corpus("easy", {"train": rows, "test": test})


def linear(epochs):
    config = load_config("linear")
    return dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=epochs))


def test_numbers_of_repeats_that_do_not_fit_are_refused(easy, tmp_path):
    for repeats, message in (
        ({"repeats": 3, "max_repeats": 2}, "max_repeats is 2, expected 3, as repeats, to 1000"),
        ({"repeats": 3, "max_repeats": 2000}, "max_repeats is 2000"),
        ({"repeats": 0}, "repeats is 0"),
    ):
        with pytest.raises(UserError, match=message):
            compare_into(tmp_path / "c", {"linear": linear(1)}, easy, **repeats)
    with pytest.raises(UserError, match="expected at least one variant"):
        compare_into(tmp_path / "c", {}, easy)
    with pytest.raises(UserError, match="baseline is 'cnn'"):
        compare_into(tmp_path / "c", {"linear": linear(1)}, easy, claims=Claims(baseline="cnn"))
    assert not (tmp_path / "c").exists()


def test_repeats_are_added_only_for_pairs_of_variants_that_are_named(easy, tmp_path, monkeypatch):
    """Undecided pairs with a variant from an earlier call are not waited for."""
    folder, lines = compare_into(tmp_path / "c", {"linear": linear(1), "other": linear(2)}, easy, repeats=2), []
    pairs = [
        {"a": "other", "b": "linear", "verdict": "undecided"},
        {"a": "again", "b": "linear", "verdict": "equivalent"},
    ]
    monkeypatch.setattr(
        "research.comparison.compare.read_results", lambda folder: SimpleNamespace(pairs=pairs, spread=None, rows=[])
    )
    monkeypatch.setattr("research.comparison.compare.write_results", lambda results, folder, corpus: None)
    compare_into(folder, {"linear": linear(1), "again": linear(3)}, easy, max_repeats=4, log=lines.append)
    assert "every pair is decided after 2 repeat(s)" in lines
    assert not (folder / "again" / "repeat2").exists()


def test_a_comparison_from_python_names_no_command(easy, tmp_path):
    folder = compare_into(tmp_path / "c", {"mine": linear(1)}, easy, repeats=1)
    assert json.loads((folder / "mine" / "repeat0" / "record.json").read_text())["command"] == ""
    assert "made by `research.compare`, from Python" in (folder / "report.md").read_text()


def test_a_comparison_can_be_extended_after_its_vectors_were_moved(easy, tmp_path):
    config = load_config("mlp", ["--config.model.embedding_size=2", "--config.training.epochs=1"])
    (tmp_path / "a.txt").write_text("fine 0.5 1\ndull -1 0.5\n")
    for name in ("b.txt", "other.txt"):
        (tmp_path / name).write_text((tmp_path / "a.txt").read_text() + "was 1 1\n" * (name == "other.txt"))

    def with_vectors(name):
        return {"mlp": dataclasses.replace(config, data=dataclasses.replace(config.data, vectors=str(tmp_path / name)))}

    folder = compare_into(tmp_path / "c", with_vectors("a.txt"), easy, repeats=1)
    record = (folder / "mlp/repeat0/record.json").read_bytes()
    compare_into(folder, with_vectors("b.txt"), easy, repeats=2)
    assert (folder / "mlp/repeat0/record.json").read_bytes() == record
    with pytest.raises(UserError, match="vectors_checksum"):
        compare_into(folder, with_vectors("other.txt"), easy, repeats=2)


def test_runs_of_a_model_that_was_edited_since_are_reported(easy, tmp_path, monkeypatch):
    folder, lines = compare_into(tmp_path / "c", {"linear": linear(1)}, easy, repeats=1), []
    compare_into(folder, {"linear": linear(1)}, easy, repeats=1, log=lines.append)
    assert not any("other code" in line for line in lines)
    monkeypatch.setattr("research.runs.code_hash.hash_training_code", lambda: "another")
    compare_into(folder, {"linear": linear(1)}, easy, repeats=2, log=lines.append)
    assert "1 of them were made by other code; --overwrite trains all runs again" in lines


def test_overwriting_removes_the_runs_of_the_earlier_comparison(easy, tmp_path):
    compare_into(tmp_path / "c", {"linear": linear(1)}, easy, repeats=2)
    with pytest.raises(UserError, match="baseline is 'cnn'"):
        compare_into(tmp_path / "c", {"linear": linear(1)}, easy, claims=Claims(baseline="cnn"), overwrite=True)
    assert (tmp_path / "c" / "linear" / "repeat1" / "record.json").exists()
    compare_into(tmp_path / "c", {"other": linear(2)}, easy, repeats=1, overwrite=True)
    assert [path.parent.parent.name for path in (tmp_path / "c").glob("*/*/record.json")] == ["other"]


def test_repeats_are_added_only_while_a_pair_is_undecided(easy, tmp_path):
    lines = []
    variants = {"linear": linear(10), "again": linear(10)}  # one model under two names: identical, so equivalent
    folder = compare_into(tmp_path / "c", variants, easy, repeats=2, max_repeats=6, log=lines.append)
    assert "every pair is decided after 2 repeat(s)" in lines
    assert len(list(folder.glob("*/repeat*/record.json"))) == 4
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["repeats"] == 2
    assert plan["claims"]["looks"] == 5
    pair = json.loads((folder / "comparison.json").read_text())["pairs"][0]
    assert (pair["verdict"], pair["interval"]) == ("equivalent", [0.0, 0.0])


def test_repeats_added_by_hand_are_looks_too(easy, tmp_path):
    """Every call of `compare` with another number of repeats counts as a look, and the report says so."""
    variants = {"linear": linear(2), "other": linear(3)}
    for repeats, looks in ((2, 1), (2, 1), (4, 2), (3, 3)):
        compare_into(tmp_path / "c", variants, easy, repeats=repeats, command=f"compare --repeats={repeats}")
        assert planned_claims(read_plan(tmp_path / "c")).looks == looks
    report = (tmp_path / "c" / "report.md").read_text()
    assert "3 look(s) at the table" in report
    assert "before it, in the same folder: `compare --repeats=4`" in report
    assert "The last epoch of each run was taken" in report
    assert "repeat(s), 80 texts tested" in report


def transformer(heads):
    config = load_config("transformer:pre", [f"--config.model.heads={heads}", "--config.model.embedding_size=8"])
    return dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=1))


@pytest.mark.extra
def test_a_variant_without_runs_can_be_replaced(easy, tmp_path):
    """A mistake in its settings is noticed when training begins, and the other variants stay in the folder."""
    compare_into(tmp_path / "c", {"linear": linear(1)}, easy, repeats=1)
    with pytest.raises(UserError, match="heads"):
        compare_into(tmp_path / "c", {"transformer": transformer(3)}, easy, repeats=1)
    compare_into(tmp_path / "c", {"linear": linear(1)}, easy, repeats=1)
    assert list(read_plan(tmp_path / "c")["variants"]) == ["linear"]
    with pytest.raises(UserError, match="heads"):
        compare_into(tmp_path / "c", {"transformer": transformer(3)}, easy, repeats=1)
    compare_into(tmp_path / "c", {"transformer": transformer(2)}, easy, repeats=1)
    assert list(read_plan(tmp_path / "c")["variants"]) == ["linear", "transformer"]
    with pytest.raises(UserError, match="with other settings"):
        compare_into(tmp_path / "c", {"transformer": transformer(4)}, easy, repeats=1)


def test_a_variant_with_untuned_runs_cannot_become_tuned(easy, tmp_path):
    variant = Variant("linear", linear(1), ("--config=linear",))
    compare_into(tmp_path / "c", [variant], easy, repeats=1)
    tuned = variant._replace(tuned={"repeat0": (linear(1), ("--config=linear",))})
    with pytest.raises(UserError, match="tuned differently"):
        compare_into(tmp_path / "c", [tuned], easy, repeats=1)
    assert "tuned" not in read_plan(tmp_path / "c")["variants"]["linear"]


def test_more_looks_raise_the_level_of_each_interval():
    assert level_of(1, Claims()) == pytest.approx(0.95)
    assert level_of(2, Claims(looks=5)) == pytest.approx(1 - 0.05 / 10)


def test_the_detectable_difference_is_logged_before_training(easy, tmp_path):
    lines = []
    compare_into(tmp_path / "c", {"linear": linear(2), "other": linear(3)}, easy, repeats=3, log=lines.append)
    assert lines[0].startswith(
        "80 different test texts or groups, 3 runs per variant, 1 pair(s): with the usual spread between runs, a true"
    )
    again = []
    compare_into(tmp_path / "c", {"linear": linear(2), "other": linear(3)}, easy, repeats=3, log=again.append)
    assert "the spread seen so far" in again[0]
    one = []
    compare_into(tmp_path / "d", {"linear": linear(2), "other": linear(3)}, easy, repeats=1, log=one.append)
    assert "no difference can be told from luck" in one[0]
    few = {"variants": {"a": {}, "b": {}}, "folds": 2, "repeats": 1}
    claims = Claims(looks=50, metric="accuracy")
    assert "no difference can be told from luck" in detectable_sentence(few, claims, 80, None)
