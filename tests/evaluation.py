"""One run's texts evaluated, as a population of one."""

import jax

from research.training.loop import batches_to_evaluate, evaluate_members, of_member


def evaluate(programs, variables, texts, widths):
    """The metrics of N texts and their class probabilities float32 [N, C], in the order of the texts."""
    one = jax.tree.map(lambda leaf: leaf[None], variables)
    metrics, results = evaluate_members(programs, one, batches_to_evaluate([texts], widths), [len(texts.labels)])
    return of_member(metrics, 0), results[0]
