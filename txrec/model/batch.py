"""Model input batch: padded histories as tensors.

Rows are padded on the right. Under causal attention no real position sees positions to its right, so padding
needs no mask inside the model.
"""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """B histories of at most L positions. See `txrec.model` for the letters."""

    item_idx: Tensor  # (B, L) int64 item_idx, PAD at a search and at padding
    event: Tensor  # (B, L) int64 EventKind, PAD at padding
    query_idx: Tensor  # (B, L) int64 row of query_vectors, PAD at an item and at padding
    query_vectors: Tensor  # (Q + 1, Dt) float32, row 0 zeros
    ts: Tensor  # (B, L) float32 seconds since the row's first position; 0 where times are unknown
    request_ts: Tensor  # (B, L) float32 seconds, time of the request after the position; same origin
    target: Tensor  # (B, L) int64 item to be predicted, PAD = no loss here
    length: Tensor  # (B,) int64 real positions

    def __len__(self) -> int:
        return len(self.item_idx)

    @property
    def mask(self) -> Tensor:
        """(B, L) bool, True = real position."""
        return torch.arange(self.item_idx.shape[1], device=self.item_idx.device) < self.length[:, None]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in dataclasses.fields(self)}
        return Batch(**moved)
