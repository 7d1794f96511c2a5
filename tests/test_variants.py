"""From flags to variants: what is varied, what is dropped."""

from pathlib import Path

import pytest

from experiments.variants import every_variant, expand
from research.errors import UserError
from research.runs import folder_name


def test_all_variants_start_with_the_linear_baseline():
    names = every_variant()
    assert names[0] == "linear:tfidf"
    assert {"article", "lstm", "cnn:static", "luong:local_p"} < set(names)
    assert len(set(names)) == len(names)


def test_what_takes_long_is_taken_where_it_is_named(tmp_path):
    assert every_variant("NAMED_ALONE") == ["bert:minilm", "bert:FOLDER"]
    assert "bert:tiny" in every_variant()
    assert not set(every_variant()) & set(every_variant("NAMED_ALONE"))
    with pytest.raises(
        UserError, match="there is no variant bert:minilmm, expected bert:tiny, bert:minilm, bert:FOLDER"
    ):
        list(expand(["bert:minilmm"], [], []))


def test_a_variant_of_a_folder_is_called_by_its_name(monkeypatch):
    data = Path(__file__).parent / "data"
    monkeypatch.chdir(data)
    (found,) = expand(["bert:tiny_bert"], [], [])
    assert found.name == "bert:tiny_bert"
    assert found.flags == (f"--config=bert:{data / 'tiny_bert'}",)
    assert found.config.data.weights == str(data / "tiny_bert")
    assert (found.config.model.layers, found.config.data.vocab_size) == (3, 190)


def test_varying_takes_the_cross_product():
    found = list(expand(["lstm"], [], ["optimizer.learning_rate=1e-3,3e-4", "seed=1,2"]))
    assert [v.name for v in found] == [
        f"lstm[optimizer.learning_rate={rate},seed={seed}]" for rate in ("1e-3", "3e-4") for seed in (1, 2)
    ]
    assert [(v.config.optimizer.learning_rate, v.config.seed) for v in found[1:3]] == [(1e-3, 2), (3e-4, 1)]
    assert folder_name(found[0].name) == "lstm--optimizer.learning_rate=1e-3--seed=1"


def test_a_variant_without_the_setting_stands_as_it_is(capsys):
    names = [v.name for v in expand(["linear", "lstm"], [], ["model.hidden_size=8,16"])]
    assert names == ["linear", "lstm[model.hidden_size=8]", "lstm[model.hidden_size=16]"]
    assert capsys.readouterr().err == "model.hidden_size is no setting of linear and changes nothing there\n"
    names = [v.name for v in expand(["linear", "cnn"], [], [], ["model.dropout"])]
    assert names == ["linear", "cnn", "cnn[model.dropout=0]"]


def test_dropping_takes_each_component_away_in_turn():
    found = list(expand(["cnn"], [], [], ["model.dropout", "optimizer.max_norm"]))
    assert [v.name for v in found] == ["cnn", "cnn[model.dropout=0]", "cnn[optimizer.max_norm=0]"]
    settings = [(v.config.model.dropout, v.config.optimizer.max_norm) for v in found]
    assert settings == [(0.5, 3.0), (0.0, 3.0), (0.5, 0.0)]
    assert found[1].flags == ("--config=cnn", "--config.model.dropout=0")
    names = [v.name for v in expand(["cnn:static"], [], ["seed=1,2"], ["data.vectors", "data.lowercase"])]
    assert names[:3] == [
        "cnn:static[seed=1]",
        "cnn:static[seed=1,data.vectors=none]",
        "cnn:static[seed=1,data.lowercase=false]",
    ]


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("model.dropuot", "there is no setting 'model.dropuot', expected model.dropout, or one of "),
        ("model.dropout", "it is off already"),
        ("model.hidden_size", "cannot be switched off"),
        ("model.readout", "cannot be switched off"),
    ],
)
def test_what_cannot_be_dropped_is_a_sentence(field, words):
    with pytest.raises(UserError, match=words):
        list(expand(["lstm"], [], [], [field]))
