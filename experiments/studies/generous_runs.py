"""Train a variant once and generously, on texts drawn from a corpus; a worker process of `protocol.py` does this."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.variants import load_config
from research.data.corpora import Corpus, load, make_corpus
from research.data.reader import Row
from research.errors import UserError
from research.json_files import write_json
from research.runs import run_files

_EPOCHS, _TEST_TEXTS = 60, 1500


class Job(NamedTuple):
    """One generous run."""

    corpus: str
    size: int
    variant: str
    repeat: int

    @property
    def name(self) -> str:
        return run_files.folder_name(f"{Path(self.corpus).stem}-{self.size}-{self.variant}-{self.repeat}")


class Epoch(NamedTuple):
    """The scores after an epoch; test accuracy only for epochs that a rule may choose: records and the last."""

    step: int
    loss: float  # of validation
    accuracy: float  # of validation
    macro_f1: float
    test_accuracy: float | None


def _draw(corpus: Corpus, job: Job) -> Corpus:
    """Draw a corpus with as many training texts as a fold has, and with a test split of other texts."""
    label_of: dict[str, str] = {}
    for text, label in zip(corpus.texts, corpus.labels, strict=True):
        label_of.setdefault(text, corpus.class_names[label])
    rows = [Row(text, label, "", corpus.name) for text, label in sorted(label_of.items())]
    count = int(0.8 * job.size)
    if count >= len(rows):
        raise UserError(f"--sizes has {job.size}, expected fewer than {corpus.name} has, {len(rows):,}")
    random = np.random.default_rng((job.repeat, job.size))
    order = random.permutation(len(rows))
    labels = np.array([rows[i].label for i in order])
    ranks = np.empty(len(order))
    for label in np.unique(labels):  # in proportion to the classes, at least three of each
        of_class = np.flatnonzero(labels == label)
        ranks[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
        ranks[of_class[:3]] = -1
    train = order[np.argsort(ranks, kind="stable")][:count]
    test = random.permutation(np.setdiff1d(order, train))[:_TEST_TEXTS]
    return make_corpus(corpus.name, {"train": [rows[i] for i in train], "test": [rows[i] for i in test]})


def train_generously(shared: tuple[list[str], Path], job: Job, report: Callable[[], None]) -> str:
    """Train one generous run in a worker process and write its course; return its name."""
    overrides, folder = shared
    from research.runs.prepare import Run, fresh_state, prepare_run
    from research.training.loop import fit, stack
    from research.training.programs import classifier_task, evaluate_runs, evaluation_batches, programs_for
    from research.training.sharding import ONE_DEVICE

    config = load_config(job.variant, [f"--config.training.epochs={_EPOCHS}", *overrides])
    corpus = _draw(load(job.corpus), job)
    programs = programs_for(config, len(corpus.class_names))
    prepared = prepare_run(Run(config, folder, repeat=job.repeat, overwrite=True), corpus, None)
    texts = prepared.texts
    batches = list(evaluation_batches([texts.test], texts.shapes.widths, ONE_DEVICE))
    task = classifier_task(programs, [prepared.data], config.training, texts.shapes)
    epochs: list[Epoch] = []
    fresh = ONE_DEVICE.put(stack([fresh_state(programs, prepared)]))
    for states, ((_, validation),) in fit(task, fresh, _EPOCHS, done=[0]):
        test_accuracy = None
        if _is_record(validation, epochs) or validation["epoch"] == _EPOCHS:
            probabilities = evaluate_runs(programs, states.variables, batches, [len(texts.test.labels)])[1][0]
            test_accuracy = float(np.mean(probabilities.argmax(axis=1) == texts.test.labels))
        values = (validation[name] for name in ("step", "loss", "accuracy", "macro_f1"))
        epochs.append(Epoch(*values, test_accuracy))
        report()  # ends this function if the program was stopped
        del states  # their memory is given to the next step
    labels = np.bincount(texts.train.labels).tolist()
    write_json(folder / f"{job.name}.json", [job, labels, len(texts.validation.labels), epochs])
    return job.name


def _is_record(validation: dict, before: Sequence[Epoch]) -> bool:
    """Return whether a rule may choose the epoch: no earlier one has a better score, or a lower loss."""
    at_least = all(e.accuracy <= validation["accuracy"] for e in before)
    f1_at_least = all(e.macro_f1 <= validation["macro_f1"] for e in before)
    return at_least or f1_at_least or all(e.loss > validation["loss"] for e in before)
