"""Retrieval training examples: windows of positions with targets in the training part, batched by length.

A window is at most `max_length` positions. Users with longer histories give several windows, cut at other places
every epoch. Batches hold windows of like length and about the same number of tokens, so that little is padding.
Everything random follows from (seed, epoch).

On an accelerator batches come in few shapes, widths in steps and as many rows as the budget of tokens allows, filled up
with empty windows: a shape that came before costs neither compiling nor the launching of kernels one by one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from txrec.arrays import ragged_gather
from txrec.config import ModelConfig, TrainConfig
from txrec.data.prepared import Sequences
from txrec.errors import TrainingError
from txrec.model import history_features
from txrec.model.batch import Batch
from txrec.model.history_features import History, Positions, PositionTensors, Windows
from txrec.schema import EVENT_CODES, Split

POOL_BATCHES = 16
"""Windows are sorted by length within pools of this many batches: enough to save padding, random enough to mix."""

WIDTH_STEP = 16
"""Widths of batches on an accelerator are multiples of this."""

NOTHING_TO_LEARN = (
    "no training example: no user has an event before another one in the training part; expected a log whose users or "
    "sessions have several events: check [[data.events]], columns.user_id and columns.session_id, and that "
    "prepare.split leaves most of the log to training"
)


@dataclass(frozen=True, eq=False)
class Examples:
    """All training positions of a data set (or of one shard of it), ready to be cut into batches."""

    positions: Positions
    target: NDArray[np.int32]  # (P,) PAD = no target
    request_ts: NDArray[np.int64]  # (P,) time of the request for the target, microseconds, 0 = unknown
    ends: NDArray[np.int64]  # (U,) one past each user's last position that has a target
    query_vectors: Tensor | None
    model: ModelConfig
    train: TrainConfig
    device: torch.device | str = "cpu"
    """Device of the positions and batches."""

    @classmethod
    def of(
        cls,
        sequences: Sequences,
        query_vectors: Tensor | None,
        model: ModelConfig,
        train: TrainConfig,
        device: torch.device | str = "cpu",
    ) -> "Examples":
        """Builds the examples from the training part of the users' events.

        Raises:
            TrainingError: nobody has two training events in a row.
        """
        events, offsets = training_part(sequences)
        positions = history_features.to_positions(events, offsets, [EVENT_CODES[kind] for kind in train.target_events])
        target, query = positions.next_targets()
        ends = _after_last(target != 0, positions.offsets)
        if not (ends > 0).any():
            raise TrainingError(NOTHING_TO_LEARN)
        vectors = None if query_vectors is None else query_vectors.to(device)
        return cls(positions, target, query, ends, vectors, model, train, device)

    def windows(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(W,) starts and ends of one epoch's windows in the flat positions; they cover every target once."""
        users = np.flatnonzero(self.ends > 0)
        first, last = self.positions.offsets[users], self.ends[users]
        length = self.model.max_length
        latest = np.where(
            last - first > length, rng.integers(1, length + 1, len(users)), length
        )  # of the latest window
        counts = 1 + np.maximum(-(-(last - first - latest) // length), 0)
        rank = ragged_gather(np.zeros_like(counts), counts)  # 0 = latest window
        first, last, latest = (np.repeat(a, counts) for a in (first, last, latest))
        ends = np.where(rank > 0, last - latest - (rank - 1) * length, last)
        starts = np.where(rank > 0, ends - length, last - latest)
        return np.maximum(starts, first), ends

    def batches(
        self, seed: int, epoch: int, world_size: int = 1, buffer: int = 0
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """(starts, ends) of every step of an epoch (of its `buffer`-th part), for all workers together, in order."""
        rng = np.random.default_rng([seed, epoch, buffer])  # a zero at the end changes nothing
        starts, ends = self.windows(rng)
        order = rng.permutation(len(starts))
        starts, ends = starts[order], ends[order]
        widths = self._width(ends - starts)
        pool = self.train.batch_size * POOL_BATCHES
        cuts = [
            cut + at
            for at in range(0, len(ends), pool)
            for cut in _cut(widths[at : at + pool], self._budget, world_size)
        ]
        return [(starts[cuts[i]], ends[cuts[i]]) for i in rng.permutation(len(cuts))]

    def batch(self, starts: NDArray[np.int64], ends: NDArray[np.int64], rank: int = 0, world_size: int = 1) -> Batch:
        """Model input of one worker's share of a step's windows."""
        starts, ends = starts[rank::world_size], ends[rank::world_size]
        resident = self._resident
        width = int(self._width(ends - starts).max())
        if self._few_shapes:
            empty = max(-(-(self._budget // width) // world_size) - len(starts), 0)
            starts, ends = np.pad(starts, (0, empty)), np.pad(ends, (0, empty))
        first, last = (torch.from_numpy(at).to(self.device, non_blocking=True) for at in (starts, ends))
        return history_features.pack(
            resident.positions,
            Windows(first, last, width),
            self.query_vectors,
            resident.request_ts[last - 1],
            resident.target,
        )

    @property
    def _few_shapes(self) -> bool:
        return torch.device(self.device).type != "cpu"

    @cached_property
    def _budget(self) -> int:
        """Tokens of a step: the same in every epoch, and of few kinds where sequences come in buffers."""
        starts, ends = self.windows(np.random.default_rng(0))
        mean = np.ceil((ends - starts).mean(keepdims=True)).astype(np.int64)
        return self.train.batch_size * int(self._width(mean)[0])

    def _width(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """(W,) positions that windows of these lengths are given."""
        return -(-lengths // WIDTH_STEP) * WIDTH_STEP if self._few_shapes else lengths

    @cached_property
    def _resident(self) -> "_ResidentColumns":
        columns = (torch.from_numpy(column).to(self.device) for column in (self.target, self.request_ts))
        return _ResidentColumns(self.positions.tensors(self.device), *columns)

    def steps(self, seed: int, epoch: int, rank: int = 0, world_size: int = 1) -> Iterator["Step"]:
        """The steps of one worker in an epoch."""
        batches = self.batches(seed, epoch, world_size)
        for place, (starts, ends) in enumerate(batches):
            batch = self.batch(starts, ends, rank, world_size)
            yield Step(batch, place, len(batches), place + 1 == len(batches))


class _ResidentColumns(NamedTuple):
    """Positions, targets and times of their requests on the device of the batches."""

    positions: PositionTensors
    target: Tensor
    request_ts: Tensor


@dataclass(frozen=True, eq=False)
class Step:
    """One step of an epoch."""

    batch: Batch
    place: int
    """Steps of the epoch before this one."""
    of: int
    """Steps in the epoch; as well as can be said so far where data streams."""
    last: bool
    """The epoch ends with this one."""


def training_part(sequences: Sequences) -> tuple[History, NDArray[np.int64]]:
    """The flat events of the training split and their (U + 1,) offsets."""
    kept = sequences.split == Split.TRAIN
    offsets = np.append(0, np.cumsum(kept))[sequences.offsets]
    events = History(sequences.item_idx[kept], sequences.query_idx[kept], sequences.event[kept], sequences.ts[kept])
    return events, offsets.astype(np.int64)


def _after_last(marked: NDArray[np.bool_], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """(U,) one past the last marked place of each row, 0 where none is."""
    place = np.append(0, np.maximum.accumulate(np.where(marked, np.arange(1, len(marked) + 1), 0)))[offsets[1:]]
    return np.where(place > offsets[:-1], place, 0)


def _cut(widths: NDArray[np.int64], budget: int, least: int) -> list[NDArray[np.int64]]:
    """Cuts a pool of windows, sorted by width, into batches of at most `budget` padded tokens and `least` rows."""
    order = np.argsort(-widths, kind="stable")
    cuts, at = [], 0
    while at < len(order):
        rows = max(budget // int(widths[order[at]]), least)
        if len(order) - at - rows < least:
            rows = len(order) - at
        cuts.append(order[at : at + rows])
        at += rows
    return cuts
