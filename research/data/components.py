"""Number the groups of texts that depend on each other, as the connected components of a graph."""

from collections.abc import Iterable

import numpy as np


def join_groups(hashes: list[str], groups: list[str]) -> np.ndarray:
    """Return a number for each row, int32 [N]; rows with equal text or equal (non-empty) group share it."""
    first: dict[tuple[str, str], int] = {}
    by_text = [(first.setdefault(("text", content), i), i) for i, content in enumerate(hashes)]
    by_group = [(first.setdefault(("group", group), i), i) for i, group in enumerate(groups) if group]
    return label_components(len(hashes), [pair for pair in by_text + by_group if pair[0] != pair[1]])


def label_components(count: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return for each node below `count` the smallest node of its connected component, int32 [count]."""
    edges = np.array([*pairs], np.int64).reshape(-1, 2)
    if not len(edges):
        return np.arange(count, dtype=np.int32)
    # Imported here, because most corpora have no copies and every worker process loads one.
    from scipy.sparse import coo_array, csgraph

    graph = coo_array((np.ones(len(edges)), edges.T), (count, count))
    _, component = csgraph.connected_components(graph, directed=False)
    _, smallest = np.unique(component, return_index=True)
    return smallest[component].astype(np.int32)
