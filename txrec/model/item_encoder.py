"""Item encoder: a learned embedding per trained item plus text, category, brand and price.

An item without training events uses the *cold* id row; id dropout trains that row together with text, category, brand
and price, so that a product that was never seen lands among its like.
"""

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from txrec.config import ModelConfig
from txrec.data.prepared import Meta
from txrec.model.sharded_table import ShardedTable

CHUNK_ROWS = 2**17
"""Items encoded or compared at once where no gradient is needed: tens of megabytes, whatever the catalogue's size."""


@dataclass(frozen=True, eq=False)
class ItemFeatures:
    """Features of N items as tensors; row 0 is PAD."""

    id_row: Tensor  # (N + 1,) int32 row of the id embedding; the cold row for items without training events
    category: Tensor  # (N + 1,) int32
    brand: Tensor  # (N + 1,) int32
    price_bucket: Tensor  # (N + 1,) int32
    text: Tensor  # (N + 1, Dt) float32; Dt = 0 without text

    @classmethod
    def from_table(
        cls, items: pa.Table, text: np.ndarray | None, num_trained: int, all_cold: bool = False
    ) -> "ItemFeatures":
        """Reads the columns of schema.PREPARED_ITEMS.

        Args:
            items: n rows.
            text: (n, Dt) float32 text vectors, or None.
            num_trained: rows 0..num_trained - 1 have an id embedding.
            all_cold: none of the rows has one (items new to a finished model).
        """
        ids = np.arange(items.num_rows) + 1
        cold = num_trained + 1
        id_row = np.where(all_cold | (ids > num_trained), cold, ids)
        vectors = np.zeros((items.num_rows, 0), np.float32) if text is None else text
        return cls(
            id_row=_with_pad(id_row),
            category=_with_pad(items["category_idx"].to_numpy()),
            brand=_with_pad(items["brand_idx"].to_numpy()),
            price_bucket=_with_pad(items["price_bucket"].to_numpy()),
            text=torch.from_numpy(np.concatenate([np.zeros((1, vectors.shape[1])), vectors]).astype(np.float32)),
        )

    def to(self, device: torch.device | str) -> "ItemFeatures":
        """The same features on another device."""
        return ItemFeatures(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def _with_pad(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.append(0, values).astype(np.int32))


@dataclass(frozen=True)
class Sizes:
    """Sizes of the tables that a model is built with; with the configuration, all that rebuilds it."""

    num_items: int
    num_trained_items: int
    num_categories: int
    num_brands: int
    num_price_buckets: int
    text_dim: int
    has_time: bool

    @property
    def num_competing(self) -> int:
        """Items 1..num_competing are compared in training: the trained ones; without events (judged pairs) all."""
        return self.num_trained_items or self.num_items

    @classmethod
    def of(cls, meta: Meta, text_dim: int) -> "Sizes":
        """Sizes for a prepared data set; `text_dim` 0 = no text vectors."""
        return cls(
            num_items=meta.num_items,
            num_trained_items=meta.num_trained_items,
            num_categories=meta.num_categories,
            num_brands=meta.num_brands,
            num_price_buckets=meta.num_price_buckets,
            text_dim=text_dim,
            has_time=meta.has_time,
        )


class ItemEncoder(nn.Module):
    """item_id -> vector, not normalised: the sum of the parts that the configuration switches on."""

    id_row: Tensor
    category: Tensor
    brand: Tensor
    price_bucket: Tensor
    text: Tensor

    def __init__(self, cfg: ModelConfig, sizes: Sizes) -> None:
        super().__init__()
        self.id_dropout = cfg.id_dropout
        self.cold_row = sizes.num_trained_items + 1
        self.use_text = cfg.use_text and sizes.text_dim > 0
        rows = sizes.num_items + 1
        for name in ("id_row", "category", "brand", "price_bucket"):
            self.register_buffer(name, torch.zeros(rows, dtype=torch.int32))
        self.register_buffer("text", torch.zeros(rows, sizes.text_dim))
        self.ids: nn.Embedding | ShardedTable | None = _table(self.cold_row + 1, cfg.dim) if cfg.use_id else None
        self.sides = nn.ModuleDict()
        if cfg.use_category:
            counts = {
                "category": sizes.num_categories,
                "brand": sizes.num_brands,
                "price_bucket": sizes.num_price_buckets,
            }
            self.sides.update({name: _table(count + 1, cfg.dim) for name, count in counts.items() if count})
        self.project = nn.Linear(sizes.text_dim, cfg.dim, bias=False) if self.use_text else None

    def load_features(self, features: ItemFeatures) -> None:
        """Takes over the catalogue's features."""
        for name in ("id_row", "category", "brand", "price_bucket", "text"):
            getattr(self, name).copy_(getattr(features, name))

    def forward(self, item_ids: Tensor) -> Tensor:
        """(...) int64 -> (..., D); PAD gives zeros."""
        return self._encode(item_ids)

    def all(self) -> Tensor:
        """(N + 1, D) of the whole catalogue, row 0 zeros; without gradients made piece by piece."""
        size = len(self.id_row)
        if torch.is_grad_enabled() or size <= CHUNK_ROWS:
            return self.part(0, size)
        buffers: list[Tensor] = []
        for start in range(0, size, CHUNK_ROWS):
            part = self.part(start, min(start + CHUNK_ROWS, size))
            if not buffers:
                buffers.append(part.new_empty(size, part.shape[1]))
            buffers[0][start : start + len(part)] = part
        return buffers[0]

    def part(self, start: int, stop: int) -> Tensor:
        """(stop - start, D) of the items start..stop - 1, PAD's row zeros."""
        return self._encode(slice(start, stop))

    def _encode(self, which: Tensor | slice) -> Tensor:
        features = ItemFeatures(
            *(getattr(self, name)[which] for name in ("id_row", "category", "brand", "price_bucket", "text"))
        )
        return self.encode(features) * (features.id_row != 0).unsqueeze(-1)

    def encode(self, features: ItemFeatures) -> Tensor:
        """Features with any leading shape -> vectors of that shape."""
        parts = [table(getattr(features, name)) for name, table in self.sides.items()]
        if self.ids is not None:
            parts.append(self.ids(self._drop_ids(features.id_row)))
        if self.project is not None:
            parts.append(self.project(features.text))
        vectors: Tensor = sum(parts[1:], parts[0])
        return vectors

    def _drop_ids(self, rows: Tensor) -> Tensor:
        if not (self.training and self.id_dropout):
            return rows
        dropped = torch.rand(rows.shape, device=rows.device) < self.id_dropout
        return rows.masked_fill(dropped & (rows != 0), self.cold_row)


def _table(rows: int, dim: int) -> nn.Embedding:
    table = nn.Embedding(rows, dim, padding_idx=0)
    nn.init.normal_(table.weight, std=0.02)  # small: a cosine turns a short vector fast, which is quick learning
    with torch.no_grad():
        table.weight[0].zero_()
    return table


def normalise(vectors: Tensor) -> Tensor:
    """L2-normalises the last dimension; zeros stay zeros."""
    return F.normalize(vectors, dim=-1, eps=1e-6)
