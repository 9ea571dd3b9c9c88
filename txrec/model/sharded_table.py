"""Sharded embedding table: rows spread over worker processes, for catalogues larger than one device.

Row r lives in process r % size, so that items of like frequency are spread evenly. A lookup asks the owners for each
distinct row once and sends gradients back the same way; every process must look up at the same time.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

_ROWS_AT_ONCE = 2**20


class ShardedTable(nn.Module):
    """Embedding table sharded over processes; `weight` holds the rows of this process, its gradient is sparse."""

    def __init__(self, table: nn.Embedding, rank: int, size: int) -> None:
        super().__init__()
        self.rows, self.rank, self.size = table.num_embeddings, rank, size
        self.weight = nn.Parameter(self.part(table.weight.detach()))
        # of its own: lookups must not be mixed up with the reductions that DDP starts meanwhile
        self.group = dist.new_group() if size > 1 else None

    def forward(self, ids: Tensor) -> Tensor:
        """(...) rows -> (..., D)."""
        distinct, place = torch.unique(ids.long().flatten(), return_inverse=True)
        owner = distinct % self.size
        order = owner.argsort(stable=True)
        num_requested = torch.bincount(owner, minlength=self.size)
        num_owed = self._exchange(torch.ones_like(num_requested), torch.ones_like(num_requested), num_requested)
        rows = self._exchange(num_requested, num_owed, distinct[order] // self.size)
        owed = F.embedding(rows, self.weight, sparse=True)
        received = _Exchange.apply(owed, num_owed, num_requested, self.group)  # type: ignore[no-untyped-call]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        vectors: Tensor = received[back][place].unflatten(0, ids.shape)
        return vectors

    def part(self, whole: Tensor) -> Tensor:
        """The rows of this process out of a whole table, as many in every process."""
        rows = whole[self.rank :: self.size]
        missing = -(-self.rows // self.size) - len(rows)
        return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]) if missing else rows.clone()

    def whole(self, part: Tensor) -> Tensor:
        """The whole table on the CPU, in the first process; empty in the others, which call this as well."""
        gathered = torch.empty(len(part) if self.rank == 0 else 0, self.size, *part.shape[1:], dtype=part.dtype)
        for start in range(0, len(part), _ROWS_AT_ONCE):
            piece = part[start : start + _ROWS_AT_ONCE].contiguous()
            pieces = [torch.empty_like(piece) for _ in range(self.size)] if self.rank == 0 else None
            if self.size > 1:
                dist.gather(piece, pieces, group=self.group)
            if pieces is not None:
                gathered[start : start + len(piece)] = torch.stack(pieces if self.size > 1 else [piece], dim=1)
        return gathered.flatten(0, 1)[: self.rows]

    def _exchange(self, counts: Tensor, counts_back: Tensor, values: Tensor) -> Tensor:
        exchanged: Tensor = _Exchange.apply(values, counts, counts_back, self.group)  # type: ignore[no-untyped-call]
        return exchanged


class _Exchange(torch.autograd.Function):
    """Sends `counts[p]` rows to process p and receives `counts_back[p]` from it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, counts: Tensor, counts_back: Tensor, group: Any) -> Tensor:
        sent, received = counts.tolist(), counts_back.tolist()
        ctx.splits, ctx.group = (sent, received), group
        return _all_to_all(values, sent, received, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        sent, received = ctx.splits
        return _all_to_all(grads[0].contiguous(), received, sent, ctx.group), None, None, None


def _all_to_all(values: Tensor, sent: list[int], received: list[int], group: Any) -> Tensor:
    if group is None:
        return values
    output = values.new_empty(sum(received), *values.shape[1:])
    dist.all_to_all_single(output, values, received, sent, group=group)
    return output
