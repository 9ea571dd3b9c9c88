"""History features: a user's events to model input, one function for training, evaluation and serving.

A history is a run of events in dense indices. It becomes *positions*: a search is a position without an item, an event
with an item is a position; consecutive events on one item (view, cart, purchase) are one position that carries the
strongest kind; an event that names the query that led to it is preceded by that search's position unless the search
is already there. Impressions are no positions: they are not acts of the user.

Everything is vectorised over any number of users at once (`to_positions`), so that training over millions of events
and serving one request run the same lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from txrec.config import ModelConfig
from txrec.model.batch import Batch
from txrec.schema import PAD, EventKind

NEW_SEARCH_US = 30 * 60 * 1_000_000
"""The same query again after a longer pause than this is a new search, microseconds."""


@dataclass(frozen=True, eq=False, slots=True)
class History:
    """One user's events, oldest first, in dense indices. All arrays have the same length; it may be 0."""

    item_idx: NDArray[np.int32]  # PAD for a bare search
    query_idx: NDArray[np.int32]  # row of the batch's or data set's query vectors, PAD for none
    event: NDArray[np.int8]  # EventKind
    ts: NDArray[np.int64]  # microseconds UTC, 0 = unknown


@dataclass(frozen=True, eq=False, slots=True)
class PositionTensors:
    """The columns of `Positions` that model input is made of; training keeps them where it computes."""

    item_idx: Tensor  # (P,) int32
    query_idx: Tensor  # (P,) int32
    event: Tensor  # (P,) int8
    start_ts: Tensor  # (P,) int64
    ts: Tensor  # (P,) int64


@dataclass(frozen=True, eq=False, slots=True)
class Positions:
    """The positions of U users in flat arrays: user u owns [offsets[u], offsets[u + 1])."""

    offsets: NDArray[np.int64]  # (U + 1,)
    item_idx: NDArray[np.int32]  # (P,) PAD at a search
    query_idx: NDArray[np.int32]  # (P,) PAD at an item
    event: NDArray[np.int8]  # (P,) strongest EventKind of the run
    start_ts: NDArray[np.int64]  # (P,) first event of the run, microseconds, 0 = unknown
    ts: NDArray[np.int64]  # (P,) last event of the run, microseconds, 0 = unknown
    is_target: NDArray[np.bool_]  # (P,) the run holds an event that counts as a target

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(U,) positions of each user."""
        return np.diff(self.offsets)

    def next_targets(self) -> "NextTargets":
        """First target strictly after each of P positions in the same user; PAD if none."""
        count = len(self.item_idx)
        place = np.where(self.is_target, np.arange(count), count)
        following = np.minimum.accumulate(np.append(place[1:], count)[::-1])[::-1] if count else place
        end = np.repeat(self.offsets[1:], self.lengths)
        exists = following < end
        at = np.where(exists, following, 0)
        return NextTargets(np.where(exists, self.item_idx[at], PAD), np.where(exists, self.start_ts[at], 0))

    def tensors(self, device: torch.device | str = "cpu") -> PositionTensors:
        """Tensors of a batch; on the CPU the same memory."""
        columns = (self.item_idx, self.query_idx, self.event, self.start_ts, self.ts)
        return PositionTensors(*(torch.from_numpy(column).to(device) for column in columns))


def to_positions(events: History, offsets: NDArray[np.int64], target_kinds: Sequence[int] = ()) -> Positions:
    """Turns the events of U users, one after another in flat arrays, into positions.

    A search is a position, an item is a position, a run of events on one item is one position with its strongest event,
    and a search that only item events name gets a position before them. The events of one user, and their positions:

        event     item  query         item  query  event
        search    -     lamp          -     lamp   search
        click     5     lamp          5     -      cart      both events on item 5
        cart      5     lamp
        view      7     desk          -     desk   search    the view names a search that has no event of its own
                                      7     -      view

    Args:
        events: flat events; user u owns [offsets[u], offsets[u + 1]).
        offsets: (U + 1,) int64.
        target_kinds: event kinds that count as targets; empty = every kind.
    """
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    shown = events.event != EventKind.IMPRESSION
    row, item, query, event, ts = (a[shown] for a in (row, events.item_idx, events.query_idx, events.event, events.ts))
    before = _unannounced_search(row, item, query, ts)
    # every event once, and once more before itself as a search where its search is not there yet
    source = np.repeat(np.arange(len(item)), 1 + before)
    is_search = np.zeros(len(source), bool)
    is_search[(np.cumsum(1 + before) - 1 - before)[before]] = True
    is_search |= item[source] == PAD
    row, ts = row[source], ts[source]
    query = np.where(is_search, query[source], PAD).astype(np.int32)
    item = np.where(is_search, PAD, item[source]).astype(np.int32)
    event = np.where(is_search, EventKind.SEARCH, event[source]).astype(np.int8)
    is_target = (item != PAD) & (np.isin(event, target_kinds) if len(target_kinds) else True)
    return _collapse_runs(len(offsets) - 1, row, Positions(offsets, item, query, event, ts, ts, is_target))


def _unannounced_search(
    row: NDArray[np.int64], item: NDArray[np.int32], query: NDArray[np.int32], ts: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Marks of item events whose query is other than the last one of their user, or the same one long after."""
    named = np.flatnonzero(query != PAD)
    first = np.ones(len(named), bool)
    same = (row[named[1:]] == row[named[:-1]]) & (query[named[1:]] == query[named[:-1]])
    first[1:] = ~(same & (ts[named[1:]] - ts[named[:-1]] <= NEW_SEARCH_US))
    marks = np.zeros(len(query), bool)
    marks[named[first]] = True
    marks &= item != PAD
    return marks


def _collapse_runs(num_users: int, row: NDArray[np.int64], flat: Positions) -> Positions:
    same = np.zeros(len(row), bool)
    same[1:] = (
        (row[1:] == row[:-1]) & (flat.item_idx[1:] == flat.item_idx[:-1]) & (flat.query_idx[1:] == flat.query_idx[:-1])
    )
    first = np.flatnonzero(~same)
    last = np.append(first[1:], len(row)) - 1 if len(row) else first
    return Positions(
        offsets=np.append(0, np.cumsum(np.bincount(row[first], minlength=num_users))).astype(np.int64),
        item_idx=flat.item_idx[first],
        query_idx=flat.query_idx[first],
        event=np.maximum.reduceat(flat.event, first) if len(first) else flat.event,
        start_ts=flat.ts[first],
        ts=flat.ts[last],
        is_target=np.logical_or.reduceat(flat.is_target, first) if len(first) else flat.is_target,
    )


def collate(
    histories: Sequence[History],
    query_vectors: Tensor | None,
    cfg: ModelConfig,
    request_query: NDArray[np.int32] | None = None,
    now_us: NDArray[np.int64] | int = 0,
) -> Batch:
    """Model input for the prediction of the event after each history.

    Args:
        histories: B of them; the most recent `cfg.max_length` positions of each are used. May be empty ones.
        query_vectors: (Q + 1, Dt) float32 that `query` points into, row 0 zeros; None = queries carry no text vector.
        cfg: the model's section.
        request_query: (B,) row of the query of the request, PAD for none; it becomes the last position.
        now_us: time of the request, microseconds UTC, for all or for each; 0 = unknown.
    """
    now = np.broadcast_to(np.asarray(now_us, np.int64), (len(histories),))
    queries = np.zeros(len(histories), np.int32) if request_query is None else request_query
    parts = [_with_request(h, int(q), int(t)) for h, q, t in zip(histories, queries, now, strict=True)]
    offsets = np.append(0, np.cumsum([len(h.item_idx) for h in parts])).astype(np.int64)
    positions = to_positions(_concatenate(parts), offsets)
    ends = positions.offsets[1:]
    starts = np.maximum(positions.offsets[:-1], ends - cfg.max_length)
    windows = Windows(torch.from_numpy(starts), torch.from_numpy(ends), int((ends - starts).max(initial=1)))
    return pack(positions.tensors(), windows, query_vectors, torch.from_numpy(now.astype(np.int64)))


def _with_request(history: History, query: int, now_us: int) -> History:
    if query == PAD:
        return history
    return History(
        item_idx=np.append(history.item_idx, PAD).astype(np.int32),
        query_idx=np.append(history.query_idx, query).astype(np.int32),
        event=np.append(history.event, EventKind.SEARCH).astype(np.int8),
        ts=np.append(history.ts, now_us or (history.ts[-1] if len(history.ts) else 0)).astype(np.int64),
    )


def _concatenate(parts: Sequence[History]) -> History:
    empty = History(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int8), np.empty(0, np.int64))
    parts = (empty, *parts)
    return History(
        item_idx=np.concatenate([h.item_idx for h in parts]),
        query_idx=np.concatenate([h.query_idx for h in parts]),
        event=np.concatenate([h.event for h in parts]),
        ts=np.concatenate([h.ts for h in parts]),
    )


class NextTargets(NamedTuple):
    """(P,) items and times of the targets that follow P positions."""

    item_idx: NDArray[np.int32]
    ts: NDArray[np.int64]


class Windows(NamedTuple):
    """Ranges of flat positions, each the part of one history that a model reads."""

    starts: Tensor
    """(B,) int64 first position of each window, as an index into the flat tensors."""
    ends: Tensor
    """(B,) one past its last position."""
    width: int
    """L, at least the longest window; known beforehand, so that nothing waits for an accelerator."""


def pack(
    positions: PositionTensors,
    windows: Windows,
    query_vectors: Tensor | None,
    now_us: Tensor,
    targets: Tensor | None = None,
) -> Batch:
    """Lays windows of flat positions out as a padded batch, on the device that holds the positions.

    Args:
        positions: of all users.
        windows: B ranges of positions.
        query_vectors: (Q + 1, Dt), or None.
        now_us: (B,) time of the request after the window, 0 = unknown.
        targets: (P,) target item of each position, PAD = none; None outside training.
    """
    starts, ends = windows.starts, windows.ends
    length = ends - starts
    at = starts[:, None] + torch.arange(windows.width, device=starts.device)  # (B, L)
    real = at < ends[:, None]
    at = torch.where(real, at, 0)
    ts, request_ts = _times(positions, at, real, ends, now_us)
    vectors = torch.zeros(1, 1, device=at.device) if query_vectors is None else query_vectors
    item, query, event = (_take(t, at, real) for t in (positions.item_idx, positions.query_idx, positions.event))
    target = torch.zeros_like(item) if targets is None else _take(targets, at, real)
    return Batch(item, event, query, vectors, ts, request_ts, target, length)


def _take(values: Tensor, at: Tensor, real: Tensor) -> Tensor:
    if not len(values):
        return torch.zeros_like(at)
    return values[at].long().masked_fill_(~real, PAD)


def _times(positions: PositionTensors, at: Tensor, real: Tensor, ends: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
    """Seconds since each row's first position, for the positions and for the request after each of them."""
    if not len(positions.ts):
        return torch.zeros(at.shape, device=at.device), torch.zeros(at.shape, device=at.device)
    ts = _take(positions.ts, at, real)
    following = (at + 1).clamp_max(len(positions.ts) - 1)
    request_ts = torch.where(at + 1 < ends[:, None], positions.start_ts[following], now[:, None])
    request_ts = torch.where(real & (ts > 0), torch.maximum(request_ts, ts), 0)  # unknown: at the same time
    origin = ts[:, :1]
    return _seconds(ts - origin, real), _seconds(request_ts - origin, real)


def _seconds(microseconds: Tensor, real: Tensor) -> Tensor:
    return microseconds.masked_fill(~real, 0).float() / 1e6
