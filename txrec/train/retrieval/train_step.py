"""Training step of the retrieval model: forward, backward, gradient clipping and the optimisers' updates on a device.

One process or one of several workers: losses are summed and divided by the number of targets of the whole step, over
all workers. A single GPU replays recorded steps (`txrec.train.retrieval.cuda_graphs`).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from txrec.config import TrainConfig
from txrec.model.batch import Batch
from txrec.torch_compat import exclude_from_ddp, scale
from txrec.train import optimizer
from txrec.train.distributed import DistributedContext
from txrec.train.retrieval.cuda_graphs import StepGraphs
from txrec.train.retrieval.item_table import WEIGHT, ItemTable
from txrec.train.retrieval.next_item_objective import NextItem
from txrec.train.seeds import step_seed


class BrokenStep(NamedTuple):
    """First step whose gradient norm was not finite."""

    step: int
    norm: float


class TrainStep:
    """Steps of one objective, with its module under DDP, its optimisers and the norm of its gradients.

    Attributes:
        objective: the loss, with the model.
        module: the objective, or its wrapper where several workers train.
        table: the item table where it has an optimiser of its own.
        optimizer: of everything else.
    """

    def __init__(
        self, objective: NextItem, cfg: TrainConfig, seed: int, world: DistributedContext, device: torch.device
    ) -> None:
        self.objective = objective.to(device)
        objective.fixed_shapes = device.type == "cuda"
        self.table = ItemTable.of(objective, cfg, world)
        if cfg.compile:
            for block in objective.model.decoder.blocks:  # all blocks share what is compiled for the first
                block.compile(dynamic=True)
        self.module = self._distributed() if world.size > 1 else objective
        self.optimizer = optimizer.adamw(objective.modules(), cfg, None if self.table is None else self.table.weight)
        self.seed = seed
        self._cfg = cfg
        self._world = world
        self._device = device
        self._broken = torch.tensor([-1.0, 0.0], dtype=torch.float64, device=device)  # first bad step and its norm
        self._step = torch.zeros((), dtype=torch.float64, device=device)
        self.graphs = StepGraphs(lambda batch: self._compute(batch, True)) if self._can_record() else None

    def __call__(self, batch: Batch, step: int, done_frac: float, update: bool) -> Tensor:
        """Forward and backward for one batch, and the optimisers' step.

        Args:
            batch: of this process.
            step: number of the step; with seed and rank it decides everything random.
            done_frac: share of the whole training done before it, for the learning rate.
            update: False while gradients are accumulated.

        Returns:
            (3,) sum of the losses, number of targets, number of tokens.
        """
        torch.manual_seed(step_seed(self.seed, step, self._world.rank))
        self._step.fill_(step)
        for part in self._optimizers():
            optimizer.set_lr(part, optimizer.lr_at(self._cfg, done_frac))
        batch = batch.to(self._device)
        return self._compute(batch, update) if self.graphs is None else self.graphs(batch)

    def broken(self) -> BrokenStep | None:
        """The first step with a gradient norm that is not finite; waits for the accelerator. None = no such step."""
        step, norm = self._broken.tolist()
        return BrokenStep(int(step), norm) if step >= 0 else None

    def clip(self) -> Tensor:
        """Scales the gradients down to the greatest norm allowed and returns the norm that they had."""
        if self.table is None:
            return nn.utils.clip_grad_norm_(self.objective.parameters(), self._cfg.clip_norm)
        rows = self.table.take_gradient()
        dense = [p.grad for p in self.objective.parameters() if p.grad is not None and p is not self.table.weight]
        norm = (nn.utils.get_total_norm(dense).square() + self.table.square_norm(rows)).sqrt()
        scale([*dense, rows], (self._cfg.clip_norm / (norm + 1e-6)).clamp_max(1.0))
        return norm

    def _distributed(self) -> nn.Module:
        parallel = nn.parallel.DistributedDataParallel
        if self.table is not None:  # its gradients are few rows of many; `ItemTable` brings them together
            exclude_from_ddp(self.objective, [f"model.{WEIGHT}"])
        # a batch without a query leaves the query encoder out; the buffers are the catalogue's features, the same
        # everywhere and too many to be sent at every step
        has_queries = self.objective.model.decoder.query is not None
        return parallel(self.objective, find_unused_parameters=has_queries, broadcast_buffers=False)

    def _can_record(self) -> bool:
        sharded = self.table is not None and self.table.shard is not None
        return self._device.type == "cuda" and self._world.size == 1 and self._cfg.accumulate == 1 and not sharded

    def _compute(self, batch: Batch, update: bool) -> Tensor:
        """The part of a step that is on the device."""
        num_targets = (batch.target != 0).sum()
        targets = self._world.sum(num_targets.clone())
        loss = self.module(batch)
        (loss * (self._world.size / targets / self._cfg.accumulate)).backward()
        if update:
            self._update()
        return torch.stack([loss.detach(), num_targets, batch.length.sum()]).double()

    def _update(self) -> None:
        norm = self.clip()
        unchanged = torch.isfinite(norm) | (self._broken[0] >= 0)
        self._broken.copy_(torch.where(unchanged, self._broken, torch.stack([self._step, norm.double()])))
        if self._device.type == "cpu" and not torch.isfinite(norm):
            return
        for part in self._optimizers():
            part.step()
            part.zero_grad(set_to_none=True)

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.optimizer] if self.table is None else [self.optimizer, self.table.optimizer]
