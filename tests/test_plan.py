"""A damaged, newer or malicious `plan.json` is refused, and nothing outside of the comparison is deleted."""

import json

import pytest

from experiments.variants import load_config
from research.errors import UserError
from research.reporting.report import write_report
from research.runs import run_files
from research.runs.clearing import clear
from tests.comparing import compare_into

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture(scope="module")
def finished(small_corpus, tmp_path_factory):
    """A folder with a comparison, and a second comparison that the first must not touch."""
    folder = tmp_path_factory.mktemp("plan")
    config = load_config("mlp", ["--config.training.epochs=1", "--config.model.embedding_size=2"])
    for name in ("mine", "neighbour"):
        compare_into(folder / name, {"mlp": config}, small_corpus, folds=2)
    return folder


@pytest.fixture
def mine(finished):
    """The first comparison; its plan is restored after each test."""
    plan = finished / "mine" / run_files.PLAN
    before = plan.read_bytes()
    yield finished / "mine"
    plan.write_bytes(before)


def change(folder, edit):
    plan = json.loads((folder / run_files.PLAN).read_text())
    edit(plan)
    (folder / run_files.PLAN).write_text(json.dumps(plan))


EDITS = {
    "no 'variants'": lambda plan: plan.pop("variants"),
    "'variants' is []": lambda plan: plan.update(variants=[]),
    "'folds' is '2'": lambda plan: plan.update(folds="2"),
    "in 'corpus' no 'checksum'": lambda plan: plan["corpus"].pop("checksum"),
    "a JSON str where an object is expected": lambda plan: plan.update(corpus="reviews"),
    "'repeats' is": lambda plan: plan.update(repeats="many"),
    "repeats=1000000": lambda plan: plan.update(repeats=1_000_000),
    "two variants have the folder": lambda plan: plan["variants"].update(cnn=plan["variants"]["mlp"]),
    "'looks': 0": lambda plan: plan["claims"].update(looks=0),
    "0 variants": lambda plan: plan.update(variants={}),
    "in 'settings' in 'optimizer' no 'name'": lambda plan: plan["variants"]["mlp"]["settings"]["optimizer"].pop("name"),
    "claims: margin is 'wide'": lambda plan: plan["claims"].update(margin="wide"),
    "claims: 'horizon'": lambda plan: plan["claims"].update(horizon=3),
}


@pytest.mark.parametrize("problem", EDITS)
def test_a_damaged_or_newer_plan_is_refused_with_its_problem(mine, small_corpus, problem):
    change(mine, EDITS[problem])
    config = load_config("mlp", ["--config.training.epochs=1", "--config.model.embedding_size=2"])
    for use in (lambda: write_report(mine), lambda: compare_into(mine, {"mlp": config}, small_corpus, folds=2)):
        with pytest.raises(UserError, match="the file is damaged") as caught:
            use()
        assert problem in str(caught.value)


@pytest.mark.parametrize("folder", ["../neighbour/mlp", "/tmp", "..", "", "mlp/../../neighbour/mlp"])
def test_nothing_outside_of_a_comparison_is_overwritten(mine, folder):
    change(mine, lambda plan: plan["variants"]["mlp"].update(folder=folder))
    for use in (lambda: clear(mine), lambda: write_report(mine)):
        with pytest.raises(UserError, match="expected one of this comparison's own"):
            use()
    assert len(list(mine.parent.glob("neighbour/mlp/*/record.json"))) == 2
    assert len(list(mine.glob("mlp/*/record.json"))) == 2


def test_links_are_not_followed_when_a_comparison_is_overwritten(mine):
    change(mine, lambda plan: plan["variants"].update(cnn=plan["variants"]["mlp"] | {"folder": "cnn"}))
    (mine / "cnn").symlink_to(mine.parent / "neighbour" / "mlp")
    with pytest.raises(UserError, match="cnn is a link, and its target is not deleted"):
        clear(mine)
    (mine / "cnn").unlink()
    (mine / "plots").rename(mine / "own")
    (mine / "plots").symlink_to(mine.parent / "neighbour" / "plots")
    with pytest.raises(UserError, match="plots is a link"):
        clear(mine)
    (mine / "plots").unlink()
    (mine / "own").rename(mine / "plots")
    assert list(mine.parent.glob("neighbour/plots/*.png"))
    assert len(list(mine.parent.glob("neighbour/mlp/*/record.json"))) == 2


def test_a_name_that_no_file_system_takes_is_refused(small_corpus, tmp_path):
    config = load_config("mlp", ["--config.training.epochs=1"])
    with pytest.raises(UserError, match="has 300 letters, expected at most 200"):
        compare_into(tmp_path / "long", {"m" * 300: config}, small_corpus, folds=2)
