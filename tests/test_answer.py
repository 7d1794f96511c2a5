"""The answer at the top of a report, what would decide the rest, and the picture below it."""

import re

import pytest

from research.evaluation.learning import Problem
from research.reporting.answer import find_answer
from research.reporting.claims import Claims
from research.reporting.formatting import format_minutes, join_names
from research.reporting.pairs import main_pairs
from research.reporting.plots import draw_plot
from research.reporting.results import VERDICTS, read_results

TUNED = {"fold0-repeat0": ["--config.seed=1"]}


@pytest.fixture
def results(comparison):
    """The results of `tests/made_up_comparison.py`, without verdicts: each test makes its own."""
    return read_results(comparison)._replace(pairs=[])


def judged(results, *verdicts, metric="accuracy", **repeats):
    """Return results with one pair against linear for each (variant, verdict, difference), and the plan to match.

    `repeats` holds, for some variants, the number that would decide.
    """
    estimate = results.estimates["linear:tfidf"]
    names = {"linear": 0.0} | {variant: difference for variant, _, difference in verdicts}
    estimates = {
        name: estimate | {metric: estimate[metric]._replace(mean=estimate[metric].mean + difference)}
        for name, difference in names.items()
    }
    pairs = [
        {
            "a": variant,
            "b": "linear",
            "metric": metric,
            "difference": difference,
            "interval": [difference - 0.02, difference + 0.02],
            "verdict": verdict.removeprefix("negligibly "),
            "negligible": verdict.startswith("negligibly"),
        }
        for variant, verdict, difference in verdicts
    ]
    for pair in pairs:
        if pair["verdict"] == "undecided":
            pair["would_decide"] = {"repeats": repeats.get(pair["a"]), "texts": None, "times_both": None}
    entry = results.plan["variants"]["linear:tfidf"]
    rows = [results.done("linear:tfidf")[0] | {"variant": name} for name in names]
    plan = results.plan | {"variants": dict.fromkeys(names, entry), "cores": 2}
    claims = Claims(baseline="linear", metric=metric)
    plan["claims"] = claims._asdict()
    outcomes = dict.fromkeys(names, results.outcomes["linear:tfidf"])
    return results._replace(plan=plan, claims=claims, estimates=estimates, pairs=pairs, rows=rows, outcomes=outcomes)


def test_the_answer_is_two_or_three_sentences_and_a_command(results):
    of_pairs = [
        ("mlp", "equivalent", 0.001),
        ("gru", "worse", -0.03),
        ("rnn:tanh", "worse", -0.08),
        ("lstm", "undecided", -0.011),
        ("cnn", "undecided", -0.012),
        ("luong", "undecided", -0.005),
    ]
    answer = find_answer(judged(results, *of_pairs, lstm=4, cnn=4, luong=60))
    assert answer.text == (
        "Take linear or mlp: by accuracy, no other variant is shown to be better. "
        "mlp is equivalent to linear within 1 point (+0.1 points [-1.9, +2.1]). "
        "gru and rnn:tanh are worse than linear. "
        "luong, lstm and cnn cannot be told from linear within 1 point. "
        "2 more repeats (about a minute) would decide lstm and cnn, if the differences stay as they are:"
    )
    assert answer.command == "./launch.sh compare --variants=lstm --repeats=4"


@pytest.mark.parametrize(
    "verdicts, answer",
    [
        ([("lstm", "better", 0.03)], "Take lstm: by accuracy, lstm is better than linear (+3.0 points [+1.0, +5.0])."),
        (
            [("lstm", "negligibly better", 0.005)],
            "Take lstm: by accuracy, lstm is better than linear, but by less than 1 point (+0.5 points [-1.5, +2.5]).",
        ),
        (
            [("lstm", "better", 0.03), ("cnn", "better", 0.04), ("mlp", "not trained", -0.2)],
            "Take one of these: by accuracy, cnn and lstm are better than linear. They were not compared with each "
            "other: --pairs=all does that. mlp is not judged, because runs did not learn.",
        ),
        (
            [("lstm", "worse", -0.03), ("cnn", "worse", -0.05)],
            "Take linear: by accuracy, lstm and cnn are worse than linear.",
        ),
        (
            [("lstm", "equivalent", 0.0)],
            "Take linear or lstm: by accuracy, lstm is equivalent to linear within 1 point (+0.0 points [-2.0, +2.0]).",
        ),
        (
            [("lstm", "equivalent", 0.0), ("cnn", "equivalent", -0.001), ("mlp", "worse", -0.1)],
            "Take linear or one equivalent to it: by accuracy, no other variant is shown to be better. lstm and cnn "
            "are equivalent to linear within 1 point. mlp is worse than linear (-10.0 points [-12.0, -8.0]).",
        ),
        (
            [("lstm", "undecided", 0.03), ("cnn", "undecided", -0.02)],
            "By accuracy, no variant is shown to be better than linear, though lstm has a better mean. lstm and cnn "
            "cannot be told from linear within 1 point. No number of repeats or texts within reach would decide this.",
        ),
        (
            [("lstm", "undecided", float("nan")), ("cnn", "worse", -0.02)],
            "Take linear: by accuracy, no other variant is shown to be better. cnn is worse than linear (-2.0 points "
            "[-4.0, +0.0]). lstm is not judged, because accuracy is not defined there.",
        ),
        (
            [("lstm", "undecided", float("nan"))],
            "There is no verdict: accuracy is not defined for these variants. Name another --metric.",
        ),
        (
            [(f"v{n}", "worse", -n / 100) for n in range(1, 28)],
            "Take linear: by accuracy, v1, v2, v3, v4 and 23 more are worse than linear.",
        ),
    ],
)
def test_the_first_words_say_which_variant_to_take(results, verdicts, answer):
    assert str(find_answer(judged(results, *verdicts))) == answer


def test_of_a_loss_less_is_better(results):
    metric = "log_loss"
    undecided = judged(results, ("lstm", "undecided", -0.03), ("cnn", "undecided", 0.03), metric=metric)
    assert find_answer(undecided).text.startswith(
        "By log loss, no variant is shown to be better than linear, though lstm has a better mean. lstm and cnn cannot "
        "be told from linear within 0.01 nats."
    )
    better = judged(results, ("lstm", "better", -0.03), metric=metric)
    assert "lstm is better than linear (-0.030 nats [-0.050, -0.010])" in find_answer(better).text


def test_the_answer_for_all_pairs_is_about_the_best_variant(comparison):
    results = read_results(comparison, Claims(all_pairs=True))
    best, second, worst = results.ranked()
    answer = find_answer(results)
    assert answer.text == (
        f"Take {best}: by accuracy, no other variant is shown to be better. {second} and {worst} cannot be told from "
        f"{best} within 1 point. Training the runs without a result would decide {worst}, if the difference stays as "
        "it is:"
    )
    assert answer.command == "./launch.sh compare --variants=lstm --pairs=all --repeats=2"
    untrained = results._replace(untrained={best: {"run": Problem("why", "mend")}})
    assert {pair["b"] for pair in main_pairs(untrained)} == {second}


def test_the_answer_for_one_variant_is_its_score(comparison):
    results = read_results(comparison)
    alone = {"lstm": results.plan["variants"]["lstm"]}
    results = results._replace(
        plan=results.plan | {"variants": alone}, estimates={"lstm": results.estimates["lstm"]}, pairs=[]
    )
    score = r"lstm has a test accuracy of [\d.]+ %, 95 % interval \[[\d.]+, [\d.]+\]\."
    assert re.fullmatch(score, str(find_answer(results)))
    untrained = find_answer(results._replace(untrained={"lstm": {"run": Problem("why", "mend")}}))
    assert re.fullmatch(f"{score} Some of its runs did not learn.", str(untrained))


def test_without_a_verdict_the_answer_says_why(results):
    assert str(find_answer(results)) == (
        "There is no verdict: linear:tfidf, the baseline, shares no finished run with another."
    )
    everything = results._replace(claims=results.claims._replace(all_pairs=True))
    assert str(find_answer(everything)) == "There is no verdict: no two variants share a finished run."
    untrained = judged(results, ("lstm", "not trained", 0.2))._replace(untrained={"linear": {}})
    assert str(find_answer(untrained)) == (
        "There is no verdict: runs of linear did not learn. Name another one by --baseline."
    )


def test_parts_that_were_switched_off_are_compared_with_their_wholes(results):
    results = judged(results, ("lstm", "worse", -0.02), ("lstm[model.dropout=0]", "worse", -0.05))
    results.pairs[1]["b"] = "lstm"
    assert find_answer(results).text == (
        "Judged by accuracy: lstm is worse than linear (-2.0 points [-4.0, +0.0]). "
        "lstm[model.dropout=0] is worse than lstm (-5.0 points [-7.0, -3.0])."
    )
    labels = [label.get_text() for label in draw_plot(results, "differences").axes[0].get_yticklabels()]
    assert labels == ["lstm[model.dropout=0]\nagainst lstm", "lstm\nagainst linear"]


@pytest.mark.parametrize(
    "command, repeated",
    [
        ("./launch.sh compare --repeats=2 --workdir='my runs'", "./launch.sh compare '--workdir=my runs' --repeats=3"),
        ("./launch.sh compare --repeats 2 --overwrite --folds=3", "./launch.sh compare --folds=3 --repeats=3"),
        ("./launch.sh compare --until=decided --max_repeats=2", "./launch.sh compare --repeats=3"),
        ("./launch.sh compare --workdir='w", ""),  # damaged
        ("", ""),  # from Python
    ],
)
def test_the_command_is_that_of_the_comparison_with_more_repeats(results, command, repeated):
    results = judged(results, ("lstm", "undecided", 0.0), lstm=3)
    results.plan["command"] = command
    answer = find_answer(results)
    assert answer.command == repeated
    assert answer.text.endswith("would decide this, if the difference stays as it is:") == bool(repeated)
    assert answer.text.endswith("Call compare again with --repeats=3.") == (not repeated)


def test_the_command_asks_for_the_claims_of_the_report_and_for_variants_of_earlier_commands(results):
    results = judged(results, ("lstm", "undecided", 0.0), lstm=3)
    results.plan["command"] = "./launch.sh compare --variants=lstm --margin=2 --workdir=w"
    results.plan["earlier_commands"] = [
        "./launch.sh compare --variants=linear --workdir=w",
        "./launch.sh compare --variants=lstm --margin=2 --workdir=w --repeats=1",
    ]
    claims = results.claims._replace(margin=0.005)
    flags = "--workdir=w --margin=0.5 --repeats=3"
    assert find_answer(results._replace(claims=claims)).command == (
        f"./launch.sh compare --variants=linear {flags} && ./launch.sh compare --variants=lstm {flags}"
    )


def test_what_a_command_alone_cannot_repeat_is_said(results):
    results = judged(results, ("lstm", "undecided", 0.0), lstm=3)
    variants = results.plan["variants"]
    tuned = results._replace(plan=results.plan | {"variants": variants | {"lstm": variants["lstm"] | {"tuned": TUNED}}})
    assert find_answer(tuned).text.endswith("Call tune with --repeats=3 first, then compare with the same.")
    foreign = variants | {"lstm": {"foreign": {"kind": "predictions"}}}
    results = results._replace(plan=results.plan | {"variants": foreign})
    assert find_answer(results).text.endswith("Have lstm predict the rows of splits --repeats=3 first.")
    assert find_answer(tuned).command == find_answer(results).command == ""


def test_one_run_of_each_variant_needs_repeats_and_some_pairs_need_texts(results):
    results = judged(results, ("lstm", "undecided", 0.0), ("cnn", "undecided", 0.0))
    results.plan["repeats"] = 1
    for pair, texts in zip(results.pairs, (12345, 23456), strict=True):
        pair["would_decide"]["texts"] = texts
    assert find_answer(results).text.endswith("13,000 test texts in all would decide lstm.")
    for pair in results.pairs:
        pair["would_decide"] |= {"texts": None, "times_both": 7}
    assert find_answer(results).text.endswith("7 times as many of both would decide lstm.")
    for pair in results.pairs:
        del pair["would_decide"]
    answer = find_answer(results)
    assert answer.text == (
        "There is no verdict. One run of each variant cannot tell a difference from luck; 4 more repeats (about a "
        "minute) can:"
    )
    assert answer.command.endswith("--repeats=5")


def test_minutes_are_those_of_the_runs_divided_among_cores(results):
    results = judged(results, ("lstm", "undecided", 0.0), lstm=3)
    for row in results.rows:
        row |= {"train_seconds": 590.0, "compile_seconds": 10.0}
    assert "1 more repeat (about 20 minutes)" in find_answer(results).text  # 2 variants, 2 folds, 2 cores
    for row in results.rows:
        row["train_seconds"] = ""
    assert "1 more repeat would decide this" in find_answer(results).text
    words = [format_minutes(minutes) for minutes in (0.2, 4.4, 90, 200, 60 * 49)]
    assert words == ["about a minute", "about 4 minutes", "about 90 minutes", "about 3 hours", "about 2 days"]


def test_names_are_joined_as_in_a_sentence():
    assert [join_names("abcdefgh"[:n]) for n in (0, 1, 2, 5, 6)] == [
        "none",
        "a",
        "a and b",
        "a, b, c, d and e",
        "a, b, c, d and 2 more",
    ]


def test_the_picture_has_a_shape_a_word_and_a_whole_marker_for_each_verdict(results):
    of_pairs = [(verdict, verdict, 0.01 * n) for n, verdict in enumerate(VERDICTS)]
    results = judged(results, *of_pairs)
    results.pairs[0]["interval"] = [-0.9, 0.9]
    axes = draw_plot(results).axes[0]
    left, right = axes.get_xlim()
    markers = [line for line in axes.lines if len(line.get_xdata()) == 1]
    ends = [line for line in markers if line.get_marker() in "<>"]
    assert [float(line.get_xdata()[0]) for line in ends] == [left, right]  # of the interval that is too long
    shapes = {(line.get_marker(), line.get_markerfacecolor()) for line in markers if line not in ends}
    assert len({shape for shape, _ in shapes}) == len(VERDICTS)
    assert all(left < line.get_xdata()[0] < right for line in markers if line not in ends)
    [words] = axes.child_axes
    assert [label.get_text() for label in words.get_yticklabels()] == list(VERDICTS)
    assert left < -1 < 1 < right < 40  # the margin is inside, and the end of no interval of 180 points
