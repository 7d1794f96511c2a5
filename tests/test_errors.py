"""Messages name flags in programs, and arguments in Python."""

import ast
import pickle
from pathlib import Path

import pytest

from research.errors import Diverged, UserError, in_python_words

ROOT = Path(__file__).parent.parent
CAUGHT = ("UserError", "Diverged", "WorkerLost", "NoColumn", "SeveralReadings")
ERRORS = ("UserError", "Diverged", "WorkerLost", "not_installed")


@pytest.mark.parametrize(
    ("message", "in_python"),
    [
        ("Use --text_column=review --label_column=stars.", 'Use text="review", label="stars".'),
        ("Use --text_column=title,body", 'Use text=["title", "body"]'),
        ("name another --workdir, or pass --overwrite", "name another workdir, or pass overwrite=True"),
        ("name another with --text_column.", "name another with text=."),
        ("use at least --repeats=2", "use at least repeats=2"),
        ("--config.training.patience=0", "config.training.patience = 0"),
        ("add --config.optimizer.warmup=0.1, or more", "add config.optimizer.warmup = 0.1, or more"),
        ("as --config=bert:minilm does", 'as config="bert:minilm" does'),
        ("Choose '--text_column=full text' --label_column=c; or", 'Choose text="full text", label="c"; or'),
        ("(--clean drops them)", "(clean(corpus) drops them)"),
        (
            "say ./launch.sh compare --corpus='my file.csv' --label_column=2; or ./launch.sh corpora",
            'say compare(corpus="my file.csv", label=2); or corpora()',
        ),
        ("nothing -- to do, 'a--b' and '--c'", "nothing -- to do, 'a--b' and '--c'"),  # words of the user
    ],
)
def test_flags_become_arguments(message, in_python):
    error = UserError(message)
    assert (error.message, str(error)) == (message, in_python)


def test_an_error_says_the_same_after_another_process_has_sent_it():
    error = pickle.loads(pickle.dumps(Diverged("use --config.optimizer.clip_norm=1")))
    assert isinstance(error, Diverged)
    assert (error.message, str(error)) == ("use --config.optimizer.clip_norm=1", "use config.optimizer.clip_norm = 1")


def messages(path):
    """Yield the messages of the errors that a file raises, with "x" for what is filled in."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS:
            for argument in node.args:
                parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in parts)


def test_no_error_of_the_library_names_a_flag_in_python():
    found = {message: path for path in (ROOT / "research").rglob("*.py") for message in messages(path)}
    assert sum("--" in message for message in found) > 30
    assert not [message for message in found if "--" in in_python_words(message)]


def test_an_error_within_an_error_keeps_its_flags():
    """`{error}` or `str(error)` in a message would translate a part of it for programs too: it is `error.message`."""
    for path in [*(ROOT / "research").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ExceptHandler) and getattr(node.type, "id", "") in CAUGHT:
                shown = [part.value for part in ast.walk(node) if isinstance(part, ast.FormattedValue)]
                calls = [part for part in ast.walk(node) if isinstance(part, ast.Call) and part.args]
                shown += [call.args[0] for call in calls if getattr(call.func, "id", "") == "str"]
                assert not [value for value in shown if getattr(value, "id", None) == node.name], path
