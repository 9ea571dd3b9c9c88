"""Evaluation protocol: the requests of a split and their ground truth, the relevant items.

`leave_one_out`: one case per user, all events before the user's event of the split as history, that event's item as
truth.

`global_time`: every search of the window that led to an item is a case: its query, the user's events before the
search as history (those of the window included: the server would have seen them too), the items that it led to as
truth. What users did in the window without a search is one case per user: the events before the window as history,
the set of distinct items as truth. Users with nothing before the window can only be cold there. Where they are most of
the users of a log without queries (ratings that are all given in one sitting), or by `evaluate.fold_in`, each is a
second case: the first half of their events of the window as history, the items of the second half as truth (fold-in,
Liang et al. 2018).

A search begins with a search event, or with an item event that names a query other than the user's last one. With
`evaluate.each_click` a search is requested again before each item that it led to, with those before it in the history
and that item alone as truth, as for a shop that ranks again when a user returns to the results. The cases are
flat arrays over the events of the data set; nothing is copied and no Python runs per user.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from txrec.arrays import ragged_gather
from txrec.config import EvaluateConfig
from txrec.data.judgments import RELEVANT_GRADE_FRAC, Judgments
from txrec.data.prepared import PreparedData, Sequences
from txrec.model.history_features import NEW_SEARCH_US, History
from txrec.schema import EVENT_CODES, PAD, EventKind, Split, is_engagement

MOST_NEW_FRAC = 0.5
"""Share of users new in a window above which a log without queries is also evaluated by fold-in by default."""


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The right items of C cases: case c owns [offsets[c], offsets[c + 1])."""

    offsets: NDArray[np.int64]  # (C + 1,)
    items: NDArray[np.int32]  # (T,) dense indices, distinct within a case

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """(C,) right items of each case."""
        return np.diff(self.offsets)

    @property
    def case(self) -> NDArray[np.int64]:
        """(T,) the case that each right item belongs to."""
        return np.repeat(np.arange(len(self)), self.counts)

    def of(self, case: int) -> NDArray[np.int32]:
        """The right items of one case."""
        return self.items[self.offsets[case] : self.offsets[case + 1]]

    def select(self, rows: NDArray[np.int64]) -> "GroundTruth":
        """The truth of some of the cases, in the order of `rows`."""
        counts = self.counts[rows]
        offsets = np.append(0, np.cumsum(counts)).astype(np.int64)
        return GroundTruth(offsets, self.items[ragged_gather(self.offsets[:-1][rows], counts)])

    @classmethod
    def group(cls, case: NDArray[np.int64], items: NDArray[np.int32], num_cases: int) -> "GroundTruth":
        """Builds the ragged rows from (case, item) pairs in any order; equal pairs count once."""
        pairs = np.unique(np.stack([case, items.astype(np.int64)]), axis=1) if len(case) else np.empty((2, 0), np.int64)
        counts = np.bincount(pairs[0], minlength=num_cases)
        return cls(np.append(0, np.cumsum(counts)).astype(np.int64), pairs[1].astype(np.int32))


@dataclass(frozen=True, eq=False)
class EvalRequests:
    """C requests with known answers over the flat events of a data set."""

    events: History  # (E,) all users' events, shared with the data set
    user: NDArray[np.int64]  # (C,) row of the data set's users, -1 = no user (judged queries)
    start: NDArray[np.int64]  # (C,) first event of the history
    end: NDArray[np.int64]  # (C,) one past its last event
    query_idx: NDArray[np.int32]  # (C,) query_idx, PAD for none
    now_us: NDArray[np.int64]  # (C,) time of the request, microseconds, 0 = unknown
    truth: GroundTruth
    filter_seen: bool
    """True where items of the history are left out of the answers."""
    profiles: Sequence[Mapping[str, str]] = ()
    """(C,) properties of the users by name; empty = none are known (see `with_profiles`)."""

    def __len__(self) -> int:
        return len(self.user)

    def history(self, case: int) -> History:
        """The events before the request; views, not copies."""
        part = slice(int(self.start[case]), int(self.end[case]))
        return History(
            self.events.item_idx[part], self.events.query_idx[part], self.events.event[part], self.events.ts[part]
        )

    def histories(self) -> list[History]:
        """All histories, in order."""
        return [self.history(case) for case in range(len(self))]

    def items(self, case: int) -> NDArray[np.int32]:
        """Items of the history that the user engaged with, oldest first."""
        history = self.history(case)
        items: NDArray[np.int32] = history.item_idx[(history.item_idx != PAD) & is_engagement(history.event)]
        return items

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(C,) how many items `items` has."""
        engaged = (self.events.item_idx != PAD) & is_engagement(self.events.event)
        before = np.append(0, np.cumsum(engaged))
        lengths: NDArray[np.int64] = before[self.end] - before[self.start]
        return lengths

    def select(self, rows: NDArray[np.int64]) -> "EvalRequests":
        """Some of the cases, in the order of `rows`."""
        return replace(
            self,
            user=self.user[rows],
            start=self.start[rows],
            end=self.end[rows],
            query_idx=self.query_idx[rows],
            now_us=self.now_us[rows],
            truth=self.truth.select(rows),
            profiles=[self.profiles[row] for row in rows.tolist()] if self.profiles else (),
        )

    def profile(self, case: int) -> Mapping[str, str]:
        """Properties of the user of one case; empty where none are known."""
        return self.profiles[case] if self.profiles else {}

    def with_profiles(self, data: PreparedData) -> "EvalRequests":
        """The same with the properties of the users table and the context of each request's first event.

        Unchanged where the data set has neither.
        """
        stored, contexts = data.profiles, data.contexts
        if (stored is None and not contexts) or self.profiles:
            return self
        profiles = []
        for user, first in zip(self.user.tolist(), self.end.tolist(), strict=True):
            known = stored.of(str(data.sequences.user_id[user])) if stored is not None and user >= 0 else None
            codes = {name: context.code[first] for name, context in contexts.items()} if user >= 0 else {}
            now = {name: contexts[name].values[code] for name, code in codes.items() if code >= 0}
            profiles.append({**(known.properties if known is not None else {}), **now})
        return replace(self, profiles=profiles)

    def sample(self, num: int, seed: int = 0) -> "EvalRequests":
        """A seeded sample of at most `num` cases in their order; 0 = all of them."""
        if not 0 < num < len(self):
            return self
        return self.select(np.sort(np.random.default_rng(seed).choice(len(self), num, replace=False)))


def eval_requests(data: PreparedData, split: Split, cfg: EvaluateConfig) -> EvalRequests:
    """The requests of a split, with their right answers.

    Args:
        data: the prepared data set; where it holds judgments and no events, the judged queries are the cases.
        split: validation or test.
        cfg: `target_events` are the relevant events, `max_cases` limits the cases.
    """
    sequences = data.sequences
    if data.judged_only:
        return _judged(data, split).sample(cfg.max_cases)
    target = _targets(sequences, split, cfg.target_events)
    if data.meta.split_kind == "leave_one_out":
        return _leave_one_out(sequences, target, cfg).sample(cfg.max_cases)
    start_us = data.meta.test_start_ts if split == Split.TEST else data.meta.validation_start_ts
    return _global_time(sequences, split, target, start_us, cfg).sample(cfg.max_cases)


def _events(sequences: Sequences) -> History:
    return History(sequences.item_idx, sequences.query_idx, sequences.event, sequences.ts)


def _targets(sequences: Sequences, split: Split, kinds: Sequence[str]) -> NDArray[np.bool_]:
    """(E,) events of the split that count as right answers."""
    codes = [EVENT_CODES[kind] for kind in kinds]
    engaged = np.isin(sequences.event, codes) if codes else is_engagement(sequences.event)
    marked: NDArray[np.bool_] = engaged & (sequences.item_idx != PAD) & (sequences.split == split)
    return marked


def _users(sequences: Sequences) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))


def _leave_one_out(sequences: Sequences, target: NDArray[np.bool_], cfg: EvaluateConfig) -> EvalRequests:
    at = np.flatnonzero(target)
    users, first = np.unique(_users(sequences)[at], return_index=True)
    end = at[first]
    case = np.repeat(np.arange(len(users)), np.diff(np.append(first, len(at))))
    return EvalRequests(
        events=_events(sequences),
        user=users,
        start=sequences.offsets[users],
        end=end,
        query_idx=sequences.query_idx[end],
        now_us=sequences.ts[end],
        truth=GroundTruth.group(case, sequences.item_idx[at], len(users)),
        filter_seen=cfg.filter_seen,
    )


def _global_time(
    sequences: Sequences, split: Split, target: NDArray[np.bool_], start_us: int, cfg: EvaluateConfig
) -> EvalRequests:
    """Cases of a window. The events of one user who has events before it, and their cases:

    event     item  query         query  history              truth
    search    -     lamp          lamp   all before it        5, 6
    click     5     lamp
    click     6     lamp
    view      7     -             -      before the window    7, 8
    view      8     -
    """
    user = _users(sequences)
    searched, searches = _after_searches(sequences, user, target & (sequences.query_idx != PAD))
    if cfg.each_click:
        searched, searches = _clicks(sequences, searched)
    browsed, browsers = _by_user(user, target & (sequences.query_idx == PAD))
    first = _first_of(sequences, user, split)[user[browsers]]
    is_new = first == sequences.offsets[user[browsers]]
    mostly_new = not len(searches) and is_new.sum() > MOST_NEW_FRAC * len(browsers)
    fold_in = mostly_new if cfg.fold_in is None else cfg.fold_in
    folded, folds = _second_halves(browsed, is_new & fold_in)
    num_searches, num_browsed = len(searches), len(searches) + len(browsers)
    truth = GroundTruth.group(
        np.concatenate([searched[1], browsed[1] + num_searches, folded[1] + num_browsed]),
        sequences.item_idx[np.concatenate([searched[0], browsed[0], folded[0]])],
        num_browsed + len(folds),
    )
    query, now = sequences.query_idx[searches], sequences.ts[searches]
    users = user[np.concatenate([searches, browsers, folds])]
    requests = EvalRequests(
        events=_events(sequences),
        user=users,
        start=sequences.offsets[users],
        end=np.concatenate([searches, first, folds]),
        query_idx=np.concatenate([query, np.zeros(len(browsers) + len(folds), np.int32)]),
        now_us=np.concatenate([now, np.full(len(browsers), start_us, np.int64), sequences.ts[folds]]),
        truth=truth,
        filter_seen=cfg.filter_seen,
    )
    return requests.select(np.lexsort((requests.now_us, requests.user)))


_Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def _after_searches(
    sequences: Sequences, user: NDArray[np.int64], target: NDArray[np.bool_]
) -> tuple[_Pairs, NDArray[np.int64]]:
    """((event, case) of every right answer, (case,) event that begins each case's search)."""
    begins = _search_begins(sequences, user)
    beginnings = np.flatnonzero(begins)
    at = np.flatnonzero(target)
    search = np.cumsum(begins)[at] - 1  # an event that names a query belongs to the search last begun
    searches, case = np.unique(search, return_inverse=True)
    return (at, case), beginnings[searches]


def _clicks(sequences: Sequences, searched: _Pairs) -> tuple[_Pairs, NDArray[np.int64]]:
    """The same as from `_after_searches` with every item of a search, when it was first gone for, a case of its own."""
    at, search = searched
    _, first = np.unique(np.stack([search, sequences.item_idx[at]]), axis=1, return_index=True)
    clicks = at[np.sort(first)]
    return (clicks, np.arange(len(clicks))), clicks


def _search_begins(sequences: Sequences, user: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(E,) events that begin a search: see the head of this module."""
    item, query, ts = sequences.item_idx, sequences.query_idx, sequences.ts
    named = np.flatnonzero((query != PAD) & (sequences.event != EventKind.IMPRESSION))
    now, before = named[1:], named[:-1]
    same = (user[now] == user[before]) & (query[now] == query[before]) & (ts[now] - ts[before] <= NEW_SEARCH_US)
    repeated = (item[now] == PAD) & (item[before] != PAD)  # searched again after having looked at an item
    first = np.ones(len(named), bool)
    first[1:] = ~same | repeated
    begins = np.zeros(len(item), bool)
    begins[named[first]] = True
    return begins


def _by_user(user: NDArray[np.int64], target: NDArray[np.bool_]) -> tuple[_Pairs, NDArray[np.int64]]:
    """((event, case) of every right answer, (case,) one event of each case's user)."""
    at = np.flatnonzero(target)
    _, first, case = np.unique(user[at], return_index=True, return_inverse=True)
    return (at, case), at[first]


def _second_halves(browsed: _Pairs, chosen: NDArray[np.bool_]) -> tuple[_Pairs, NDArray[np.int64]]:
    """((event, case) of the later half of the right answers of each chosen case, (case,) first of these events)."""
    at, case = browsed
    counts = np.bincount(case, minlength=len(chosen))
    place = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
    later = (2 * place >= counts[case]) & chosen[case] & (counts[case] >= 2)
    _, first, folded = np.unique(case[later], return_index=True, return_inverse=True)
    return (at[later], folded), at[later][first]


def _first_of(sequences: Sequences, user: NDArray[np.int64], split: Split) -> NDArray[np.int64]:
    """(U,) each user's first event that does not lie before the split."""
    before = np.bincount(user[sequences.split < split], minlength=len(sequences))
    return sequences.offsets[:-1] + before


def _judged(data: PreparedData, split: Split) -> EvalRequests:
    judgments = Judgments.of(data, split)
    right = judgments.share > RELEVANT_GRADE_FRAC
    requests, case = np.unique(judgments.query[right], return_inverse=True)
    none = np.zeros(len(requests), np.int64)
    return EvalRequests(
        events=_events(data.sequences),
        user=none - 1,
        start=none,
        end=none,
        query_idx=requests,
        now_us=none,
        truth=GroundTruth.group(case.astype(np.int64), judgments.item[right], len(requests)),
        filter_seen=False,
    )
