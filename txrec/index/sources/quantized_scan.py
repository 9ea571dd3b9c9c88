"""Quantised scan: exact k nearest vectors by inner product, preselected by products of 8-bit integers."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from txrec.index.source import NO_ITEMS, Mask, Scored, best, bound, distinct_masks
from txrec.torch_compat import int8_matmul

STATE_LEVELS, ITEM_LEVELS = 127, 63
"""Greatest integers of states and items. Processors without VNNI saturate above 2^15 = 2 x 256 x 64."""
QUANTIZATION_MARGIN = 4.0
"""Standard deviations of the rounding error within which an item below the k-th coarse score is scored exactly."""
LOWEST = np.iinfo(np.int32).min


class QuantizedScan:
    """Scan over (N + 1, D) L2-normalised vectors, row 0 zeros.

    One integer product answers a whole batch in an eighth of the time of floats. It selects every item whose coarse
    score is within a margin of the k-th highest; the full vectors score the selected items.

    Margin: a vector u is stored as the integers a = u / s + e, where s is the step of the quantisation and the rounding
    error e is uniform on [-1/2, 1/2], so its variance is 1/12 in each dimension. For two vectors of length 1, u / s has
    the length 1 / s, and the error of a product of integers is (u / s) . f + e . (v / t) + e . f. The variances of the
    first two terms are 1 / (12 s^2) and 1 / (12 t^2); the third, D / 144, is negligible. The margin is
    QUANTIZATION_MARGIN times the root of their sum.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """Takes the vectors; they are quantised by the first search, or by `warm`."""
        self.vectors = vectors

    def warm(self) -> None:
        """Quantises the vectors."""
        _ = self._quantized

    def search(self, states: NDArray[np.float32], k: int, allowed: Sequence[Mask]) -> list[Scored]:
        """The k best items of each state among those that its mask allows; none for a state of zeros.

        Args:
            states: (B, D).
            k: at most this many items per state.
            allowed: (B,) masks, (N + 1,) each; None = all items.
        """
        coarse, margin = self.coarse(states)
        for mask in distinct_masks(allowed):
            if mask is not None:
                same = np.flatnonzero([one is mask for one in allowed])
                coarse[np.ix_(same, np.flatnonzero(~mask))] = LOWEST
        rows = []
        for state, scores, mask in zip(states, coarse, allowed, strict=True):
            ids = _within_margin(scores, k, margin) if state.any() else NO_ITEMS.item_idx
            ids = ids if mask is None else ids[mask[ids]]
            rows.append(best(ids, self.vectors.take(ids, axis=0) @ state, k, None))
        return rows

    def coarse(self, states: NDArray[np.float32]) -> tuple[NDArray[np.int32], int]:
        """(B, N + 1) integer products of (B, D) states and the items, and their margin of error."""
        (items, item_step), (quantized, state_step) = self._quantized, _quantize(states, STATE_LEVELS)
        margin = round(QUANTIZATION_MARGIN * ((state_step**-2 + item_step**-2) / 12) ** 0.5)
        return int8_matmul(quantized, items.T).numpy(), margin

    @cached_property
    def _quantized(self) -> tuple[torch.Tensor, float]:
        return _quantize(self.vectors, ITEM_LEVELS)


def _quantize(vectors: NDArray[np.float32], levels: int) -> tuple[torch.Tensor, float]:
    """Vectors as integers from -levels to levels, and the value of 1."""
    step = max(float(np.abs(vectors).max(initial=0.0)), 1e-9) / levels
    scaled = vectors / np.float32(step)
    return torch.from_numpy(np.rint(scaled, out=scaled).astype(np.int8)), step


def _within_margin(scores: NDArray[np.int32], k: int, margin: int) -> NDArray[np.int32]:
    """Ids from 1 on whose score is at least the k-th highest minus `margin`; ascending."""
    if len(scores) - 1 <= k:
        return np.arange(1, len(scores), dtype=np.int32)
    near: NDArray[np.int64] = np.flatnonzero(scores[1:] >= bound(scores[1:], k) - margin)
    return (near + 1).astype(np.int32)
