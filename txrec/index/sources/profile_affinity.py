"""Profile source: items that users with the same properties take more often than others, for users without a history.

A naive Bayes model with shrinkage. The lift of an item for a property value is the number of the value's users who took
it, relative to the number that the item's popularity lets expect. Few users say little, so the lift is shrunk towards
that of the item's category, and that of a category towards 1 (a Gamma prior on the rate ratio; DuMouchel, The American
Statistician 1999). The score of an item is the logarithm of its share of all users times its lifts for the properties
of the request.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from txrec import schema
from txrec.arrays import ragged_gather
from txrec.data.prepared import PreparedData
from txrec.index.array_files import load_arrays, pack, save_arrays, unpack
from txrec.index.live_log import LiveLog
from txrec.index.source import (
    NO_ITEMS,
    CatalogueUpdate,
    FitContext,
    Hits,
    Mask,
    OpenContext,
    Scored,
    Source,
    SourceQuery,
    best,
)
from txrec.index.training_log import EventLog

NAME = "profile"
MAX_VALUES = 500
"""Values of a property that count, those with most users."""
MIN_USERS = 5
"""Users in the log that a value needs."""
NUM_BUCKETS = 8
"""Quantile buckets of a property of numbers."""
ITEM_PRIOR, CATEGORY_PRIOR = 5.0, 10.0
"""Expected users that the lift of the category, and a lift of 1, weigh as much as."""
CACHED_SCORES = 16_000_000
"""Scores that are kept of recent combinations of properties, all items of the catalogue each."""
HEAD = 2_000
"""Best items of a combination that are kept in order."""


@dataclass(frozen=True)
class PropertyCodes:
    """Codes of a property's values: of texts, or of buckets of numbers."""

    first: int
    """Code of the first value."""
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    """Inner edges of the buckets; empty = the values are texts."""

    @classmethod
    def fit(cls, texts: Sequence[str | None], first: int) -> "PropertyCodes | None":
        """Codes for the values of users, one text per user and value; None where too few users have any."""
        known = [text for text in texts if text is not None]
        if len(known) < MIN_USERS:
            return None
        numbers = [_number(text) for text in known]
        if all(number is not None for number in numbers) and len(set(numbers)) > NUM_BUCKETS:
            inner = np.quantile(np.array(numbers, np.float64), np.linspace(0, 1, NUM_BUCKETS + 1)[1:-1])
            return cls(first, edges=tuple(np.unique(inner).tolist()))
        counted, counts = np.unique(np.array(known, dtype=object), return_counts=True)
        order = np.lexsort((counted, -counts))[:MAX_VALUES]
        values = tuple(str(counted[place]) for place in order if counts[place] >= MIN_USERS)
        return cls(first, values) if values else None

    def __len__(self) -> int:
        return len(self.edges) + 1 if self.edges else len(self.values)

    def of(self, text: str) -> int | None:
        """Code of a value; None for one that the log did not have."""
        if self.edges:
            number = _number(text)
            return None if number is None else self.first + int(np.searchsorted(self.edges, number, side="right"))
        place = self._places.get(text)
        return None if place is None else self.first + place

    @cached_property
    def _places(self) -> dict[str, int]:
        return {text: place for place, text in enumerate(self.values)}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


class _Texts(NamedTuple):
    """Texts of one property at the events of a log."""

    code: NDArray[np.int64]  # (E,) index into `values`, -1 = not known
    values: list[str]

    @classmethod
    def of(cls, data: PreparedData, log: EventLog, name: str) -> "_Texts":
        """Those of the event's context, and of the user's profile where the event does not tell."""
        users, place = np.unique(log.user_idx, return_inverse=True)
        code = np.full(len(log), -1, np.int64)
        values: list[str] = []
        if data.profiles is not None:
            rows = pa.array(data.sequences.user_id[users].tolist(), pa.string())
            texts = data.profiles.values(name, rows).dictionary_encode()
            code = np.asarray(texts.indices.fill_null(-1), np.int64)[place]
            values = texts.dictionary.to_pylist()
        context = data.contexts.get(name)
        if context is not None and log.row is not None:
            own = context.code[log.row].astype(np.int64)
            code = np.where(own >= 0, own + len(values), code)
            values = [*values, *context.values]
        return cls(code, values)

    def per_user(self, user_idx: NDArray[np.int32]) -> list[str | None]:
        """Each user's different values, once each."""
        pairs = np.unique(np.stack([user_idx.astype(np.int64), self.code])[:, self.code >= 0], axis=1)
        return [self.values[code] for code in pairs[1].tolist()]

    def taken(self, log: EventLog, fitted: PropertyCodes) -> NDArray[np.int64]:
        """(3, M) different users, items and codes of values."""
        of_value = [fitted.of(text) for text in self.values]
        code = np.array([*(-1 if one is None else one for one in of_value), -1], np.int64)[self.code]
        triples = np.stack([log.user_idx.astype(np.int64), log.item_idx.astype(np.int64), code])
        return np.unique(triples[:, code >= 0], axis=1)


class Lifts(NamedTuple):
    """Logarithms of the lifts of K items for the properties of a request, added up."""

    item: NDArray[np.float32]  # (K,)
    category: NDArray[np.float32]  # (K,)


@dataclass(frozen=True, eq=False)
class Counts:
    """Users of a log by property value and item; a user counts once per item.

    Attributes:
        by_item: (V, N + 1) users with a value who took an item.
        users: (N + 1,) users who took an item, with or without a profile.
        category: (N + 1,) category of every item, PAD = none.
        category_lift: (V, C + 1) logarithms of the lifts of categories, shrunk.
    """

    by_item: sp.csr_array
    users: NDArray[np.float32]
    category: NDArray[np.int32]
    category_lift: NDArray[np.float32]


class LiveTakes(NamedTuple):
    """Users who took items live; they are added to `Counts`.

    Attributes:
        by_item: (V, N + 1) users with a value who took an item.
        users: (N + 1,) users who took an item, with or without a profile.
        item_idx: the items that anybody took.
    """

    by_item: sp.csr_array
    users: NDArray[np.float32]
    item_idx: NDArray[np.int32]

    @classmethod
    def of(cls, live: LiveLog, codes: Sequence[tuple[int, ...]], num_values: int) -> "LiveTakes":
        """Those of live events, with the codes of each user's properties."""
        pairs = np.unique(np.stack([live.log.user_idx, live.log.item_idx]).astype(np.int64), axis=1)
        lengths = np.array([len(own) for own in codes], np.int64)
        counts = lengths[pairs[0]]
        places = ragged_gather((np.cumsum(lengths) - lengths)[pairs[0]], counts)
        values = np.fromiter(chain.from_iterable(codes), np.int64)[places]
        shape = (num_values, live.num_items + 1)
        by_item = sp.csr_array((np.ones(len(values), np.float32), (values, np.repeat(pairs[1], counts))), shape=shape)
        users = np.bincount(pairs[1], minlength=live.num_items + 1).astype(np.float32)
        return cls(by_item, users, np.flatnonzero(users).astype(np.int32))


class ProfileAffinity(Source):
    """Items by their lift for the properties of the user and the context of the request."""

    fallback_reason = "liked by similar customers"
    profile_features = ("profile.item_lift", "profile.category_lift", "profile.known")

    def __init__(self, codes: Mapping[str, PropertyCodes], counts: Counts) -> None:
        """Takes the codes by name of the property, and the counts."""
        self._codes = dict(codes)
        self._counts = counts
        self._num_users = max(float(counts.users.sum()), 1.0)
        self._base = self._log_share(counts.users)
        self._num_kept = max(4, CACHED_SCORES // len(counts.users))
        self._scores = lru_cache(maxsize=self._num_kept)(self._compute_scores)
        self._head = lru_cache(maxsize=self._num_kept)(self._compute_head)
        self._live: LiveTakes | None = None
        self._live_head = self._head

    @classmethod
    def fit_source(cls, context: FitContext) -> "ProfileAffinity":
        """The source fitted on a log; users without a profile count for the popularity of items only."""
        return cls.fit(context.data, context.log)

    @classmethod
    def fit(cls, data: PreparedData, log: EventLog) -> "ProfileAffinity":
        """Codes of the values that users of the log have, and their counts."""
        num_items = data.meta.num_items
        pairs = np.unique(np.stack([log.user_idx.astype(np.int64), log.item_idx.astype(np.int64)]), axis=1)
        codes: dict[str, PropertyCodes] = {}
        value, item = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        first = 0
        profiles = () if data.profiles is None else data.profiles.names
        for name in sorted({*profiles, *data.contexts}):
            texts = _Texts.of(data, log, name)
            fitted = PropertyCodes.fit(texts.per_user(log.user_idx), first)
            if fitted is None:
                continue
            codes[name], first = fitted, first + len(fitted)
            triples = texts.taken(log, fitted)
            value.append(triples[2])
            item.append(triples[1])
        values, items = np.concatenate(value), np.concatenate(item)
        shape = (first, num_items + 1)
        by_item = sp.csr_array((np.ones(len(values), np.float32), (values, items)), shape=shape)
        counted = np.bincount(pairs[1], minlength=num_items + 1).astype(np.float32)
        category = np.append(schema.PAD, data.items.column("category_idx").to_numpy()).astype(np.int32)
        return cls(codes, Counts(by_item, counted, category, _category_lift(by_item, counted, category)))

    def codes_of(self, profile: Mapping[str, str]) -> tuple[int, ...]:
        """Codes of the properties that were fitted, ascending; other names and values are left out."""
        own = (codes.of(profile[name]) for name, codes in self._codes.items() if name in profile)
        return tuple(code for code in own if code is not None)

    def knows_profile(self, profile: Mapping[str, str]) -> bool:
        """True where the source knows any of the properties."""
        return bool(self.codes_of(profile))

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """The allowed items with the highest scores; nothing for a request without known properties."""
        rows = []
        for row, mask in enumerate(allowed):
            codes = self.codes_of(queries.profile(row))
            rows.append(self._best(codes, k, mask) if codes else NO_ITEMS)
        return Hits.stack(rows, k)

    def features_of_profile(self, profile: Mapping[str, str], item_idx: NDArray[np.int32]) -> NDArray[np.float32]:
        """(K, 3) lift of the item, lift of its category, and the number of known properties."""
        codes = self.codes_of(profile)
        columns = np.zeros((len(item_idx), len(self.profile_features)), np.float32)
        if codes:
            lifts = self.lifts(codes, item_idx)
            columns[:, 0], columns[:, 1], columns[:, 2] = lifts.item, lifts.category, len(codes)
        return columns

    def lifts(self, codes: Sequence[int], item_idx: NDArray[np.int32]) -> Lifts:
        """Lifts of K items, as logarithms, added up over the properties."""
        counts, live = self._counts, self._live
        item, category = np.zeros((2, len(item_idx)), np.float32)
        users = counts.users[item_idx] if live is None else counts.users[item_idx] + live.users[item_idx]
        for code in codes:
            of_category = counts.category_lift[code][counts.category[item_idx]]
            own = counts.by_item[[code]].toarray()[0][item_idx]
            if live is not None:
                own = own + live.by_item[[code]].toarray()[0][item_idx]
            item += _shrunk(own, users * self._rate(code), np.exp(of_category))
            category += of_category
        return Lifts(item, category)

    def with_live(self, live: LiveLog) -> "ProfileAffinity":
        """The source with the users of the users table who took items live; lifts of categories stay as fitted."""
        if not live.profiles:
            return self
        source = copy.copy(self)
        codes = [self.codes_of(profile) for profile in live.profiles]
        source._live = LiveTakes.of(live, codes, len(self._counts.category_lift))
        source._live_head = lru_cache(maxsize=self._num_kept)(source._compute_live_head)
        return source

    def with_items(self, update: CatalogueUpdate) -> Self:
        """The same counts over the updated catalogue; new items have the lift of their category."""
        counts = self._counts
        more = update.num_items + 1 - len(counts.users)
        category = np.pad(counts.category, (0, more))
        category[update.item_idx] = update.items.column("category_idx").to_numpy()
        by_item = counts.by_item.copy()
        by_item.resize((by_item.shape[0], update.num_items + 1))
        grown = Counts(by_item, np.pad(counts.users, (0, more)), category, counts.category_lift)
        return type(self)(self._codes, grown)

    def save(self, path: Path) -> None:
        """The codes as JSON, the counts as safetensors."""
        counts = self._counts
        described = {name: asdict(codes) for name, codes in self._codes.items()}
        path.mkdir(parents=True, exist_ok=True)
        (path / "properties.json").write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")
        arrays = {"users": counts.users, "category": counts.category, "category_lift": counts.category_lift}
        save_arrays(path / "profile.safetensors", {**pack("by_item", counts.by_item), **arrays})

    @classmethod
    def open_source(cls, path: Path, context: OpenContext) -> "ProfileAffinity":  # noqa: ARG003
        """The source that `save` wrote."""
        described = json.loads((path / "properties.json").read_text(encoding="utf-8"))
        codes = {
            name: PropertyCodes(one["first"], tuple(one["values"]), tuple(one["edges"]))
            for name, one in described.items()
        }
        arrays = load_arrays(path / "profile.safetensors")
        counts = (arrays[name] for name in ("users", "category", "category_lift"))
        return cls(codes, Counts(unpack("by_item", arrays), *counts))

    def _best(self, codes: tuple[int, ...], k: int, mask: Mask) -> Scored:
        head = self._live_head(codes)
        if mask is not None:
            kept = mask[head.item_idx]
            head = Scored(head.item_idx[kept], head.scores[kept])
        if len(head.item_idx) >= min(k, len(self._base) - 1):
            return Scored(head.item_idx[:k], head.scores[:k])
        scores = self._scores(codes)
        if self._live is not None:
            scores = scores.copy()
            scores[self._live.item_idx] = self._live_scores(codes, self._live)
        return best(np.arange(1, len(self._base), dtype=np.int32), scores[1:], k, mask)

    def _compute_live_head(self, codes: tuple[int, ...]) -> Scored:
        """The head with live scores; a live item below it stays out, as fitted items between them are not in it."""
        fitted, live = self._head(codes), self._live
        if live is None:
            return fitted
        scores, kept = self._live_scores(codes, live), ~np.isin(fitted.item_idx, live.item_idx)
        enters = scores >= (fitted.scores[-1] if len(fitted.item_idx) < len(self._base) - 1 else -np.inf)
        item_idx = np.append(fitted.item_idx[kept], live.item_idx[enters])
        return best(item_idx, np.append(fitted.scores[kept], scores[enters]), len(item_idx), None)

    def _live_scores(self, codes: tuple[int, ...], live: LiveTakes) -> NDArray[np.float32]:
        """Scores of the items that were taken live, on the scale of the fitted ones."""
        share = self._log_share((self._counts.users + live.users)[live.item_idx])
        return np.asarray(share + self.lifts(codes, live.item_idx).item, np.float32)

    def _compute_head(self, codes: tuple[int, ...]) -> Scored:
        return best(np.arange(1, len(self._base), dtype=np.int32), self._scores(codes)[1:], HEAD, None)

    def _compute_scores(self, codes: tuple[int, ...]) -> NDArray[np.float32]:
        """(N + 1,) logarithm of the popularity of every item times its lifts."""
        lifts = self.lifts(codes, np.arange(len(self._base), dtype=np.int32)).item
        return np.asarray(self._base + lifts, np.float32)

    def _log_share(self, users: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logarithm of a number of users as a share of all users of the log."""
        return np.asarray(np.log((users + 0.5) / self._num_users), np.float32)

    def _rate(self, code: int) -> np.float32:
        """Share of the users of an item that have a value, where the value says nothing about the item."""
        counts = self._counts
        own = counts.by_item.data[counts.by_item.indptr[code] : counts.by_item.indptr[code + 1]]
        return np.float32(float(own.sum()) / self._num_users)


def _shrunk(
    own: NDArray[np.float32], expected: NDArray[np.float32], prior: NDArray[np.float32], strength: float = ITEM_PRIOR
) -> NDArray[np.float32]:
    """Logarithm of observed over expected users, with `strength` expected users added whose lift is the prior."""
    lift: NDArray[np.float32] = np.log((own + np.float32(strength) * prior) / (expected + np.float32(strength)))
    return lift


def _category_lift(
    by_item: sp.csr_array, users: NDArray[np.float32], category: NDArray[np.int32]
) -> NDArray[np.float32]:
    """(V, C + 1) logarithms of the lifts of categories for every value, shrunk towards 1; 0 where there is none."""
    size = int(category.max(initial=0)) + 1
    membership = sp.csr_array(
        (np.ones(len(category), np.float32), (np.arange(len(category)), category)), shape=(len(category), size)
    )
    own = (by_item @ membership).toarray()
    share = np.bincount(category, weights=users, minlength=size) / max(float(users.sum()), 1.0)
    expected = own.sum(axis=1, keepdims=True) * share
    lift = _shrunk(own, expected, np.ones(1, np.float32), CATEGORY_PRIOR).astype(np.float32)
    lift[:, schema.PAD] = 0.0
    return lift
