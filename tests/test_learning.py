"""What counts as a run that did not learn, and what does not."""

import numpy as np
import pytest

from research.evaluation.learning import HeldOut, is_falling, problem_of

TWO, RARE = np.array([150, 150]), np.array([450, 30])
MIXED, SAME = np.arange(60) % 2, np.zeros(60, int)


def records(losses, *, accuracy=0.8, train=None, recall=None):
    """Of epochs with these validation losses, and training losses like them."""
    found = []
    for epoch, loss in enumerate(losses, 1):
        at = {"step": 100 * epoch, "epoch": epoch}
        of_train = at | {"split": "train", "loss": loss if train is None else train, "accuracy": accuracy}
        of_train |= {} if recall is None else {"macro_recall": recall}
        found += [of_train, at | {"split": "validation", "loss": loss, "accuracy": 0.7}]
    return found


def settings(epochs=60, schedule="constant"):
    return {"training": {"epochs": epochs}, "optimizer": {"schedule": schedule}}


def judge(found, best, counts, predicted, label=MIXED, **of_settings):
    of_settings = {"epochs": max((r["epoch"] for r in found), default=1)} | of_settings
    return problem_of(found, best, counts, HeldOut(label, predicted), settings(**of_settings))


def why(*args, **given):
    problem = judge(*args, **given)
    return None if problem is None else problem.why


@pytest.mark.parametrize(
    ("losses", "given", "counts", "predicted", "expected"),
    [
        ([0.5, 0.45, 0.47], {}, TWO, MIXED, None),
        ([0.693, 0.69, 0.691], {"accuracy": 0.51}, TWO, MIXED, "training accuracy 51.0 %, with"),
        ([0.693, 0.69, 0.691], {"accuracy": 0.75}, TWO, MIXED, None),  # right far more often than by chance
        ([0.60, 0.61, 0.62], {"accuracy": 0.51, "train": 0.7}, TWO, MIXED, None),  # as the validation texts show
        ([0.66, 0.655, 0.66], {"accuracy": 0.6}, TWO, SAME, "one label for all test texts"),
        ([0.66, 0.655, 0.66], {"accuracy": 0.6}, TWO, SAME[:9], None),  # too few to say
        # Of rare labels, a model may have learned much and still give all texts the common one.
        ([0.15, 0.14, 0.15], {"accuracy": 0.94}, RARE, SAME, None),
        ([0.24, 0.23, 0.23], {"accuracy": 0.94}, RARE, SAME, "training accuracy 94.0 %, with"),
        # With balanced class weights accuracy and loss are worse than one label's for all, and recall is not.
        ([0.30, 0.29, 0.30], {"accuracy": 0.90, "recall": 0.85}, RARE, MIXED, None),
        ([0.24, 0.23, 0.24], {"accuracy": 0.94, "recall": 0.50}, RARE, MIXED, "training accuracy 94.0 %, with"),
        ([0.692, 0.691, 0.692], {"accuracy": 0.53}, TWO, MIXED, "training accuracy 53.0 %, with"),  # by luck
        ([0.65, 0.55], {}, TWO, MIXED, "the validation loss was still falling after epoch 2"),
        ([0.65, 0.55, 0.54], {}, TWO, MIXED, None),
        ([0.65], {}, TWO, MIXED, None),
        ([0.0], {"accuracy": 1.0}, np.array([10, 0]), SAME, None),  # one class: nothing to learn
    ],
)
def test_what_shows_that_a_run_was_not_trained(losses, given, counts, predicted, expected):
    found = why(records(losses, **given), int(np.argmin(losses)) + 1, counts, predicted)
    assert found == expected if expected is None else found.startswith(expected)


def test_what_may_help_is_named():
    assert judge(records([0.65, 0.55]), 2, TWO, MIXED).mend == "--config.training.epochs=9"  # of 100 steps each
    few = [r | {"step": 7 * r["epoch"]} for r in records([0.65, 0.55])]
    assert judge(few, 2, TWO, MIXED).mend == "--config.training.epochs=60"
    at_chance = records([0.69, 0.8, 0.9], accuracy=0.51)
    assert judge(at_chance, 1, TWO, MIXED).mend == "--config.training.epochs=9"
    at_chance[-2]["accuracy"] = 0.99  # by heart, in the end: more epochs would not help
    assert judge(at_chance, 1, TWO, MIXED).mend.startswith("more texts, --config.data.vectors=glove")


def test_records_of_an_earlier_version_say_nothing_but_predictions_do():
    old = [{"step": 9, "epoch": 1, "split": "validation", "accuracy": 0.7}]
    assert judge(old, 1, TWO, MIXED) is None
    assert why(old, 1, TWO, SAME) == "one label for all test texts"


def test_what_falls_evenly_is_falling_and_what_has_settled_is_not():
    assert is_falling(np.linspace(0.69, 0.3, 60), 0.693)
    assert not is_falling(0.3 + 0.39 * np.exp(-np.arange(60) / 8), 0.693)
    assert not is_falling([*np.linspace(0.69, 0.3, 20), 0.31, 0.32, 0.33], 0.693)


def test_a_test_of_one_class_that_is_right_is_no_sign():
    assert why(records([0.5, 0.45, 0.47]), 2, TWO, SAME, label=SAME) is None


def test_a_rate_that_ends_at_nought_ends_the_fall_itself():
    """As of fine-tuning. Without such a schedule, or stopped before its end, the same loss was still falling."""
    found = records([0.50, 0.46, 0.44])
    assert why(found, 3, TWO, MIXED, epochs=3, schedule="linear") is None
    assert why(found, 3, TWO, MIXED, epochs=3) is not None
    assert why(found, 3, TWO, MIXED, epochs=9, schedule="linear") is not None
    assert why(records([0.68, 0.60, 0.50]), 3, TWO, MIXED, epochs=3, schedule="linear") is not None


def test_what_early_stopping_ended_is_not_told_to_train_longer():
    found = records([0.65, 0.55])
    assert judge(found, 2, TWO, MIXED, epochs=60).mend == "--config.training.patience=0"
