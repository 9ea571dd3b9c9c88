"""Random seeds of single steps, independent of each other and the same in every process and run."""

import numpy as np

_WORD = 2**64


def step_seed(*numbers: int) -> int:
    """Seed derived from a few integers, e.g. seed, step and rank, for `torch.manual_seed`.

    Every seed, step and rank gives another one, so that no two steps draw the same numbers
    (https://numpy.org/doc/stable/reference/random/parallel.html).
    """
    return int(np.random.SeedSequence([number % _WORD for number in numbers]).generate_state(1, np.uint64)[0])
