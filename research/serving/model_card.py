"""The card of an exported model: what it is, how well it does, on what evidence, and where it ends."""

import json
from pathlib import Path
from typing import Any

from research.reporting.blocks import markdown_table
from research.reporting.run_result import problem_of_run, read_outcome
from research.reporting.tables import ABOUT_A_RUN, run_table
from research.runs import run_files
from research.runs.restore import RestoredRun

_TOKENS = {
    "words": "words",
    "characters": "characters",
    "chinese_words": "words, Chinese ones by a dictionary",
    "pieces": "pieces of words, by the tokenizer of the encoder that it started from",
}
_NOT_IN_TOKENIZER = """Two steps are not in it: HTML entities (`&amp;`) are decoded before it, and where `tokens` in
`model.json` is `chinese_words`, blanks are put between the words that `rjieba` finds in runs of Chinese characters.
"""


def render_card(folder: Path, run: RestoredRun, checked: str) -> str:
    """The card as Markdown.

    Args:
      folder: of the run.
      run: what is in it.
      checked: a sentence on how the exported model was compared with the run.
    """
    record = run_files.read_record(folder)
    config, data = run.described, run.config.data
    texts = ", ".join(f"{count:,} {name}" for name, count in record.get("texts", {}).items())
    held_out = f"fold {config['fold']} of {config['folds']}" if config["folds"] else "the corpus's own test split"
    versions = "; ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    tested = (folder / run_files.PREDICTIONS).exists()
    looked = f"The test texts ({held_out}, repeat {config['repeat']}) were looked at once, afterwards." * tested
    return f"""# {run.config.model.module} on {run.corpus_name}

Says which of {len(run.class_names)} classes a text belongs to, and how probable each is: {", ".join(run.class_names)}.

## Data

{run.corpus_name}, SHA-256 `{config["corpus"]["checksum"]}`; {texts or "how many texts is not recorded"}.

## Protocol

{_origin(run)} {_epoch(run, record)}
{looked}

## How well it does

{_scores(folder, run.is_of_other_code)}

## Where it ends

- It was trained {"and tested " * tested}on {run.corpus_name}. On texts of another kind, time or language it does
  worse, and the intervals do not say by how much.
- It reads the {data.keep} {data.max_length:,} tokens of a text ({_TOKENS[data.tokens]}) and no more, and knows
  {len(run.vocabulary) - 2:,} of them; all others are one and the same to it.
- Every text gets one of its classes, one without any meaning too.
- What is unjust or wrong in the labels that it learned from, it has learned.

## How to use it

`pip install -r requirements.txt`, then `echo "a text" | python run.py`; `run.py` is short and shows the rest.
`tokenizer.json` opens in any client of the `tokenizers` library.
{_NOT_IN_TOKENIZER * (data.tokens != "pieces")}Token ids are padded with 0 behind the text.

{checked}

## Settings

Run `{folder.resolve().name}`, hash `{run.hash}`, {record.get("date", "no date")};
commit `{record.get("commit") or "unknown"}`; {versions or "versions are not recorded"}.

```json
{json.dumps(config["settings"], indent=2, ensure_ascii=False)}
```
"""


def _origin(run: RestoredRun) -> str:
    """Where vocabulary and weights come from."""
    data, began = run.config.data, []
    if data.weights != "none":
        learnt = "" if data.from_scratch else ", and so is what its weights began with"
        began.append(f"The vocabulary is that of the pretrained encoder {data.weights}{learnt}.")
    if data.vectors != "none":
        began.append(f"Its word vectors began with those of {data.vectors}.")
    if run.config.init_from != "none":
        began.append(f"Its weights began with those of another run, {run.config.init_from}.")
    return " ".join([*began, "All else" if began else "Vocabulary and weights"]) + (
        " comes from the training texts." if began else " come from the training texts."
    )


def _epoch(run: RestoredRun, record: dict[str, Any]) -> str:
    training, epoch = run.config.training, record.get("best_epoch", "not recorded")
    if training.select == "last":
        return f"The last epoch ({epoch}) was taken."
    chosen_by = record.get("chosen_by", training.select)
    return f"The epoch ({epoch} of at most {training.epochs}) was chosen by {chosen_by} on validation texts."


def _scores(folder: Path, other_code: bool) -> str:
    if not (folder / run_files.PREDICTIONS).exists():
        return "It was not tested."
    if run_files.has_changed_predictions(folder):
        return "Nobody knows: the file with its predictions was changed after the run."
    outcome = read_outcome(folder, (0, 0))
    table = markdown_table(*run_table(outcome)[:2])
    changed = " The code of the model has changed since: what is exported is not what had these scores." * other_code
    problem = problem_of_run(folder)
    untrained = "" if problem is None else f" It counts as not trained: {problem.why}."
    return f"On {len(outcome.id):,} test texts:\n\n{table}\n{ABOUT_A_RUN}{changed}{untrained}"
