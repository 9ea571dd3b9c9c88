"""Baselines without a trained model, measured on the same requests as the recommender.

Each is fitted on the events before the split and answers every request: without an answer of its own (no query, no
history, an unknown query) it fills up with popular items. The counts are those of the candidate sources.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from txrec.data.prepared import PreparedData
from txrec.evals.protocol import EvalRequests
from txrec.index.filters.filters import restrict
from txrec.index.source import NO_ITEMS, Hits, Mask, Scored, SourceQuery, best
from txrec.index.sources.covisitation import Covisitation
from txrec.index.sources.lexical import Lexical
from txrec.index.sources.popularity import Popularity
from txrec.index.sources.query_clicks import QueryClicks
from txrec.index.training_log import EventLog
from txrec.progress import Progress, silent
from txrec.schema import PAD, Split

FOREVER_DAYS = 1e9
RECENT_DAYS = 3.0
"""Half-life of recent popularity."""
HEURISTIC_DAYS = 10.0
"""Half-life of the query heuristic's counts."""
NAME_WEIGHT = 0.1
"""Weight of the best name match, added to a product's share (0 to 1) of the clicks of like queries."""
EASE_PENALTY = 200.0
EASE_LIMIT = 15_000
"""Largest catalogue that EASE is computed for: it inverts a dense items x items matrix."""
BATCH = 512


class Answers(Protocol):
    """Proposals of items for a batch of requests, as candidate sources make them."""

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """The k best allowed items of every request, padded where it knows no more."""
        ...


class MostClicked:
    """The items most often clicked after exactly this normalised query."""

    def __init__(self, log: EventLog, texts: Sequence[str], num_items: int) -> None:
        """Counts the log's item events by query; `texts` are the data set's queries, row i being query_idx i + 1."""
        searched = log.query_idx != PAD
        shape = (len(texts) + 1, num_items + 1)
        ones = np.ones(int(searched.sum()), np.float32)
        self._clicks = sp.coo_array((ones, (log.query_idx[searched], log.item_idx[searched])), shape=shape).tocsr()
        self._row = {text: row for row, text in enumerate(texts, start=1)}

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """Items by their clicks."""
        return Hits.stack([self._one(text, k, mask) for text, mask in zip(queries.texts, allowed, strict=True)], k)

    def _one(self, text: str, k: int, mask: Mask) -> Scored:
        row = self._row.get(text)
        if row is None:
            return NO_ITEMS
        own = slice(self._clicks.indptr[row], self._clicks.indptr[row + 1])
        return best(self._clicks.indices[own].astype(np.int32), self._clicks.data[own], k, mask)


class Ease:
    """A linear item-item model in closed form (Steck, WWW 2019)."""

    def __init__(self, log: EventLog, num_users: int, num_items: int) -> None:
        """Inverts the regularised Gram matrix of the users x items matrix."""
        seen = sp.coo_array(
            (np.ones(len(log), np.float32), (log.user_idx, log.item_idx)), shape=(num_users, num_items + 1)
        )
        binary = seen.tocsr().sign()
        gram = (binary.T @ binary).toarray()
        gram[np.diag_indices_from(gram)] += EASE_PENALTY
        inverse = np.linalg.inv(gram)
        self._weights = -inverse / np.diag(inverse)
        np.fill_diagonal(self._weights, 0.0)

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """Items by the sum of the history's weights; nothing for an empty history."""
        return Hits.stack([self._one(items, k, mask) for items, mask in zip(queries.items, allowed, strict=True)], k)

    def _one(self, items: NDArray[np.int32], k: int, mask: Mask) -> Scored:
        if not len(items):
            return NO_ITEMS
        scores = self._weights[np.unique(items)].sum(axis=0)
        positive = np.flatnonzero(scores > 0).astype(np.int32)
        return best(positive, scores[positive], k, mask)


class QueryHeuristic:
    """Time-decayed clicks of similarly spelled queries, plus how well the product's name matches."""

    def __init__(self, clicks: QueryClicks, names: Lexical) -> None:
        self._clicks, self._names = clicks, names

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        """Items by the weighted sum of the two."""
        clicks, names = self._clicks.search(queries, 2 * k, allowed), self._names.search(queries, 2 * k, allowed)
        return Hits.stack([_sum(clicks, names, row, k) for row in range(len(queries))], k)


def _sum(clicks: Hits, names: Hits, row: int, k: int) -> Scored:
    top = max(float(names.scores[row].max(initial=0.0)), 1e-9)
    both = np.concatenate([clicks.item_idx[row], names.item_idx[row]])
    scores = np.concatenate([clicks.scores[row], NAME_WEIGHT * names.scores[row] / top])
    ids, place = np.unique(both[both != PAD], return_inverse=True)
    return best(ids, np.bincount(place, scores[both != PAD], len(ids)).astype(np.float32), k, None)


FILLER = "popularity"
"""The baseline that fills the lists of the others."""


def names(data: PreparedData) -> list[str]:
    """The baselines that the data set allows."""
    known = [FILLER, "covisitation"]
    if data.meta.has_time:
        known.append("recent_popularity")
    if 0 < data.meta.num_items <= EASE_LIMIT:
        known.append("ease")
    if data.meta.num_queries:
        known += ["most_clicked", "bm25", "query_heuristic"]
    return known


def fit(data: PreparedData, split: Split, only: Collection[str] = ()) -> dict[str, Answers]:
    """Baselines fitted on everything before the split.

    Args:
        data: the prepared data set.
        split: validation or test.
        only: of `names`, those to fit; empty = all. `popularity` is always among them.
    """
    log, num_items = EventLog.before(data, split), data.meta.num_items
    lexical = cache(lambda: Lexical.fit(data.items, data.analyser))
    clicks = cache(lambda: QueryClicks.fit(log, data.queries, num_items, HEURISTIC_DAYS))
    fitters: dict[str, Callable[[], Answers]] = {
        FILLER: lambda: Popularity.fit(log, num_items, FOREVER_DAYS),
        "covisitation": lambda: Covisitation.fit(log, num_items, FOREVER_DAYS),
        "recent_popularity": lambda: Popularity.fit(log, num_items, RECENT_DAYS),
        "ease": lambda: Ease(log, data.meta.num_users, num_items),
        "most_clicked": lambda: MostClicked(log, data.queries.column("query").to_pylist(), num_items),
        "bm25": lexical,
        "query_heuristic": lambda: QueryHeuristic(clicks(), lexical()),
    }
    chosen = {FILLER, *(only or names(data))}
    return {name: fitters[name]() for name in names(data) if name in chosen}


def answer(
    baselines: Mapping[str, Answers],
    cases: EvalRequests,
    texts: Sequence[str],
    num_items: int,
    k: int,
    progress: Progress = silent,
) -> dict[str, NDArray[np.int32]]:
    """The lists of every baseline for every case.

    Args:
        baselines: the result of `fit`; `popularity` fills the others' lists.
        cases: C requests.
        texts: normalised queries, row i being query_idx i + 1.
        num_items: size of the catalogue.
        k: length of the lists.
        progress: called after every batch.

    Returns:
        Name = (C, k) dense indices, PAD where the catalogue has no more items.
    """
    lists = {name: np.zeros((len(cases), k), np.int32) for name in baselines}
    for start in range(0, len(cases), BATCH):
        rows = np.arange(start, min(start + BATCH, len(cases)))
        items = [cases.items(int(row)) for row in rows]
        requests = SourceQuery(
            texts=[texts[query - 1] if query else "" for query in cases.query_idx[rows]],
            states=np.zeros((len(rows), 1), np.float32),
            items=items,
        )
        masks = [restrict(num_items + 1, None, np.unique(own)) if cases.filter_seen else None for own in items]
        popular = baselines[FILLER].search(requests, k, masks).item_idx
        for name, baseline in baselines.items():
            lists[name][rows] = fill(baseline.search(requests, k, masks).item_idx, popular)
        progress("baselines", int(rows[-1]) + 1, len(cases))
    return lists


def fill(ids: NDArray[np.int32], more: NDArray[np.int32]) -> NDArray[np.int32]:
    """(B, k) lists whose empty places at the end are given to the items of `more` (B, m) that are not in them yet."""
    filled = ids.copy()
    for row in np.flatnonzero((ids == PAD).any(axis=1)):
        own = ids[row][ids[row] != PAD]
        new = more[row][(more[row] != PAD) & ~np.isin(more[row], own)][: ids.shape[1] - len(own)]
        filled[row, : len(own) + len(new)] = np.concatenate([own, new])
        filled[row, len(own) + len(new) :] = PAD
    return filled
