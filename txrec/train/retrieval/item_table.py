"""Row-wise Adam for large item embedding tables: sparse gradients, one second moment per row.

AdamW reads and writes three numbers for every number of the table at every step. With a sampled loss a step uses a
few thousand rows: `nn.Embedding(sparse=True)` gives gradients of those alone, and `RowwiseAdam` moves nothing else.
"""

from typing import Any

import torch
from torch import Tensor, nn

from txrec.config import TrainConfig
from txrec.errors import InvariantError, TrainingError
from txrec.model.sharded_table import ShardedTable
from txrec.torch_compat import sparse_rows
from txrec.train.distributed import DistributedContext
from txrec.train.retrieval.next_item_objective import NextItem

ROWWISE_ROWS = 50_000
"""item_optimizer = "auto" takes the row-wise one from this many trained items on."""
WEIGHT = "encoder.ids.weight"
"""The item table's name in a retrieval model."""


class RowwiseAdam(torch.optim.Optimizer):
    """Adam without a first moment and with one second moment per row, for sparse gradients.

    Every row counts its own updates, so that a rare item's first step is as long as a frequent one's; steps are of
    AdamW's length and share its learning rate.
    """

    def __init__(self, weight: nn.Parameter, lr: float | Tensor, beta2: float, eps: float = 1e-8) -> None:
        super().__init__([weight], {"lr": lr, "beta2": beta2, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Moves the rows that have a gradient."""
        for group in self.param_groups:
            weight = group["params"][0]
            gradient = weight.grad.coalesce()
            rows, values = gradient.indices()[0], gradient.values()
            state = self.state[weight]
            if not state:
                state.update(square=torch.zeros_like(weight[:, 0]), updates=torch.zeros_like(weight[:, 0]))
            updates = state["updates"][rows] + 1
            square = state["square"][rows].lerp(values.square().mean(1), 1 - group["beta2"])
            state["updates"][rows], state["square"][rows] = updates, square
            root = (square / (1 - group["beta2"] ** updates)).sqrt() + group["eps"]
            weight.index_add_(0, rows, values * (-group["lr"] / root)[:, None])


class ItemTable:
    """The item table of a model in training, where its gradients are sparse: kept out of DDP and of AdamW."""

    def __init__(self, objective: NextItem, cfg: TrainConfig, world: DistributedContext) -> None:
        """Makes the table's gradients sparse and, with `shard_items`, spreads its rows over the processes."""
        encoder = objective.model.encoder
        if not isinstance(encoder.ids, nn.Embedding):
            raise InvariantError(f"the item ids are a {type(encoder.ids).__name__}, expected an embedding")
        encoder.ids.sparse, encoder.ids.padding_idx = True, None  # the encoder multiplies padding by zero anyway
        self.shard = ShardedTable(encoder.ids, world.rank, world.size) if cfg.shard_items else None
        encoder.ids = self.shard or encoder.ids
        (self.weight,) = encoder.ids.parameters()
        self.world = world
        lr = torch.tensor(cfg.lr, device=self.weight.device) if self.weight.is_cuda else cfg.lr
        self.optimizer = RowwiseAdam(self.weight, lr, cfg.betas[1])

    @classmethod
    def of(cls, objective: NextItem, cfg: TrainConfig, world: DistributedContext) -> "ItemTable | None":
        """The table, or None where it is trained like everything else.

        Raises:
            TrainingError: the configuration asks for what needs a sampled loss, and the loss is a full softmax.
        """
        rows = len(objective.negatives.log_expected)
        is_requested = cfg.shard_items or cfg.item_optimizer == "rowwise"
        if is_requested and objective.loss == "full":
            key = "train.shard_items = true" if cfg.shard_items else 'train.item_optimizer = "rowwise"'
            raise TrainingError(
                f"{key} needs a loss that uses few items per step, found a full softmax over {rows:,}; "
                'set train.loss = "sampled" or "gbce"'
            )
        automatic = cfg.item_optimizer == "auto" and objective.loss != "full" and rows >= ROWWISE_ROWS
        if objective.model.encoder.ids is None or not (is_requested or automatic):
            return None
        return cls(objective, cfg, world)

    def take_gradient(self) -> Tensor:
        """Averages the gradient over the processes as DDP does; returns its (rows, D) values, which may be scaled."""
        if self.weight.grad is None:
            raise InvariantError("the item table has no gradient; take_gradient comes after the backward pass")
        on_gpu = self.weight.is_cuda and self.shard is None  # row 0 of a shard need not be padding
        gradient = fixed_size_coalesced(self.weight.grad) if on_gpu else self.weight.grad.coalesce()
        if self.shard is None and self.world.size > 1:
            rows = self.world.joined(gradient.indices()[0])
            values = self.world.joined(gradient.values())
            gradient = torch.sparse_coo_tensor(rows[None], values, gradient.shape).coalesce()
        self.weight.grad = gradient
        return gradient.values().div_(self.world.size)

    def square_norm(self, values: Tensor) -> Tensor:
        """Squared norm of the whole table's gradient, given that of this process."""
        square = values.square().sum()
        return square if self.shard is None else self.world.sum(square)

    def whole(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The model's weights with all rows of the table, in the first process; every process calls this."""
        return weights if self.shard is None else {**weights, WEIGHT: self.shard.whole(weights[WEIGHT])}

    def part(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The model's weights with the rows of this process, the reverse of `whole`."""
        return weights if self.shard is None else {**weights, WEIGHT: self.shard.part(weights[WEIGHT])}

    def moments(self) -> dict[str, Tensor]:
        """Optimiser moments of all rows, as `whole`."""
        moments = self.optimizer.state[self.weight]
        return {name: value if self.shard is None else self.shard.whole(value) for name, value in moments.items()}

    def load_moments(self, moments: dict[str, Tensor]) -> None:
        """Takes up what `moments` gave."""
        device = self.weight.device
        self.optimizer.state[self.weight] = {
            name: (value if self.shard is None else self.shard.part(value)).to(device)
            for name, value in moments.items()
        }


def fixed_size_coalesced(gradient: Tensor) -> Tensor:
    """Sparse (N, D) with each row once, and zeros of row 0 for as many rows as were brought together.

    How many rows are distinct only a GPU knows, and a step must not wait for it. Row 0 must be padding.
    """
    unsorted, values = sparse_rows(gradient)
    rows, order = unsorted.sort()
    first = torch.ones_like(rows, dtype=torch.bool)
    first[1:] = rows[1:] != rows[:-1]
    place = first.cumsum(0) - 1
    summed = torch.zeros_like(values).index_add_(0, place, values[order])
    distinct = torch.zeros_like(rows).scatter_(0, place, rows)
    return torch.sparse_coo_tensor(distinct[None], summed, gradient.shape, check_invariants=False, is_coalesced=True)
