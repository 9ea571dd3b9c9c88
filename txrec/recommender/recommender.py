"""Recommendations from a bundle: one code path for evaluation, batch jobs and serving.

    Request --> RetrievalQuery --Retriever--> Candidates --rank--> Ranked --decorate--> Slate

Raw ids and texts come in and go out; everything between is in dense indices. A `Recommender` never changes: an updated
catalogue gives a new one that shares the rest.
"""

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txrec.data.profiles import StoredProfile
from txrec.errors import UnknownItemError
from txrec.index.filters.filters import Filters, PriceRange, restrict
from txrec.index.live_log import LiveEvent
from txrec.index.sources import new_items
from txrec.index.suggestions import Suggestion
from txrec.model.history_features import History
from txrec.recommender import live_counts
from txrec.recommender.bundle import Bundle
from txrec.recommender.catalogue import Catalogue, ItemChange
from txrec.recommender.lists import lists
from txrec.recommender.lists.audiences import AudienceAnswer, AudienceRequest, KnownUsers, Target, best_of
from txrec.recommender.lists.lists import Asker, ListContext, ListRequest
from txrec.recommender.lists.purchases import Purchases
from txrec.recommender.page_types import PageRequest
from txrec.recommender.ranking.fatigue import with_fatigue
from txrec.recommender.ranking.ranking import Ranked, candidates_needed, diversify, rank
from txrec.recommender.ranking.ranking_features import REQUEST_FEATURES, RankingFeatures
from txrec.recommender.ranking.slate_assembly import Decoration
from txrec.recommender.resumable import Resumable, run_to_completion
from txrec.recommender.retrieval import alternatives
from txrec.recommender.retrieval.request_encoding import RequestEncoder
from txrec.recommender.retrieval.request_history import StoredHistories
from txrec.recommender.retrieval.retriever import BatchQueryVectors, RetrievalQuery, Retriever
from txrec.recommender.search import suggestion_entries
from txrec.recommender.search.generic_words import generic_words
from txrec.recommender.search.matching import Matcher, Speller
from txrec.recommender.search.search_page import PageContext, PagePlan, plan
from txrec.recommender.stage_timer import StageTimer
from txrec.recommender.types import Candidates, Event, Request, Slate, SlateItem

__all__ = ["Candidates", "Event", "Filters", "PriceRange", "Recommender", "Request", "Slate", "SlateItem"]


class Recommender:
    """Answers requests from an opened bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.config = bundle.config
        self.catalogue = Catalogue(bundle.items, analyser=bundle.analyser)
        self.ranker = bundle.ranker
        self.retriever = Retriever(
            bundle.model,
            bundle.queries,
            bundle.sources,
            bundle.fusion,
            bundle.config.retrieval.num_candidates,
            new_items.reserved_slots(bundle.config, list(bundle.sources)),
        )
        self.ranking_features = RankingFeatures(
            self.catalogue,
            bundle.activity,
            self.retriever.dense.vectors,
            bundle.item_text,
            self.retriever.sources,
            use_term_match=self.ranker is not None and self.ranker.graded,
            generic_words=generic_words(bundle.sources.values(), self.catalogue),
            untrained=np.arange(len(self.catalogue) + 1) > bundle.model.sizes.num_trained_items,
        )
        bundle.check_features((*self.ranking_features.names, *REQUEST_FEATURES))
        self.clock: Callable[[], float] = time.time
        self._histories = StoredHistories(bundle.users)
        self._speller = Speller(bundle.analyser, bundle.sources)
        self._purchases = Purchases(bundle)
        self._fitted: Recommender | None = None  # without live counts, where this one has them
        self._live_events: tuple[LiveEvent, ...] = ()

    @classmethod
    def open(cls, path: Path | str, device: str = "cpu") -> "Recommender":
        """Opens and verifies the bundle at `path`; text encoder, history model and ranker compute on a device."""
        recommender = cls(Bundle.open(path))
        if device != "cpu":
            recommender.move(device)
        return recommender

    def move(self, device: str) -> None:
        """Moves text encoder, history model and ranker to a device, e.g. `cuda`; indexes stay in main memory."""
        self.retriever.move(device)
        for network in (self.bundle.text_encoder, self.ranker):
            if network is not None:
                network.to(device)

    @property
    def version(self) -> str:
        """Version of the bundle."""
        return self.bundle.manifest.version

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        """Slates for a batch of requests.

        Raises:
            RequestError: a request that cannot be answered as asked; names the field.
        """
        return self.rank(self.retrieve(requests))

    def retrieve(self, requests: Sequence[Request]) -> list[Candidates]:
        """Candidates for a batch of requests: one encoding, one search per source."""
        return run_to_completion(self.retrieve_in_steps(requests))

    def retrieve_in_steps(self, requests: Sequence[Request]) -> Resumable[list[Candidates]]:
        """`retrieve` in steps, for a server that has other things to do between them."""
        batch_vectors = BatchQueryVectors(self.retriever.query_encoder)
        retrieval_queries = [self.request_encoder.retrieval_query(request, batch_vectors) for request in requests]
        return (yield from self.retriever.retrieve_in_steps(retrieval_queries, batch_vectors))

    def rank(self, candidates: Sequence[Candidates], use_ranker: bool = True) -> list[Slate]:
        """Slates from candidates; `use_ranker=False` keeps retrieval order."""
        timer = StageTimer()
        ranked = self.rank_dense(candidates, use_ranker)
        timer.end("rank")
        decoration = Decoration(self._view, self.retriever, self.num_ranked)
        return [decoration.slate(one, order, timer.timings_ms) for one, order in zip(candidates, ranked, strict=True)]

    def search_page(self, request: Request, page: PageRequest) -> Slate:
        """A page of everything that matches a request, with total, facets and the like.

        Raises:
            RequestError: a request that cannot be answered as asked; names the field.
        """
        planned = self.plan_page(request, page)
        return planned.finish(None if planned.request is None else self.recommend([planned.request])[0])

    def plan_page(self, request: Request, page: PageRequest) -> PagePlan:
        """The part of `search_page` before retrieval, for a server that retrieves and ranks in batches."""
        encoder = self.request_encoder
        excluded = encoder.retrieval_query(request, BatchQueryVectors(self.retriever.query_encoder)).excluded
        context = PageContext(
            self._view(request),
            self.retriever.sources,
            self.ranking_features.activity,
            Matcher(self.retriever.sources, self.catalogue.analyser, len(self.catalogue), self._speller),
            self.num_ranked,
        )
        return plan(
            context, request, page, lambda filters: encoder.allowed(replace(request, filters=filters), excluded)
        )

    def shortlist(self, candidates: Sequence[Candidates]) -> list[Candidates]:
        """Candidates without those that can be in no slate, because neither ranker nor diversification looks so far.

        Their slates are the same; a ranker in another process receives these.
        """
        return [one.first(max(self.num_ranked, candidates_needed(one.request))) for one in candidates]

    @property
    def num_encoded_queries(self) -> int:
        """Query texts so far that had to be encoded; the others were in the bundle or in the cache."""
        return self.retriever.query_encoder.num_encoded

    def retrieve_dense(
        self,
        histories: Sequence[History],
        queries: Sequence[str] | None = None,
        now_us: Sequence[int] | NDArray[np.int64] | None = None,
        excluded: Sequence[Sequence[int]] | None = None,
        top_k: int = 25,
        profiles: Sequence[Mapping[str, str]] | None = None,
    ) -> list[Candidates]:
        """Candidates for histories in dense indices, for evaluation: what is unavailable now was on sale then.

        Args:
            histories: B histories whose `query` holds the data set's dense query ids.
            queries: (B,) normalised search texts, empty = none; None = no queries at all.
            now_us: (B,) times of the requests, microseconds UTC; None = just after each history.
            excluded: (B,) dense indices that must not be proposed; None = none.
            top_k: at least this many candidates come back where so many items are allowed.
            profiles: (B,) properties of the users by name; None = none are known.
        """
        retrieval_queries = []
        for row, history in enumerate(histories):
            now = int(now_us[row]) if now_us is not None else int(history.ts[-1]) if len(history.ts) else 0
            mask = restrict(len(self.catalogue) + 1, None, excluded[row] if excluded is not None else ())
            query = queries[row] if queries is not None else ""
            profile = profiles[row] if profiles is not None else {}
            known = query or len(history.item_idx) or self.retriever.knows_profile(profile)
            fallback, request = None if known else "unknown_user", Request(top_k=top_k)
            retrieval_queries.append(
                RetrievalQuery(history, query, now or self.bundle.meta.end_ts, mask, request, fallback, profile=profile)
            )
        return self.retriever.retrieve(retrieval_queries)

    def rank_dense(self, candidates: Sequence[Candidates], use_ranker: bool = True) -> list[Ranked]:
        """The final order of candidates; the request may let shown products sink, and have the rest diversified."""
        ranker, reserved = self.ranker if use_ranker else None, self.retriever.reserved
        ranked = rank(candidates, ranker, self.ranking_features, reserved, self.config.objective, self.bundle.fatigue)
        vectors = self.ranking_features.item_vectors
        return [
            diversify(order, vectors[one.item_idx[order.order]], one.request.diversity, one.request.top_k)
            if one.request.diversity > 0
            else order
            for one, order in zip(candidates, with_fatigue(ranked, candidates, self.catalogue.idx_of), strict=True)
        ]

    def similar(
        self,
        item_id: str,
        top_k: int = 25,
        filters: Filters | None = None,
        context: Mapping[str, str] | None = None,
        explain: bool = False,
    ) -> Slate:
        """Alternatives of a product; see `similar_to`, which takes the other arguments as a request."""
        return self.similar_to(item_id, Request(top_k=top_k, filters=filters, context=context or {}, explain=explain))

    def similar_to(self, item_id: str, request: Request) -> Slate:
        """Alternatives of a product: products of the same kind, by vectors and co-visits; see `alternatives`.

        Args:
            item_id: raw id.
            request: says how many, fewer where the kind has fewer, and which filters, context and blocks hold.

        Raises:
            UnknownItemError: the catalogue does not hold the item.
        """
        item_idx = self.catalogue.idx_of.get(item_id)
        if item_idx is None:
            raise UnknownItemError.of("item_id", item_id)
        kind = alternatives.kind_of(self.catalogue, self.ranking_features.item_text, self._purchases.together, item_idx)
        mask = kind.within(self._view(request).mask(request.filters, [item_idx]), request.blocked)
        query = RetrievalQuery(alternatives.view_of(item_idx), "", self.bundle.meta.end_ts, mask, request)
        vectors = self.ranking_features.item_vectors[[item_idx]]
        slate = self.rank(self.retriever.by_vectors([query], vectors, alternatives.FUSION), use_ranker=False)[0]
        if not request.explain:
            return slate
        return replace(slate, items=tuple(replace(i, reasons=(*i.reasons, kind.reason)) for i in slate.items))

    def rank_items(self, item_ids: Sequence[str], request: Request) -> Slate:
        """The caller's own list in the order that suits the request; unknown items are left out and noted."""
        return self.rank_lists([(item_ids, request)])[0]

    def rank_lists(self, lists: Sequence[tuple[Sequence[str], Request]]) -> list[Slate]:
        """`rank_items` for a batch of lists, each with its request."""
        vectors, queries = BatchQueryVectors(self.retriever.query_encoder), list[RetrievalQuery]()
        for item_ids, request in lists:
            known = {key: self.catalogue.idx_of[key] for key in item_ids if key in self.catalogue.idx_of}
            notes = [f"items: {key} is not in the catalogue, left out" for key in item_ids if key not in known]
            one = self.request_encoder.retrieval_query(replace(request, top_k=max(len(known), 1)), vectors)
            queries.append(replace(one, mask=self.catalogue.only(known.values()), notes=(*one.notes, *notes)))
        return self.rank(self.retriever.retrieve(queries, vectors))

    def history(self, user_id: str) -> tuple[Event, ...]:
        """The last events of a user of the data set, oldest first; empty for anybody else."""
        return self._histories.events(user_id, self.catalogue, self.retriever.query_encoder.names)

    def profile(self, user_id: str | None) -> StoredProfile | None:
        """A user's profile in the users table; None for anybody else."""
        return None if self.bundle.profiles is None else self.bundle.profiles.of(user_id)

    def suggestions(self, live: bool = False) -> list[Suggestion]:
        """Queries, categories and products, for completion; or else the queries that live events have taught."""
        sources = self.retriever.sources
        return suggestion_entries.live_entries(sources) if live else suggestion_entries.entries(self.catalogue, sources)

    def history_length(self, user_id: str) -> int:
        """Number of events that `history` has."""
        return self._histories.length(user_id)

    def known_users(self) -> tuple[str, ...]:
        """Users whose history came with the bundle."""
        return tuple(self._histories.rows)

    def with_items(self, rows: Sequence[Mapping[str, Any]]) -> "Recommender":
        """A recommender that also knows these products, or knows them as these rows say; nothing is trained.

        Args:
            rows: columns of schema.ITEMS by name; only `item_id` is required.
        """
        if not rows:
            return self
        catalogue, changed = self.catalogue.with_items(rows)
        text = changed.text_vectors(self.ranking_features.item_text, self.bundle.text_encoder)
        return self._with(catalogue, self.retriever.with_items(changed, text), text)

    def without_items(self, item_ids: Iterable[str]) -> "Recommender":
        """A recommender that never shows these products; histories may still name them."""
        return self._with(self.catalogue.without_items(item_ids), self.retriever, self.ranking_features.item_text)

    def with_changes(self, changes: Sequence[ItemChange]) -> "Recommender":
        """A recommender to which the shop's changes apply, each complete in itself: none before it counts.

        Applied in one go or bit by bit in the order in which they were made, the result is the same, dense indices
        included. What a change leaves unsaid is as in the bundle.
        """
        put = sorted((change for change in changes if change.first_seq), key=lambda change: change.first_seq)
        base = self.catalogue.base
        rows = [{**base.row(change.item_id), **change.fields, "item_id": change.item_id} for change in put]
        gone = [change.item_id for change in changes if change.retired]
        changed = (self._fitted or self).with_items(rows).without_items(gone)
        changed.ranking_features.warm()
        return changed

    def product_list(self, request: Request, spec: ListRequest) -> Slate:
        """A list such as trending products or complements of a product.

        Raises:
            RequestError: a request that cannot be answered as asked; names the field.
        """
        vectors = BatchQueryVectors(self.retriever.query_encoder)
        retrieval_query = self.request_encoder.retrieval_query(request, vectors)
        named = request.user_id is not None and len(retrieval_query.history.item_idx) > 0
        context = ListContext(
            self._view(request),
            self.ranking_features.activity,
            self.ranking_features.item_vectors,
            self._purchases.together,
            self._purchases.usual_intervals(len(self.catalogue)),
            self._purchases.trends,
        )
        asker = Asker(
            retrieval_query.history,
            retrieval_query.now_us,
            (lambda: self.retriever.states([retrieval_query], vectors)[0]) if named else None,
        )
        return lists.make(context, spec, request, asker, retrieval_query.mask)

    def audience(self, request: AudienceRequest) -> AudienceAnswer:
        """The users most likely to want an item, a category or a query, live events included.

        Raises:
            UnknownItemError: an item that the catalogue does not hold.
            RequestError: a target without products; names the field.
        """
        target = Target.of(self, request)
        return best_of(self, KnownUsers.of(self, self._live_events).users, request, target)

    def profile_of(self, user_id: str) -> Mapping[str, str]:
        """Properties of a user in the users table; empty for anybody else."""
        return {} if self.bundle.profiles is None else self.bundle.profiles.properties_of(user_id)

    def with_live(self, events: Sequence[LiveEvent]) -> "Recommender":
        """A recommender whose counts (popularity, clicks after queries, co-visits) include live events.

        Args:
            events: of all users; those that the training log may hold do not count again. They replace earlier ones.
        """
        base = self._fitted or self
        half_life = self.config.retrieval.half_life_days
        parts = live_counts.with_live(base.retriever, base.ranking_features, events, half_life, self.profile_of)
        if parts is None:
            return base
        changed = copy.copy(base)
        changed.retriever, changed.ranking_features, live = parts
        changed._purchases = self._purchases.with_live(live)
        changed._fitted, changed._live_events = base, tuple(events)
        return changed

    def _with(self, catalogue: Catalogue, retriever: Retriever, text: NDArray[np.float32] | None) -> "Recommender":
        changed = copy.copy(self)
        changed.catalogue, changed.retriever = catalogue, retriever
        changed.ranking_features = replace(
            self.ranking_features,
            catalogue=catalogue,
            activity=self.ranking_features.activity.with_items(len(catalogue)),
            item_vectors=retriever.dense.vectors,
            item_text=text,
            sources=retriever.sources,
        )
        return changed

    @property
    def request_encoder(self) -> RequestEncoder:
        """Encoder of requests for the present catalogue."""
        return RequestEncoder(
            self.catalogue,
            self._view,
            self._histories,
            self.retriever.names,
            self.bundle.meta.end_ts,
            self.bundle.profiles,
            self.retriever.knows_profile,
        )

    def _view(self, request: Request) -> Catalogue:
        """The catalogue in the store or country of a request, at its time."""
        return self.catalogue.at(request.context, request.now_us or int(self.clock() * 1e6))

    @property
    def num_ranked(self) -> int:
        """Candidates per request that the ranker reorders, or would."""
        return (self.config.ranker if self.ranker is None else self.ranker.cfg).num_candidates
