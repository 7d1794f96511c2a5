"""Settings: each makes a difference to a run, and one that would make none is refused."""

import pytest

from experiments.variants import load_config
from research.data.corpora import make_corpus
from research.data.reader import Row
from research.errors import UserError, likeliest
from research.runs import run_files
from research.runs.train import train
from research.settings import leaves
from research.settings_validation import validate
from tests.small import SIZES, small_lstm


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.name=lion",
        "optimizer.schedule=cosine",
        "optimizer.warmup=0.5",
        "optimizer.weight_decay=0.1",
        "optimizer.clip_norm=0.01",
        "optimizer.max_norm=0.01",
        "optimizer.layer_decay=0.5",
        "optimizer.frozen=1",
        "training.label_smoothing=0.2",
        "training.random_deletion=0.3",
        "training.class_weights=balanced",
        "training.l2=1.0",
        "training.batch_size=16",
        "data.keep=last",
        "data.max_length=10",
        "data.vocab_size=100",
        "data.tokens=characters",
        "data.stop_words=english",
    ],
)
def test_every_setting_changes_a_run(override, uneven_corpus, tmp_path, plain_metrics):
    folder = train(small(f"--config.{override}"), uneven_corpus, tmp_path / "run")
    assert run_files.read_metrics(folder) != plain_metrics


def test_swaps_change_a_run_of_what_reads_an_order(uneven_corpus, tmp_path):
    swaps = ([], ["--config.training.random_swap=0.3"])
    folders = [train(small_lstm(*given), uneven_corpus, tmp_path / str(len(given))) for given in swaps]
    assert run_files.read_metrics(folders[0]) != run_files.read_metrics(folders[1])


def small(*overrides):
    """A variant that compiles quickly, on texts that are cut, so that it matters which end is kept."""
    return load_config("mlp", [*SIZES, "--config.data.max_length=16", *overrides])


@pytest.fixture(scope="module")
def uneven_corpus(small_corpus):
    """A third of one class left out, so that class weights matter."""
    kept = [i for i, label in enumerate(small_corpus.labels) if label == 0 or i % 3]
    rows = [Row(small_corpus.texts[i], str(small_corpus.labels[i]), "", "") for i in kept]
    return make_corpus("uneven", {"all": rows})


@pytest.fixture(scope="module")
def plain_metrics(uneven_corpus, tmp_path_factory):
    return run_files.read_metrics(train(small(), uneven_corpus, tmp_path_factory.mktemp("plain") / "run"))


def test_settings_that_nothing_would_read_are_refused():
    with pytest.raises(UserError, match="adam does not read it"):
        load_config("lstm", ["--config.optimizer.momentum=0.9"])
    with pytest.raises(UserError, match="needs a warmup"):
        load_config("lstm", ["--config.optimizer.schedule=rsqrt"])
    for setting in ("schedule=linear", "warmup=0.1", "weight_decay=0.1", "clip_norm=1", "layer_decay=0.5", "frozen=1"):
        with pytest.raises(UserError, match="lbfgs does not read it"):
            load_config("linear", [f"--config.optimizer.{setting}"])
    assert validate(load_config("lstm", ["--config.optimizer.name=sgd", "--config.optimizer.momentum=0.9"]))


def test_a_limit_of_columns_that_are_not_there_is_refused_before_anything_is_written(small_corpus, tmp_path):
    with pytest.raises(UserError, match=r"max_norm is 3\.0, expected 0: the model has no head"):
        train(load_config("linear", ["--config.optimizer.max_norm=3"]), small_corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("optimizer.lr", ["optimizer.learning_rate"]),
        ("epochs", ["training.epochs"]),
        ("training.patince", ["training.patience"]),
        ("hidden", ["model.hidden_size"]),
        ("model.epochs", ["training.epochs"]),
        ("batch", ["training.batch_size"]),
        ("xyz", []),
        ("devices", []),
    ],
)
def test_a_setting_is_found_by_what_was_likely_meant(given, meant):
    assert likeliest(given, [name for name, _, _ in leaves(load_config("lstm"))]) == meant
