"""Ranker features of a candidate given a request, in training and in serving.

Count-based features must not have seen the event that is being ranked: counts are fitted on a log that ends before the
requests they are used for.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txrec.index.source import NUM_TERM_MATCH, Source, Title
from txrec.index.training_log import NUM_TIME_DECAYS
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.ranking.activity import Activity
from txrec.recommender.ranking.candidate_sets import CandidateSets, ItemHistories
from txrec.recommender.types import Candidates
from txrec.schema import DAY_US
from txrec.text import trigrams

DECAYS = ("slow", "fast", "plain")
"""Time decays of every count, in the order of `NUM_TIME_DECAYS` columns."""
REQUEST_FEATURES = (
    "has_query",
    "query_length",
    "history_length",
    "days_since_last_event",
    "query_clicks",
    "query_similarity",
)
"""Names of the columns of `request_features`."""
TERM_MATCH = (
    "term_match.lexical_score",
    "term_match.rarity_share",
    "term_match.rarest_missed",
    "term_match.last_word",
    "term_match.last_word_trigrams",
    "term_match.worst_word_trigrams",
    "term_match.mean_word_trigrams",
)
UNTRAINED = (
    "untrained",
    "untrained.state_cosine",
    "untrained.fused_score",
    "untrained.covisits",
    "untrained.last_item_affinity",
    "untrained.popularity",
    "untrained.fast_popularity",
)
"""Features of products that have events and no id."""
PRIOR_VOTES, PRIOR_CLICKS = 0.3, 2.0
"""Pseudo-counts of clicks per query: distributed as those of all users, and as those after similar queries."""
NAME_WEIGHT, LEAST_SHARE = 0.1, 1e-3
"""Added to a share of clicks before its logarithm: weight of the name match, and a constant."""


class FeatureGroup(NamedTuple):
    """Columns of the ranker features that one function computes."""

    names: tuple[str, ...]
    compute: Callable[[CandidateSets], Iterable[NDArray[Any]]]
    """Candidate sets to one column per name, P long."""
    model_derived: frozenset[str] = frozenset()
    """Names of those that trained vectors decide; on events of the training they are too good."""


@dataclass(frozen=True, eq=False)
class RankingFeatures:
    """Ranker features from the catalogue, the vectors, the fitted counts and the candidate sources."""

    catalogue: Catalogue
    activity: Activity
    item_vectors: NDArray[np.float32]  # (N + 1, D) of the retrieval model
    item_text: NDArray[np.float32] | None  # (N + 1, Dt) of the text encoder
    sources: Mapping[str, Source]
    use_term_match: bool = False
    """True where the term-match features are computed; rankers trained on grades read them."""
    generic_words: frozenset[str] = frozenset()
    """Tokens of query words that a title need not have, see `txrec.recommender.search.generic_words`."""
    untrained: NDArray[np.bool_] | None = None
    """(M + 1,) products whose vectors are made without an id; so are those of all after the M-th. None = no others."""

    def warm(self) -> None:
        """Fills the caches before the first request."""
        _ = self.names
        self.catalogue.warm()
        self.activity.warm()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """(F,) names of the columns of `compute`."""
        return tuple(name for group in self._groups for name in group.names)

    @property
    def num_features(self) -> int:
        """F, columns of `compute`."""
        return len(self.names)

    @property
    def model_derived_columns(self) -> list[int]:
        """Columns of `compute` that trained vectors decide; they are too good on events of the training."""
        derived = frozenset().union(*(group.model_derived for group in self._groups))
        return [column for column, name in enumerate(self.names) if name in derived]

    def compute(self, candidates: Sequence[Candidates], counts: Sequence[int]) -> NDArray[np.float32]:
        """(P, F) unscaled features of the first `counts` candidates of B requests, request by request."""
        sets = CandidateSets.of(candidates, counts)
        table = np.empty((self.num_features, len(sets)), np.float32)
        columns = (column for group in self._groups for column in group.compute(sets))
        for row, column in enumerate(columns):  # faster than stacking columns of several types
            table[row] = column
        return table.T

    @cached_property
    def _groups(self) -> tuple[FeatureGroup, ...]:
        """The columns of `compute` from left to right; the first one is `ORDER`."""
        per_source = tuple(f"{name}.{kind}" for kind in ("proposed", "rank", "score") for name in self.sources)
        derived = frozenset(name for name in per_source if self.sources[name.split(".")[0]].model_derived)
        shares = tuple(f"share_{of}.{decay}" for of in ("query", "similar_queries", "all") for decay in DECAYS)
        own = tuple(f"{name}.{column}" for name, source in self.sources.items() for column in source.feature_names)
        of_profile = tuple(name for source in self.sources.values() for name in source.profile_features)
        return (
            FeatureGroup(("retrieval_order",), self._order),
            FeatureGroup(per_source, self._source_columns, derived),
            FeatureGroup(("state_cosine", "fused_score"), self._retrieval, frozenset({"state_cosine"})),
            FeatureGroup((*shares, "clicks_query", "clicks_similar_queries", "clicks_and_name"), self._shares),
            FeatureGroup(
                (*(f"popularity.{decay}" for decay in DECAYS), "trend", "days_since_last", "days_since_first"),
                self._activity,
            ),
            FeatureGroup(("price", "has_price"), self._prices),
            FeatureGroup(
                ("text_cosine", "query_terms_in_title", "title_in_query", "query_trigrams_in_title"),
                self._text,
                frozenset({"text_cosine"}),
            ),
            FeatureGroup(UNTRAINED, self._untrained, frozenset({"untrained.state_cosine"})),
            FeatureGroup(("cold.lexical_score", "cold.lexical_rank", "cold.query_terms_in_title"), self._cold_matches),
            *((FeatureGroup(TERM_MATCH, self._term_match),) if self.use_term_match else ()),
            FeatureGroup(
                (
                    "history.events",
                    "history.recency_rank",
                    "history.recency_days",
                    "history.purchased",
                    "history.last_item_affinity",
                    "history.last_item_cosine",
                    "history.same_category",
                ),
                self._history,
                frozenset({"history.last_item_cosine"}),
            ),
            FeatureGroup(own, self._own_columns),
            *((FeatureGroup(of_profile, self._profile_columns),) if of_profile else ()),
        )

    def request_features(self, candidates: Candidates) -> NDArray[np.float32]:
        """(NUM_REQUEST_FEATURES,) of the request as a whole, named by `REQUEST_FEATURES`."""
        history = candidates.history
        sources = self.sources.values() if candidates.query else ()
        by_source = [source.familiarity(candidates.query) for source in sources]
        same = np.log1p(max((one.clicks for one in by_source), default=0.0))
        near = max((one.similarity for one in by_source), default=0.0)
        idle = 0.0
        if len(history.ts) and history.ts[-1] > 0 and candidates.now_us:
            idle = np.log1p(max(candidates.now_us - int(history.ts[-1]), 0) / DAY_US)
        length = np.log1p(len(history.item_idx))
        return np.array([bool(candidates.query), len(candidates.query) / 32, length, idle, same, near], np.float32)

    def _order(self, sets: CandidateSets) -> list[NDArray[Any]]:
        return [np.concatenate([-np.log1p(np.arange(part.stop - part.start)) for part in sets.parts])]

    def _source_columns(self, sets: CandidateSets) -> list[NDArray[Any]]:
        ranks = sets.joined(one.ranks for one in sets.requests)
        proposed = ranks > 0
        scores = np.where(proposed, sets.joined(one.scores for one in sets.requests), np.float32(0))
        top = np.maximum.reduceat(scores, [part.start for part in sets.parts], axis=0)
        scaled = scores / np.maximum(top, np.float32(1e-6))[sets.row]
        return [*proposed.T, *np.where(proposed, 3.0 / (2.0 + ranks), 0.0).T, *scaled.T]

    def _retrieval(self, sets: CandidateSets) -> list[NDArray[Any]]:
        return [
            self._cosines(sets, [one.state for one in sets.requests]),
            sets.joined(one.fused for one in sets.requests),
        ]

    def _activity(self, sets: CandidateSets) -> list[NDArray[Any]]:
        return self.activity.features(sets.item_idx, sets.now_us)

    def _cosines(
        self, sets: CandidateSets, vectors: Sequence[NDArray[np.float32]] | NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(P,) of each candidate's vector with that of its request, (D,) each."""
        return np.concatenate([self.item_vectors[sets.item_idx[part]] @ vectors[row] for row, _, part in sets])

    def _shares(self, sets: CandidateSets) -> list[NDArray[Any]]:
        """Item shares of the clicks after the same query, after similarly spelled queries and of all users.

        As logarithms per time decay, each smoothed by the next wider one; then two unsmoothed shares, and the logarithm
        of a weighted sum of similar queries' clicks and the name match.
        """
        own, own_total, votes, votes_total = np.split(sets.of_searches(4 * NUM_TIME_DECAYS, self._clicks), 4, axis=1)
        overall = self.activity.shares[sets.item_idx]
        alike = (votes + PRIOR_VOTES * overall) / (votes_total + PRIOR_VOTES)
        same = (own + PRIOR_CLICKS * alike) / (own_total + PRIOR_CLICKS)
        least = np.float32(1e-9)
        plain = [own[:, 0] / np.maximum(own_total[:, 0], least), votes[:, 0] / np.maximum(votes_total[:, 0], least)]
        name = sets.of_searches(1, self._name_match)[:, 0]
        weighted = np.log(plain[1] + NAME_WEIGHT * name + LEAST_SHARE)
        return [*np.log(np.concatenate([same, alike, overall], axis=1)).T, *plain, weighted]

    def _clicks(self, candidates: Candidates, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """(K, 4 NUM_TIME_DECAYS) clicks of the items after the query, of all items, and both after similar queries."""
        counts = (source.click_counts(candidates.query, ids) for source in self.sources.values())
        clicks = next((one for one in counts if one is not None), None)
        if clicks is None:
            return np.zeros((len(ids), 4 * NUM_TIME_DECAYS), np.float32)
        own_total, votes_total = (
            np.broadcast_to(all_, clicks.own.shape) for all_ in (clicks.own_total, clicks.votes_total)
        )
        return np.concatenate([clicks.own, own_total, clicks.votes, votes_total], axis=1)

    def _name_match(self, candidates: Candidates, ids: NDArray[np.int32]) -> NDArray[Any]:
        """(K, 1) scores of the lexical source, divided by its greatest."""
        if "lexical" not in self.sources:
            return np.zeros((len(ids), 1), np.float32)
        scores = candidates.scores[:, list(self.sources).index("lexical")]
        scores = np.where(np.isnan(scores), np.float32(0), scores)  # a fifth of the time of nan_to_num
        return np.asarray(scores[: len(ids), None] / max(float(scores.max(initial=0.0)), 1e-6))

    def _prices(self, sets: CandidateSets) -> list[NDArray[Any]]:
        price = self.catalogue.prices[sets.item_idx]
        has_price = ~np.isnan(price)
        return [np.log1p(np.where(has_price, price, 0.0)), has_price]

    def _text(self, sets: CandidateSets) -> list[NDArray[Any]]:
        return [*sets.of_searches(4, self._text_of).T]

    def _text_of(self, candidates: Candidates, ids: NDArray[np.int32]) -> NDArray[Any]:
        """(K, 4) text cosine, query terms in the title, title terms in the query, query trigrams in the title."""
        cosine = np.zeros(len(ids)) if self.item_text is None else self.item_text[ids] @ candidates.query_vector
        query_terms, grams = self.catalogue.analyser.terms(candidates.query), frozenset(trigrams(candidates.query))
        terms = list({frozenset(token for token, _ in term) for term in query_terms})
        titles = [self.catalogue.title_tokens(int(item)) for item in ids]
        shared = np.array([sum(not term.isdisjoint(title) for term in terms) for title in titles], dtype=np.float64)
        lengths = np.array([len(title) for title in titles])
        spelled = [self.catalogue.trigrams(int(item)) for item in ids]
        covered = np.array([len(grams & title) for title in spelled]) / max(len(grams), 1)
        return np.stack([cosine, shared / max(len(terms), 1), shared / np.maximum(lengths, 1), covered], axis=1)

    def _cold_matches(self, sets: CandidateSets) -> list[NDArray[Any]]:
        """Name match of products without events; zeros for all others.

        Such a product has no clicks, so its name has to count for more than that of others.
        """
        cold = self.activity.plain[sets.item_idx] == 0
        return [*np.where(cold[:, None], sets.of_searches(3, self._cold_matches_of), np.float32(0)).T]

    def _cold_matches_of(self, candidates: Candidates, ids: NDArray[np.int32]) -> NDArray[Any]:
        """(K, 3) lexical score, 1 for the greatest; reciprocal lexical rank; share of query terms in the title."""
        if "lexical" not in self.sources:
            return np.zeros((len(ids), 3), np.float32)
        ranks = candidates.ranks[: len(ids), list(self.sources).index("lexical")]
        columns = np.zeros((len(ids), 3), np.float32)
        columns[:, 0] = self._name_match(candidates, ids)[:, 0]
        columns[:, 1] = np.where(ranks > 0, 3.0 / (2.0 + ranks), 0.0)
        cold = np.flatnonzero(self.activity.plain[ids] == 0)
        terms = [frozenset(token for token, _ in term) for term in self.catalogue.analyser.terms(candidates.query)]
        for row in cold.tolist():
            title = self.catalogue.title_tokens(int(ids[row]))
            columns[row, 2] = sum(not term.isdisjoint(title) for term in terms) / max(len(terms), 1)
        return columns

    def _untrained(self, sets: CandidateSets) -> list[NDArray[Any]]:
        """Features of products that came out after the training of the history model; zeros for all others.

        Their vectors are made from texts alone, so counts have to say more, and cosines less, than those of others.
        """
        size = len(self.activity.plain) if self.untrained is None else len(self.untrained)
        marks = np.zeros(size, np.bool_) if self.untrained is None else self.untrained
        ids = sets.item_idx
        is_untrained = np.where(ids < size, marks[np.minimum(ids, size - 1)], True) & (self.activity.plain[ids] > 0)
        if not is_untrained.any():
            return [np.zeros(len(sets), np.float32)] * len(UNTRAINED)
        history = ItemHistories.of(sets.requests)
        affinity = [self._affinity(int(history.last[row]), ids[part]) for row, _, part in sets]
        votes = np.zeros(len(sets), np.float32)
        if "covisitation" in self.sources:
            column = list(self.sources).index("covisitation")
            scores = sets.joined(one.scores[:, column] for one in sets.requests)
            votes = np.where(np.isnan(scores), np.float32(0), scores)
        cosine, fused = self._retrieval(sets)
        popularity, fast, *_ = self._activity(sets)
        columns = (is_untrained, cosine, fused, votes, np.concatenate(affinity), popularity, fast)
        return [np.where(is_untrained, column, 0.0) for column in columns]

    def _term_match(self, sets: CandidateSets) -> list[NDArray[Any]]:
        return [*sets.of_searches(1 + NUM_TERM_MATCH, self._term_match_of).T]

    def _term_match_of(self, candidates: Candidates, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """(K, 1 + NUM_TERM_MATCH) unscaled score of the lexical source, and its term matches of titles and query."""
        columns = np.zeros((len(ids), 1 + NUM_TERM_MATCH), np.float32)
        titles = [Title(self.catalogue.title_tokens(int(item)), self.catalogue.trigrams(int(item))) for item in ids]
        for column, source in enumerate(self.sources.values()):
            matches = source.term_match(candidates.query, titles)
            if matches is not None:
                columns[:, 0] = np.nan_to_num(candidates.scores[: len(ids), column])
                columns[:, 1:] = matches
        return columns

    def _own_columns(self, sets: CandidateSets) -> list[NDArray[Any]]:
        """Columns of the sources' own features."""
        columns: list[NDArray[Any]] = []
        for source in self.sources.values():
            if source.feature_names:
                parts = [source.features(one.query, one.history.item_idx, sets.item_idx[part]) for _, one, part in sets]
                columns.extend(np.concatenate(parts).T)
        return columns

    def _profile_columns(self, sets: CandidateSets) -> list[NDArray[Any]]:
        """Lifts of the candidates for the properties of the user and the request."""
        columns: list[NDArray[Any]] = []
        for source in self.sources.values():
            if source.profile_features:
                parts = [source.features_of_profile(one.profile, sets.item_idx[part]) for _, one, part in sets]
                columns.extend(np.concatenate(parts).T)
        return columns

    def _history(self, sets: CandidateSets) -> list[NDArray[Any]]:
        history = ItemHistories.of(sets.requests)
        event, candidate = history.matches(sets)
        back, bought = np.full(len(sets), -1), np.zeros(len(sets), np.bool_)
        last_ts = np.zeros(len(sets), np.int64)
        back[candidate], last_ts[candidate] = history.back[event], history.ts[event]  # the last of several stays
        bought[candidate[history.bought[event]]] = True
        exists = back >= 0
        days = np.where(sets.now_us > 0, np.maximum(sets.now_us - last_ts, 0) / DAY_US, 0.0)
        category = self.catalogue.categories[history.last][sets.row]
        return [
            np.log1p(np.bincount(candidate, minlength=len(sets))),
            np.where(exists, 1.0 / (1 + np.maximum(back, 0)), 0.0),
            np.where(exists, 1.0 / (1.0 + days), 0.0),
            bought,
            np.concatenate([self._affinity(int(history.last[row]), sets.item_idx[part]) for row, _, part in sets]),
            self._cosines(sets, self.item_vectors[history.last]),
            (self.catalogue.categories[sets.item_idx] == category) & (category > 0),
        ]

    def _affinity(self, item: int, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """(K,) greatest affinity of any source between an item and K candidates."""
        by_source = [source.affinities(item, ids) for source in self.sources.values()]
        return np.max(by_source, axis=0) if by_source else np.zeros(len(ids), np.float32)
