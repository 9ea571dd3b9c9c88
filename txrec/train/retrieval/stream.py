"""Streaming training examples: shuffle buffers of row groups, for sequences larger than memory.

Shards are the row groups of the prepared Parquet files. Every epoch goes through them in another order and takes as
many at a time as memory allows: a buffer, within which windows are mixed as if it were all there is. Where one buffer
holds everything, training is that of `Examples` to the bit. Of the validation cases only a sample is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from txrec import schema
from txrec.arrays import ragged_gather
from txrec.config import EvaluateConfig, ModelConfig, TrainConfig
from txrec.data.prepared import PreparedData, Sequences
from txrec.errors import InvariantError, TrainingError
from txrec.evals.protocol import EvalRequests, GroundTruth, eval_requests
from txrec.model.history_features import History
from txrec.schema import Split
from txrec.train.retrieval.examples import NOTHING_TO_LEARN, Examples, Step

BYTES_PER_EVENT = 160
"""Most memory that an event takes while a buffer is built: the table, flat arrays, positions and what lies between."""


@dataclass(frozen=True)
class Shard:
    """Row group of a file: users that are read together."""

    file: Path
    row_group: int
    num_events: int


def shards_of(data: PreparedData) -> list[Shard]:
    """All shards of a data set, in the order of its files; nothing but their footers is read."""
    shards = []
    for file in sorted((data.path / "sequences").glob("*.parquet")):
        footer = pq.read_metadata(file)
        groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
        shards += [Shard(file, number, _num_events(group)) for number, group in enumerate(groups)]
    return shards


def _num_events(group: pq.RowGroupMetaData) -> int:
    columns = (group.column(i) for i in range(group.num_columns))
    return next(int(column.num_values) for column in columns if column.path_in_schema.startswith("item_idx."))


def memory_bytes(cfg: TrainConfig) -> int:
    """Memory for the training sequences of one worker."""
    return cfg.max_memory_bytes or int(psutil.virtual_memory().total) // 4 // cfg.num_workers


def streams(cfg: TrainConfig, data: PreparedData) -> bool:
    """True where training reads this data set in buffers."""
    if cfg.ingest != "auto":
        return cfg.ingest == "stream"
    return data.meta.num_events * BYTES_PER_EVENT > memory_bytes(cfg)


@dataclass(frozen=True, eq=False)
class StreamedExamples:
    """Streamed training examples: those of `Examples`, never all of them in memory at once."""

    shards: list[Shard]
    query_vectors: Tensor | None
    model: ModelConfig
    train: TrainConfig
    device: torch.device | str = "cpu"

    def buffers(self, seed: int, epoch: int) -> list[list[Shard]]:
        """The shards of an epoch, in the order in which they are read together."""
        order = np.random.default_rng([seed, epoch, len(self.shards)]).permutation(len(self.shards))
        return [
            [self.shards[i] for i in sorted(buffer)]
            for buffer in _filled(
                order, [p.num_events for p in self.shards], memory_bytes(self.train) // BYTES_PER_EVENT
            )
        ]

    def steps(self, seed: int, epoch: int, rank: int = 0, world_size: int = 1) -> Iterator[Step]:
        """The steps of one worker in an epoch.

        Raises:
            TrainingError: nobody has two training events in a row.
        """
        before = None
        for step in self._steps(seed, epoch, rank, world_size):
            if before is not None:
                yield before
            before = step
        if before is None:
            raise TrainingError(NOTHING_TO_LEARN)
        yield replace(before, last=True)

    def _steps(self, seed: int, epoch: int, rank: int, world_size: int) -> Iterator[Step]:
        num_events = sum(shard.num_events for shard in self.shards)
        place = seen = 0
        for number, buffer in enumerate(self.buffers(seed, epoch)):
            seen += sum(shard.num_events for shard in buffer)
            examples = self._examples(read(buffer))
            if examples is None:
                continue
            batches = examples.batches(seed, epoch, world_size, number)
            of = round((place + len(batches)) * num_events / seen)
            for starts, ends in batches:
                yield Step(examples.batch(starts, ends, rank, world_size), place, of, False)
                place += 1

    def _examples(self, sequences: Sequences) -> Examples | None:
        try:
            return Examples.of(sequences, self.query_vectors, self.model, self.train, self.device)
        except TrainingError:  # a buffer without two training events in a row says nothing about the others
            return None


def read(buffer: list[Shard]) -> Sequences:
    """The users of some shards."""
    columns = schema.SEQUENCES.names
    tables = [pq.ParquetFile(shard.file).read_row_group(shard.row_group, columns=columns) for shard in buffer]
    return Sequences.from_table(pa.concat_tables(tables).cast(schema.SEQUENCES))


def _filled(order: NDArray[np.int64], sizes: list[int], most: int) -> list[list[int]]:
    """Cuts an order of shards into buffers of at most `most` events, at least one shard each."""
    buffers: list[list[int]] = [[]]
    size = 0
    for shard in order.tolist():
        if buffers[-1] and size + sizes[shard] > most:
            buffers.append([])
            size = 0
        buffers[-1].append(shard)
        size += sizes[shard]
    return buffers


@dataclass(frozen=True, eq=False)
class _Loaded(PreparedData):
    """A data set of which some users were read."""

    users: Sequences

    @property
    def sequences(self) -> Sequences:
        """Sequences of those users."""
        return self.users


def sampled_cases(
    data: PreparedData, split: Split, cfg: EvaluateConfig, train: TrainConfig, num: int, seed: int
) -> EvalRequests:
    """A seeded sample of at most `num` cases of a split; holds their histories alone and one buffer at a time."""
    shards = shards_of(data)
    most = memory_bytes(train) // BYTES_PER_EVENT
    kept: EvalRequests | None = None
    keys = np.empty(0)
    for number, buffer in enumerate(_filled(np.arange(len(shards)), [shard.num_events for shard in shards], most)):
        requests = eval_requests(_Loaded(data.path, data.meta, read([shards[i] for i in buffer])), split, cfg)
        drawn = np.random.default_rng([seed, number]).random(len(requests))
        few = np.sort(np.argsort(drawn, kind="stable")[:num])
        requests, drawn = _compact(requests.select(few)), drawn[few]
        kept, keys = (requests, drawn) if kept is None else (_joined(kept, requests), np.append(keys, drawn))
        few = np.sort(np.argsort(keys, kind="stable")[:num])
        kept, keys = _compact(kept.select(few)), keys[few]
    if kept is None:
        raise InvariantError(f"{data.path}: no shard of sequences")
    return kept


def _compact(requests: EvalRequests) -> EvalRequests:
    """The same cases over their own events alone; whose they are is no longer known."""
    lengths = requests.end - requests.start
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int64)
    at = ragged_gather(requests.start, lengths)
    events = requests.events
    few = History(events.item_idx[at], events.query_idx[at], events.event[at], events.ts[at])
    return replace(requests, events=few, user=np.full(len(requests), -1), start=offsets[:-1], end=offsets[1:])


def _joined(one: EvalRequests, other: EvalRequests) -> EvalRequests:
    """The cases of both, which are compact."""
    moved = len(one.events.item_idx)
    events = History(
        *(
            np.concatenate([getattr(c.events, name) for c in (one, other)])
            for name in ("item_idx", "query_idx", "event", "ts")
        )
    )
    truth = GroundTruth(
        np.append(one.truth.offsets, other.truth.offsets[1:] + len(one.truth.items)),
        np.concatenate([one.truth.items, other.truth.items]),
    )
    return EvalRequests(
        events=events,
        user=np.append(one.user, other.user),
        start=np.append(one.start, other.start + moved),
        end=np.append(one.end, other.end + moved),
        query_idx=np.append(one.query_idx, other.query_idx),
        now_us=np.append(one.now_us, other.now_us),
        truth=truth,
        filter_seen=one.filter_seen,
    )
