"""Next-item objective: a batch to the summed loss; the module that DDP wraps.

Positions without a target (searches that led nowhere, padding, the last event) are dropped before the loss, which is
where most of the arithmetic is; on an accelerator, where counting them would make the host wait, they stay with weight
0. Only trained items compete: a cold item that never could have been the target must not be pushed away.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from txrec.config import TrainConfig
from txrec.model.batch import Batch
from txrec.model.item_encoder import normalise
from txrec.model.losses import FullSoftmax, Negatives, SampledLogits, generalised_bce, sampled_softmax
from txrec.model.retrieval import RetrievalModel
from txrec.torch_compat import multiplies_bfloat16

MAX_FULL_ITEMS = 50_000
"""loss = "auto" takes the full softmax up to this many items."""


class _TargetStates(NamedTuple):
    """(M, D) states, their (M,) targets, and (M,) marks of those that count; None where all do."""

    states: Tensor
    target: Tensor
    counts: Tensor | None = None


class NextItem(nn.Module):
    """Training objective around a retrieval model."""

    def __init__(
        self, model: RetrievalModel, cfg: TrainConfig, counts: Tensor, dtype: torch.dtype = torch.float32
    ) -> None:
        """Wraps a model.

        Args:
            model: trained in place.
            cfg: chooses the loss and the negatives.
            counts: (C,) training events of items 1..C, C = `Sizes.num_competing`.
            dtype: of matrix products, see `product_dtype`.
        """
        super().__init__()
        self.model = model
        self.cfg = cfg
        self.loss = cfg.loss if cfg.loss != "auto" else "full" if len(counts) <= MAX_FULL_ITEMS else "sampled"
        self.full = FullSoftmax(model.cfg.temperature, dtype)
        self.dtype = dtype
        self.negatives = Negatives(cfg.negatives, cfg.num_negatives, counts)
        self.fixed_shapes = False
        """True where nothing is dropped, so that no shape depends on values; see the module."""

    def forward(self, batch: Batch) -> Tensor:
        """Sum of the losses over the batch's targets, a scalar."""
        with torch.autocast(batch.item_idx.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return self._full(batch) if self.loss == "full" else self._sampled(batch)

    def _full(self, batch: Batch) -> Tensor:
        items = self.model.encoder.all()
        states, target, counts = self._with_targets(self.model.states(batch, items), batch.target)
        candidates = normalise(items[1 : self.model.sizes.num_competing + 1])
        return self.full(states.float(), candidates.float(), (target - 1).clamp_min(0), counts)

    def _sampled(self, batch: Batch) -> Tensor:
        states, target, counts = self._with_targets(self.model.states(batch), batch.target)
        negatives = self.negatives()
        positive = normalise(self.model.encoder(target))
        negative = normalise(self.model.encoder(negatives + 1))
        hit = negatives + 1 == target[:, None]
        logits = SampledLogits.of(states, positive, negative, hit, self.model.cfg.temperature, counts)
        if self.loss == "sampled":
            return sampled_softmax(logits, self.negatives.log_expected[negatives])
        return generalised_bce(logits, self.model.sizes.num_competing, self.cfg.gbce_calibration)

    def _with_targets(self, states: Tensor, target: Tensor) -> "_TargetStates":
        has_target = target != 0
        if not self.fixed_shapes:
            return _TargetStates(states[has_target], target[has_target])
        return _TargetStates(states.flatten(0, 1), target.flatten(), has_target.flatten())


def product_dtype(precision: str, device: torch.device | str) -> torch.dtype:
    """The type of matrix products: `auto` takes bfloat16 where the hardware multiplies it natively."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if multiplies_bfloat16() else torch.float32
