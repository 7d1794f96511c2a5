"""Evaluate the texts of a single run, for tests."""

import jax

from research.training.loop import of_run
from research.training.programs import evaluate_runs, evaluation_batches
from research.training.sharding import ONE_DEVICE


def evaluate(programs, variables, texts, widths):
    """Return the metrics of N texts and their class probabilities float32 [N, C], in the order of the texts."""
    variables = jax.tree.map(lambda leaf: leaf[None], variables)
    batches = evaluation_batches([texts], widths, ONE_DEVICE)
    metrics, results = evaluate_runs(programs, variables, batches, [len(texts.labels)])
    return of_run(metrics, 0), results[0]
