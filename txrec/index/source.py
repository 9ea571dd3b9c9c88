"""Candidate source interface: a batch of requests in, item proposals out, best first, under a mask of allowed items."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from txrec import schema
from txrec.config import RetrievalConfig
from txrec.data.prepared import PreparedData
from txrec.index.live_log import LiveLog
from txrec.index.training_log import NUM_TIME_DECAYS, EventLog
from txrec.text import Analyser
from txrec.text.article_numbers import Match

NUM_TERM_MATCH = 6
"""Columns of `Source.term_match`."""
Mask = NDArray[np.bool_] | None
"""(N + 1,) True = may be proposed; None = every item may."""


class Scored(NamedTuple):
    """Items with their scores."""

    item_idx: NDArray[np.int32]  # (n,)
    scores: NDArray[np.float32]  # (n,)


NO_ITEMS = Scored(np.empty(0, np.int32), np.empty(0, np.float32))
"""Answer of a source that has nothing to propose."""


@dataclass(frozen=True, eq=False)
class SourceQuery:
    """A batch of B requests, as sources need them."""

    texts: Sequence[str]
    """(B,) normalised search texts, empty = none."""
    states: NDArray[np.float32]
    """(B, D) L2-normalised states; rows of zeros where there is neither history nor query."""
    items: Sequence[NDArray[np.int32]]
    """(B,) items of the history, oldest first."""
    profiles: Sequence[Mapping[str, str]] = ()
    """(B,) properties of the user and the request by name; empty = none are known of any."""

    def profile(self, row: int) -> Mapping[str, str]:
        """Properties of one request."""
        return self.profiles[row] if self.profiles else {}

    def __len__(self) -> int:
        return len(self.texts)


class Familiarity(NamedTuple):
    """Ranker features of a query: clicks after it, and the similarity in [0, 1] of the nearest other clicked query."""

    clicks: float = 0.0
    similarity: float = 0.0


class Title(NamedTuple):
    """Title of a product, analysed like queries."""

    words: frozenset[str]
    trigrams: frozenset[str]


@dataclass(frozen=True, eq=False)
class ClickCounts:
    """Clicks after one query text, at every time decay: those of K items, and those of all items together."""

    own: NDArray[np.float32]  # (K, NUM_TIME_DECAYS) clicks after the same query
    own_total: NDArray[np.float32]  # (NUM_TIME_DECAYS,)
    votes: NDArray[np.float32]  # (K, NUM_TIME_DECAYS) clicks after it and after similar queries, by their similarity
    votes_total: NDArray[np.float32]  # (NUM_TIME_DECAYS,)

    @classmethod
    def none(cls, count: int) -> "ClickCounts":
        """Counts without any click of K = `count` items."""
        nothing, total = np.zeros((count, NUM_TIME_DECAYS), np.float32), np.zeros(NUM_TIME_DECAYS, np.float32)
        return cls(nothing, total, nothing, total)


@dataclass(frozen=True, eq=False)
class Hits:
    """Proposals of one source for a batch."""

    item_idx: NDArray[np.int32]
    """(B, k) best first, filled up with PAD."""
    scores: NDArray[np.float32]
    """(B, k) the source's own score, 0 where PAD."""

    @cached_property
    def counts(self) -> list[int]:
        """(B,) items proposed for each request."""
        counts: list[int] = np.count_nonzero(self.item_idx != schema.PAD, axis=1).tolist()
        return counts

    @classmethod
    def stack(cls, rows: Sequence[Scored], k: int) -> "Hits":
        """Pads the proposals of B requests to a common width k."""
        item_idx = np.full((len(rows), k), schema.PAD, dtype=np.int32)
        scores = np.zeros((len(rows), k), dtype=np.float32)
        for row, one in enumerate(rows):
            item_idx[row, : len(one.item_idx)] = one.item_idx[:k]
            scores[row, : len(one.item_idx)] = one.scores[:k]
        return cls(item_idx, scores)


class TextVectors(Protocol):
    """Encoder of texts, such as `txrec.model.text_encoder.TextEncoder`."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, Dt) L2-normalised vectors of n texts."""


@dataclass(frozen=True, eq=False)
class ChangedItems:
    """Products added to the catalogue or changed in it.

    Attributes:
        num_items: N, products of the catalogue after the update.
        item_idx: (n,) dense indices of the products; those of new ones follow the last one, in order.
        items: n rows of schema.PREPARED_ITEMS.
        text_changed: (n,) whether a product is new or has another title or text.
        vector_changed: (n,) whether a product is new or a column that its vector is made from changed.
    """

    num_items: int
    item_idx: NDArray[np.int32]
    items: pa.Table
    text_changed: NDArray[np.bool_]
    vector_changed: NDArray[np.bool_]

    def text_vectors(
        self, before: NDArray[np.float32] | None, encoder: "TextVectors | None"
    ) -> NDArray[np.float32] | None:
        """(N + 1, Dt) text vectors after the change, those of changed texts encoded anew; None without an encoder."""
        if encoder is None or before is None:
            return None
        grown = np.concatenate([before, np.zeros((self.num_items + 1 - len(before), before.shape[1]), np.float32)])
        if self.text_changed.any():
            texts = self.items.filter(pa.array(self.text_changed)).column("text").to_pylist()
            grown[self.item_idx[self.text_changed]] = encoder.encode(texts)
        return grown


@dataclass(frozen=True, eq=False)
class CatalogueUpdate(ChangedItems):
    """Changed products with the vectors of the whole catalogue, as candidate sources need them.

    Attributes:
        vectors: (N + 1, D) L2-normalised item vectors.
        item_text: (N + 1, Dt) L2-normalised text vectors; None without text.
    """

    vectors: NDArray[np.float32]
    item_text: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class FitContext:
    """Input of fitting a candidate source.

    Attributes:
        config: section `retrieval`.
        data: catalogue and queries.
        log: the events that count-based sources may see.
        vectors: (N + 1, D) L2-normalised item vectors.
        item_text: (N + 1, Dt) L2-normalised text vectors; None without text.
        absent: (N + 1,) products known not to be on sale yet when the log ends; None = not known.
        popularity_half_life_days: of the popularity source; None = `config.half_life_days`, as for all others.
        fitted: sources that follow from the catalogue alone, by name; the fits on several cuts of a log share it.
    """

    config: RetrievalConfig
    data: PreparedData
    log: EventLog
    vectors: NDArray[np.float32]
    item_text: NDArray[np.float32] | None
    absent: NDArray[np.bool_] | None = None
    popularity_half_life_days: float | None = None
    fitted: dict[str, "Source"] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class OpenContext:
    """Parts of a bundle that its candidate sources share.

    Attributes:
        vectors: (N + 1, D) L2-normalised item vectors.
        item_text: (N + 1, Dt) L2-normalised text vectors; None without text.
        analyser: the shop's text analyser.
    """

    vectors: NDArray[np.float32]
    item_text: NDArray[np.float32] | None
    analyser: Analyser


class Source(ABC):
    """Candidate source base class. Fitted once, then read-only. `txrec.index.source_registry` lists them by name.

    Only the abstract methods are required. The others give the ranker and the explanations further knowledge of
    a source; their defaults give none.
    """

    model_derived: ClassVar[bool] = False
    """True where scores come from trained vectors, which are too good on the events that they were trained on."""
    from_catalogue: ClassVar[bool] = False
    """True where a source follows from the catalogue alone, whatever the log holds; it is fitted once."""
    search_weight: ClassVar[float] = 0.01
    """Weight in searches where the log holds too few to fit weights by. By default a source that does not read the text
    of a search only orders what words hardly tell apart: a product that five such sources have first stays behind the
    first by words, and among the 200 best."""
    proposal_reason: ClassVar[str] = ""
    """Reason that every item proposed by this source has, empty = none."""
    fallback_reason: ClassVar[str] = ""
    """Reason of a proposed item that has no other reason, empty = none."""
    feature_names: ClassVar[tuple[str, ...]] = ()
    """Names of the columns of `features`."""
    profile_features: ClassVar[tuple[str, ...]] = ()
    """Names of the columns of `features_of_profile`."""

    @classmethod
    @abstractmethod
    def fit_source(cls, context: FitContext) -> Self:
        """The source fitted on a log."""

    @classmethod
    @abstractmethod
    def open_source(cls, path: Path, context: OpenContext) -> Self:
        """The source that `save` wrote into a directory."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Writes everything that `open_source` of the same class needs into the directory `path`, creating it."""

    @abstractmethod
    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """The k best allowed items of every request; fewer (padded) where the source knows no more."""

    @abstractmethod
    def with_items(self, update: CatalogueUpdate) -> Self:
        """A source that also knows the products of an update; nothing is fitted."""

    def with_live(self, live: LiveLog) -> Self:  # noqa: ARG002
        """A source that adds live events to what was fitted; the source itself where it counts nothing."""
        return self

    @property
    def num_reservable(self) -> int:
        """Items of this source that may take reserved slots."""
        return 0

    def features(
        self,
        query: str,  # noqa: ARG002
        history: NDArray[np.int32],  # noqa: ARG002
        item_idx: NDArray[np.int32],
    ) -> NDArray[np.float32]:
        """(K, F) ranker features of K candidates, one column per name in `feature_names`, not scaled."""
        return np.zeros((len(item_idx), len(self.feature_names)), np.float32)

    def features_of_profile(
        self,
        profile: Mapping[str, str],  # noqa: ARG002
        item_idx: NDArray[np.int32],
    ) -> NDArray[np.float32]:
        """(K, F) ranker features of K candidates given the properties of a request, named by `profile_features`."""
        return np.zeros((len(item_idx), len(self.profile_features)), np.float32)

    def knows_profile(self, profile: Mapping[str, str]) -> bool:  # noqa: ARG002
        """True where this source can propose items by properties of a request."""
        return False

    def affinities(self, item: int, item_idx: NDArray[np.int32]) -> NDArray[np.float32]:  # noqa: ARG002
        """(K,) affinity of K items to an item of the history."""
        return np.zeros(len(item_idx), np.float32)

    def click_counts(self, text: str, item_idx: NDArray[np.int32]) -> ClickCounts | None:  # noqa: ARG002
        """Clicks after a normalised query, for K items; None where this source counts none."""
        return None

    def familiarity(self, text: str) -> Familiarity:  # noqa: ARG002
        """Clicks after the same query, and the similarity in [0, 1] of the nearest other query that was clicked on."""
        return Familiarity()

    def term_match(self, text: str, titles: Sequence[Title]) -> NDArray[np.float32] | None:  # noqa: ARG002
        """(K, NUM_TERM_MATCH) how K titles match the terms of a query; None where this source reads no titles."""
        return None

    def knows(self, token: str) -> bool:  # noqa: ARG002
        """True where a product holds a token, and where this source reads no texts and cannot tell."""
        return True

    def holders(self, token: str) -> NDArray[np.int32] | None:  # noqa: ARG002
        """Items that hold a token, in any order; None where this source reads no texts."""
        return None

    def clicked_items(self, text: str) -> Scored:  # noqa: ARG002
        """Items with their clicks after exactly this normalised query; none where this source counts none."""
        return NO_ITEMS

    def live_clicks(self, text: str, item_idx: NDArray[np.int32]) -> NDArray[np.float32] | None:  # noqa: ARG002
        """(K,) decayed live clicks after exactly this query, which the training log does not hold; None elsewhere."""
        return None

    def clicked_queries(self, most: int) -> list[tuple[str, float]]:  # noqa: ARG002
        """Queries that led to clicks with their time-decayed number, most first; none where this source counts none."""
        return []

    def live_queries(self, most: int) -> list[tuple[str, float]]:  # noqa: ARG002
        """Queries that led to clicks of several users live, with all their decayed clicks; none by default."""
        return []

    def named(self, text: str) -> dict[int, Match]:  # noqa: ARG002
        """Items that a normalised query names by article number, with the kind of match."""
        return {}

    def query_reason(self, query: str, item: int) -> str | None:  # noqa: ARG002
        """Reason why a normalised query leads to an item; None = none."""
        return None

    def history_reason(self, past: Sequence[int], item: int, name: Callable[[int], str]) -> str | None:  # noqa: ARG002
        """Reason why past items, latest first, lead to an item, `name` giving their titles; None = none."""
        return None


def best(item_idx: NDArray[np.int32], scores: NDArray[np.float32], k: int, mask: Mask) -> Scored:
    """The k highest-scored allowed ids with their scores; ties go to the lower id, so that answers are reproducible."""
    if mask is not None:
        keep = mask[item_idx]
        item_idx, scores = item_idx[keep], scores[keep]
    if len(item_idx) > k:
        head = np.flatnonzero(scores >= bound(scores, k))
        item_idx, scores = item_idx[head], scores[head]
    order = descending(item_idx, scores)[:k]
    return Scored(item_idx[order], scores[order])


_ALL_BUT_SIGN = np.int32(np.iinfo(np.int32).max)


def descending(ids: NDArray[np.int32], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Places by score, the highest first, ties by id, the lowest first.

    Both make one whole number of 64 bits, for which NumPy has vector instructions: 18 us for 600 items, 28 by two keys.
    """
    bits = (scores + np.float32(0.0)).view(np.int32)  # of positive numbers in their order, of others backwards; no -0
    falling = np.where(bits < 0, bits & _ALL_BUT_SIGN, ~bits)
    return np.argsort((falling.astype(np.int64) << 32) | ids)


def distinct_masks(allowed: Sequence[Mask]) -> list[Mask]:
    """The different masks of a batch; masks that requests share are one object."""
    return list({id(mask): mask for mask in allowed}.values())


def bound(scores: NDArray[Any], k: int) -> float:
    """Threshold that the k highest of more than k scores reach, and few others.

    Of many scores it is the k-th highest of the maxima of 3 k groups, which takes a twentieth of the time of the k-th
    highest itself and is reached by a fifth more scores.
    """
    size = len(scores) // (3 * k)
    if size > 1:
        num_groups = len(scores) // size
        scores = scores[: size * num_groups].reshape(size, num_groups).max(axis=0)
    kth: float = np.partition(scores, len(scores) - k)[len(scores) - k].item()
    return kth
