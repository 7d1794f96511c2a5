"""From flags to variants: what is varied, what is dropped."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from experiments.grid import expand
from experiments.variants import every_variant, load_config, refuse_overrides
from research.errors import UserError
from research.runs import named_configs
from research.runs.run_files import folder_name
from research.settings_validation import validate


def test_all_variants_start_with_the_linear_baseline():
    names = every_variant()
    assert names[0] == "linear:tfidf"
    assert {"article", "lstm", "cnn:static", "luong:local_p"} < set(names)
    assert len(set(names)) == len(names)


def test_what_takes_long_is_taken_where_it_is_named(tmp_path):
    assert every_variant("NAMED_ALONE") == ["bert:minilm", "bert:FOLDER", "probe:minilm", "probe:FOLDER"]
    assert "bert:tiny" in every_variant()
    assert not set(every_variant()) & set(every_variant("NAMED_ALONE"))
    with pytest.raises(
        UserError, match="there is no variant bert:minilmm, expected one of bert:tiny, bert:minilm, bert:FOLDER"
    ):
        expand(["bert:minilmm"], [], [])


def test_a_variant_of_a_folder_is_called_by_its_name(monkeypatch):
    data = Path(__file__).parent / "data"
    monkeypatch.chdir(data)
    (found,) = expand(["bert:tiny_bert"], [], [])
    assert found.name == "bert:tiny_bert"
    assert found.flags == (f"--config=bert:{data / 'tiny_bert'}",)
    assert found.config.data.weights == str(data / "tiny_bert")
    assert (found.config.model.layers, found.config.data.vocab_size) == (3, 190)


def test_varying_takes_the_cross_product():
    found = expand(["lstm"], [], ["optimizer.learning_rate=1e-3,3e-4", "seed=1,2"])
    assert [v.name for v in found] == [
        f"lstm[optimizer.learning_rate={rate},seed={seed}]" for rate in ("1e-3", "3e-4") for seed in (1, 2)
    ]
    assert [(v.config.optimizer.learning_rate, v.config.seed) for v in found[1:3]] == [(1e-3, 2), (3e-4, 1)]
    assert folder_name(found[0].name) == "lstm--optimizer.learning_rate=1e-3--seed=1"


def test_a_variant_without_the_setting_stands_as_it_is(capsys):
    names = [v.name for v in expand(["linear", "lstm"], [], ["model.hidden_size=8,16"])]
    assert names == ["linear", "lstm[model.hidden_size=8]", "lstm[model.hidden_size=16]"]
    assert capsys.readouterr().err == "model.hidden_size is not read by linear and changes nothing there\n"
    names = [v.name for v in expand(["linear", "cnn"], [], [], ["model.dropout"])]
    assert names == ["linear", "cnn", "cnn[model.dropout=0]"]


def test_dropping_takes_each_component_away_in_turn():
    found = expand(["cnn"], [], [], ["model.dropout", "optimizer.max_norm"])
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
        expand(["lstm"], [], [], [field])


def test_only_the_repositorys_folder_is_looked_for_in_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/lstm.py").model.cell == "lstm"
    with pytest.raises(UserError, match="there is no variant 'mine/lstm"):
        load_config("mine/lstm.py")


def test_paths_in_settings_mean_the_same_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config("lstm", ["--config.init_from=runs/fold{fold}", "--config.data.vectors=my.vec"])
    assert config.init_from == str(tmp_path / "runs" / "fold{fold}")
    assert config.data.vectors == str(tmp_path / "my.vec")
    assert load_config("lstm", ["--config.data.vectors=glove"]).data.vectors == "glove"


def test_a_model_that_reads_fewer_tokens_than_are_asked_for_is_refused():
    with pytest.raises(UserError, match=r"article: .*max_length is 400, expected at most config.model.width=100"):
        load_config("article", ["--config.data.max_length=400"])
    both = ["--config.data.max_length=400", "--config.model.width=400"]
    assert load_config("article", both).model.width == 400


def test_a_number_beyond_the_one_limit_that_there_is_names_that_one():
    config = load_config("luong")
    config.model.window = 200_000_000
    with pytest.raises(UserError, match="expected at least 1 and at most 100000000"):
        validate(config)
    config.model = dataclasses.make_dataclass("Own", [("size", int, 4)])(200_000_000)
    with pytest.raises(UserError, match=r"config\.model\.size is 200000000, expected at most 100000000"):
        validate(config)


def test_what_no_variant_reads_is_no_difference_and_is_said(capsys):
    for name, field, values in (
        ("luong:dot", "model.window", "5,10"),
        ("luong:dot", "model.positions", "5,10"),
        ("linear", "optimizer.learning_rate", "1e-3,1e-2"),
        ("linear", "training.patience", "1,2"),
        ("linear", "training.select", "accuracy,log_loss"),
        ("lstm", "model.monte_carlo", "0,9"),
        ("lstm", "model.dropout_kind", "naive,variational"),
    ):
        with pytest.raises(UserError, match="are the same settings, expected different ones"):
            expand([name], [], [f"{field}={values}"])
    assert len(expand(["luong:local_m"], [], ["model.window=5,10"])) == 2
    capsys.readouterr()
    expand(["linear", "lstm"], ["--config.optimizer.learning_rate=3e-4"], [])
    assert capsys.readouterr().err == "optimizer.learning_rate is not read by linear and changes nothing there\n"


def test_the_same_settings_twice_are_no_two_variants():
    with pytest.raises(UserError, match=r"lstm\[seed=1\] and lstm\[seed=01\] are the same settings"):
        expand(["lstm"], [], ["seed=1,01"])


def test_what_is_searched_or_tuned_is_not_given_by_a_flag_too():
    refuse_overrides(["--config.seed=1"], {"training.l2": 0.1}, "searched for linear")
    with pytest.raises(UserError, match=r"config.training.l2 = 1 is given, but training.l2 is searched for linear"):
        refuse_overrides(["--config.training.l2=1"], {"training.l2": 0.1}, "searched for linear")


def test_a_config_file_with_a_mistake_is_a_sentence(tmp_path):
    for wrong, words in (
        ("gate='x'", "there is no setting 'gate', expected one of embedding_size"),
        ("hidden_sise=8", "there is no setting 'hidden_sise', expected hidden_size, or one of"),
        ("hidden_size='8'", "config.model.hidden_size is '8', expected a value like 128"),
        ("hidden_size=True", "config.model.hidden_size is True, expected a value like 128"),
    ):
        (tmp_path / "own.py").write_text(
            "from research.models import settings_for\nfrom research.settings import Config\n\n"
            f"def get_config():\n    return Config(model=settings_for('recurrent.Recurrent', {wrong}))\n"
        )
        with pytest.raises(UserError, match=words):
            load_config(str(tmp_path / "own.py"))


def test_a_config_file_may_lie_below_a_folder_with_a_colon(tmp_path, monkeypatch):
    (tmp_path / "a:b").mkdir()
    shutil.copy(named_configs.FOLDER / "luong.py", tmp_path / "a:b" / "own.py")
    (variant,) = expand([f"{tmp_path}/a:b/own.py:dot"], [], [])
    assert (variant.name, variant.config.model.score) == ("own:dot", "dot")
    assert load_config(variant.source).model.score == "dot"


def test_a_config_without_a_model_is_a_sentence(tmp_path):
    (tmp_path / "own.py").write_text(
        "from research.settings import Config\n\ndef get_config():\n    return Config(model=None)\n"
    )
    with pytest.raises(UserError, match=r"config.model is None, expected settings"):
        load_config(str(tmp_path / "own.py"))


def test_a_setting_that_nothing_reads_is_refused_from_python_too():
    config = load_config("lstm")
    config.model.hidden_sise = 8
    with pytest.raises(UserError, match=r"config.model.hidden_sise is no setting, expected hidden_size, or one of"):
        validate(config)


def test_a_setting_that_one_variant_lacks_is_told_with_what_sets_it_elsewhere():
    words = r"linear: there is no setting 'model.dropout', expected vary=\"model.dropout=0.3\", .* \(lstm\)"
    with pytest.raises(UserError, match=words):
        expand(["linear", "lstm"], ["--config.model.dropout=0.3"], [])
