"""Hold what a run predicted for its test texts. All statistics start here."""

from typing import NamedTuple

import numpy as np


class Outcome(NamedTuple):
    """The predictions of one run on its test texts, sorted by id."""

    run: tuple[int, int]  # (repeat, fold)
    id: np.ndarray  # str [N]
    label: np.ndarray  # int32 [N]
    probabilities: np.ndarray  # float32 [N, C]; scores whose largest is the prediction, if `kind` says so
    group: np.ndarray | None = None  # int [N]; texts of one group (copies, one author's texts) count as one
    kind: str = "probabilities"  # one of `metrics.KINDS`
