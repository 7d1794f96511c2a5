"""The card of an exported model: what it is, how well it predicts, on what evidence, and its limits."""

import json
from pathlib import Path
from typing import Any

from research.reporting.documents import markdown_table
from research.reporting.refit_evidence import (
    NOT_TESTED,
    describe_evidence,
    describe_length,
    evidence_table,
    read_evidence,
)
from research.reporting.run_result import problem_of_run, read_outcome
from research.reporting.tables import ABOUT_A_RUN, run_table
from research.runs import run_files
from research.runs.restore import RestoredRun
from research.settings import is_tokenizer_file

_TOKENS = {
    "words": "words",
    "characters": "characters",
    "chinese_words": "words; Chinese text is split by a dictionary",
    "pieces": "pieces of words, by the tokenizer of the encoder that it started from",
}
_NOT_IN_TOKENIZER = """It lacks two steps, which `run.py` does first: it decodes HTML entities (`&amp;`), and if
`tokens` in `model.json` is `chinese_words`, it puts blanks between the words that `rjieba` finds in Chinese text.
"""


def render_card(folder: Path, run: RestoredRun, checked: str) -> str:
    """Return the card as Markdown.

    Args:
      folder: the run's folder.
      run: the restored run.
      checked: a sentence that says how the exported model was compared with the run.
    """
    record = run_files.read_record(folder)
    config, data = run.description, run.config.data
    texts = ", ".join(f"{count:,} {name}" for name, count in record.get("texts", {}).items())
    versions = "; ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    is_tested = (folder / run_files.PREDICTIONS).exists()
    is_fitted = data.weights == "none" and not is_tokenizer_file(data.tokens)  # the tokenizer
    not_in_tokenizer = _NOT_IN_TOKENIZER if is_fitted else ""
    return f"""# {run.config.model.module} on {run.corpus_name}

Predicts which of {len(run.class_names)} classes a text belongs to, with probabilities: {", ".join(run.class_names)}.

## Data

{run.corpus_name}, SHA-256 `{config["corpus"]["checksum"]}`; {texts or "the number of texts is not recorded"}.

## Protocol

{_origin(run)} {_epoch(run, record)}
{_test_sentence(run, is_tested)}

## Results

{_evidence(record) if run.is_refit else _scores(folder, run.has_changed_code)}

## Limits

- It was trained {"and tested " if is_tested else ""}on {run.corpus_name}. It predicts worse on texts of another kind,
  time or language, and the intervals do not say by how much.
- {_reads(run, is_fitted)}
- Every text gets one of the classes, even a text without any meaning.
- It has learned whatever is wrong or unjust in the labels that it was trained on.

## How to use it

`pip install -r requirements.txt`, then `echo "a text" | python run.py`; `run.py` is short and shows the rest.
`tokenizer.json` opens in any client of the `tokenizers` library.
{not_in_tokenizer}Token ids are padded with 0 after the text.

{checked}

## Settings

Run `{folder.resolve().name}`, hash `{run.hash}`, {record.get("date", "no date")};
commit `{record.get("commit") or "unknown"}`; {versions or "versions are not recorded"}.

```json
{json.dumps(config["settings"], indent=2, ensure_ascii=False)}
```
"""


def _reads(run: RestoredRun, is_fitted: bool) -> str:
    """Return sentences that say how much of a text is read, as which tokens; `is_fitted` if the tokenizer was."""
    data = run.config.data
    kind = _TOKENS.get(data.tokens, "tokens of a tokenizer file that was given")
    read = f"It reads only the {data.keep} {data.max_length:,} tokens of a text ({kind})."
    if is_fitted:
        count = len(run.vocabulary) - 2
        return f"{read} It knows\n  {count:,} different tokens; all others look the same to it."
    return f"{read}\n  Its tokenizer has {len(run.vocabulary):,} different tokens."


def _origin(run: RestoredRun) -> str:
    """Return sentences that say where vocabulary and weights come from."""
    data, sentences = run.config.data, []
    if data.weights != "none":
        weights = "" if data.from_scratch else ", and so are its initial weights"
        sentences.append(f"The vocabulary is that of the pretrained encoder {data.weights}{weights}.")
    if is_tokenizer_file(data.tokens):
        sentences.append("The vocabulary is that of a tokenizer file.")
    if data.vectors != "none":
        sentences.append(f"Its initial word vectors are those of {data.vectors}.")
    if run.config.init_from != "none":
        sentences.append(f"Its initial weights are those of another run, {run.config.init_from}.")
    if not sentences:
        return "Vocabulary and weights come from the training texts."
    return " ".join([*sentences, "All else comes from the training texts."])


def _epoch(run: RestoredRun, record: dict[str, Any]) -> str:
    """Return a sentence that says which epoch was chosen, and how."""
    training, epoch = run.config.training, record.get("best_epoch", "not recorded")
    if run.is_refit:
        evidence = read_evidence(record)
        return f"It was trained for {epoch} epoch(s)." if evidence is None else describe_length(evidence, epoch)
    if training.select == "last":
        return f"The last epoch ({epoch}) was taken."
    chosen_by = record.get("chosen_by", training.select)
    return f"The epoch ({epoch} of at most {training.epochs}) was chosen by {chosen_by} on validation texts."


def _test_sentence(run: RestoredRun, is_tested: bool) -> str:
    """Return a sentence that says what the run was tested on; empty if it was not tested, as a trial of `tune`."""
    config = run.description
    if not is_tested:
        return NOT_TESTED if run.is_refit else ""
    held_out = f"fold {config['fold']} of {config['folds']}" if config["folds"] else "the corpus's own test split"
    return f"The test texts ({held_out}, repeat {config['repeat']}) were looked at once, afterwards."


def _evidence(record: dict[str, Any]) -> str:
    """Return the scores that stand for a model that was trained on all texts, as a table, and what they mean."""
    evidence = read_evidence(record)
    if evidence is None:
        return "Nothing is known about how well it predicts."
    table = evidence_table(evidence)
    sentences = " ".join(describe_evidence(evidence))
    return f"These are not scores of this model. {sentences}\n\n{markdown_table(table.header, table.rows)}"


def _scores(folder: Path, is_of_other_code: bool) -> str:
    """Return the run's scores with intervals as a table, or a sentence that says why there are none."""
    if not (folder / run_files.PREDICTIONS).exists():
        return "It was not tested."
    if run_files.has_changed_predictions(folder):
        return "The scores are unknown: the file with the test predictions was changed after the run."
    outcome = read_outcome(folder, (0, 0))
    table = run_table(outcome)
    sentences = [ABOUT_A_RUN]
    if is_of_other_code:
        sentences.append("The code of the model has changed since: the exported model is not the one that was scored.")
    if problem := problem_of_run(folder):
        sentences.append(f"It counts as not trained: {problem.why}.")
    rows = markdown_table(table.header, table.rows)
    return f"On {len(outcome.id):,} test texts:\n\n{rows}\n{' '.join(sentences)}"
