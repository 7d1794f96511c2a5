"""One run's texts evaluated, as a population of one."""

import jax

from research.training.loop import of_run
from research.training.programs import evaluate_runs, evaluation_batches
from research.training.sharding import ONE_DEVICE


def evaluate(programs, variables, texts, widths):
    """The metrics of N texts and their class probabilities float32 [N, C], in the order of the texts."""
    one = jax.tree.map(lambda leaf: leaf[None], variables)
    metrics, results = evaluate_runs(
        programs, one, evaluation_batches([texts], widths, ONE_DEVICE), [len(texts.labels)]
    )
    return of_run(metrics, 0), results[0]
