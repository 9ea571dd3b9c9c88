"""History decoder: a causal Transformer over the positions of a user's history, one state per position.

Order enters through attention alone, as a bias that falls with distance; positions have no embedding of their own,
which short logs would only memorise. Where the log has times, attention also weighs events by their age at the time of
the request, and every position knows how long it is until that request.
"""

import torch
from torch import Tensor, nn

from txrec.config import ModelConfig
from txrec.model.batch import Batch
from txrec.model.dropout import Dropout
from txrec.model.layers import GatedBlock, RelativeBias
from txrec.schema import NUM_EVENT_KINDS

NUM_GAPS = 32
"""Buckets of the gap between a position and the next request: powers of two of seconds."""


class HistoryDecoder(nn.Module):
    """A stack of causal gated blocks over [item or query | event kind | time gap]."""

    def __init__(self, cfg: ModelConfig, text_dim: int, has_time: bool) -> None:
        super().__init__()
        self.events = _small(NUM_EVENT_KINDS, cfg.dim)
        self.gaps = _small(NUM_GAPS, cfg.dim) if cfg.use_time and has_time else None
        self.bias = RelativeBias(cfg.num_heads, cfg.use_time and has_time)
        self.query = (
            nn.Sequential(nn.Linear(text_dim, 2 * cfg.dim), nn.GELU(), nn.Linear(2 * cfg.dim, cfg.dim))
            if text_dim
            else None
        )
        self.dropout = Dropout(cfg.dropout)
        self.blocks = nn.ModuleList(GatedBlock(cfg) for _ in range(cfg.num_layers))
        self.norm = nn.LayerNorm(cfg.dim)

    def forward(self, batch: Batch, items: Tensor, place: Tensor | None = None) -> Tensor:
        """States after each position.

        Args:
            batch: the histories.
            items: (B, L, D) item vectors, zeros at searches and padding.
            place: (B,) the only position of each row that is computed, which saves most of the last block; None = all.

        Returns:
            (B, L, D), or (B, 1, D) for one place per row; not normalised; values at padding have no meaning.
        """
        x = self.dropout(items + self._context(batch))
        bias = self.bias(batch.ts, batch.request_ts)
        for block in self.blocks[:-1]:
            x = block(x, bias)
        x = self.blocks[-1](x, bias, place)
        out: Tensor = self.norm(x)
        return out

    def _context(self, batch: Batch) -> Tensor:
        context: Tensor = self.events(batch.event)
        if self.gaps is not None:
            gap_s = (batch.request_ts - batch.ts).clamp_min(0)
            context = context + self.gaps(torch.log2(1 + gap_s).long().clamp_max(NUM_GAPS - 1))
        if self.query is not None and batch.query_vectors.shape[1] > 1 and self._may_ask(batch.query_idx):
            has_query = (batch.query_idx != 0).unsqueeze(-1)
            if self.training or len(batch.query_vectors) > batch.query_idx.numel():
                read = self.query(batch.query_vectors[batch.query_idx])
            else:  # each search once
                read = self.query(batch.query_vectors)[batch.query_idx]
            context = context + read * has_query
        return context

    @staticmethod
    def _may_ask(query: Tensor) -> bool:
        return query.is_cuda or bool(query.any())  # to look would hold an accelerator up for longer than it saves


def _small(rows: int, dim: int) -> nn.Embedding:
    table = nn.Embedding(rows, dim)
    nn.init.normal_(table.weight, std=0.02)
    return table
