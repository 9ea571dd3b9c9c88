"""Head of a catalogue: the most popular fifth of the products that have events; the others are its tail."""

import numpy as np
from numpy.typing import NDArray

HEAD_FRAC = 0.2
"""Share of the products with events that is the head."""


def head_of(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) marks of the head by (N,) numbers of events; of equally popular products the first ones."""
    num_head = int(np.ceil(HEAD_FRAC * (counts > 0).sum()))
    marks = np.zeros(len(counts), np.bool_)
    marks[np.argsort(-counts, kind="stable")[:num_head]] = True
    return marks
