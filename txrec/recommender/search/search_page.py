"""Search page: order, groups, quotas, facets and the following pages, over every product that matches.

    request --plan--> PagePlan --(retrieval and ranking of its `request`, rules)--> slate --finish--> page

Ranking orders the first products as it does without a page; behind them come the other matching products by their
lexical score, then by popularity. Any other order than relevance needs no ranking.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from txrec.errors import RequestError
from txrec.index.filters.facets import Facet
from txrec.index.filters.filters import Filters
from txrec.index.source import Mask, Source, SourceQuery
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.page_types import Group, Page, PageRequest
from txrec.recommender.ranking.activity import Activity
from txrec.recommender.search.matching import Highlighter, Match, Matcher
from txrec.recommender.search.page_token import MAX_FOLLOWING, Following, decode, encode, fingerprint
from txrec.recommender.types import Request, Slate, SlateItem
from txrec.text import normalise

AUTO = "auto"
MAX_GROUPED = 20_000
"""Matching products that are looked at for groups beyond the first page."""
MAX_OTHERS = 10
"""Other products that a group names."""
BEST_FIRST = frozenset({"popularity", "newness", "rating"})
"""Orders that begin with the greatest value; all others begin with the least."""
FALLBACKS = {"corrected": "corrected_query", "partial": "partial_match", "nearest": "nearest_match"}
"""Fallback that a slate names by the kind of its match."""


class _PageOrder(NamedTuple):
    """Products of a page and those after it, best first, with their scores, and the place of the first."""

    item_idx: NDArray[np.int64]
    scores: NDArray[np.float64]
    offset: int


@dataclass(frozen=True, eq=False)
class PageContext:
    """The parts of a recommender that pages need.

    Attributes:
        catalogue: the products.
        sources: candidate sources by name; `popularity` is among them.
        activity: events of the products.
        matcher: finds matching products.
        num_ranked: candidates per request that the ranker orders.
    """

    catalogue: Catalogue
    sources: Mapping[str, Source]
    activity: Activity
    matcher: Matcher
    num_ranked: int


@dataclass(frozen=True, eq=False)
class PagePlan:
    """A page before its products are ranked.

    Attributes:
        request: the products to retrieve and rank; None = none.
    """

    request: Request | None
    _context: PageContext
    _request: Request
    _page: PageRequest
    _match: Match
    _allowed: Callable[[Filters | None], Mask]
    _search: str
    _following: Following | None

    def finish(self, slate: Slate | None = None) -> Slate:
        """The page.

        Args:
            slate: answer to `request`, rules applied; None where nothing had to be ranked.
        """
        page, head = self._page, slate or Slate(())
        mask = self._mask(self._request.filters)
        items_by_id = {item.item_id: item for item in head.items}
        listed = [self._context.catalogue.idx_of[item.item_id] for item in head.items]
        if self._match.mask is None and self._match.kind == "nearest":
            mask = np.zeros_like(mask)
        mask[listed] = True
        order, scores, offset = self._order(listed, mask, items_by_id)
        groups = self._groups()
        order, scores = self._one_per_group(order, scores, groups)
        skipped = 0 if self._following else page.offset
        places = self._within_quotas(order[skipped:], self._request.top_k) + skipped
        rest = np.setdiff1d(np.arange(skipped, len(order)), places)
        items = [self._item(int(order[place]), float(scores[place]), items_by_id) for place in places]
        items = self._decorated(items, groups, mask)
        return replace(
            head,
            items=tuple(items),
            fallback=head.fallback or FALLBACKS.get(self._match.kind),
            page=Page(
                total=int(mask.sum()),
                offset=offset,
                match=self._match.kind,
                answered_query=self._match.query or None,
                did_you_mean=self._match.did_you_mean,
                num_groups=None if groups is None else _num_groups(groups[mask]),
                facets=self._facets(mask),
                next_token=self._token(order[rest], scores[rest], offset + len(items)),
            ),
        )

    def _mask(self, filters: Filters | None) -> NDArray[np.bool_]:
        """(N + 1,) matching products that filters, rules and exclusions allow."""
        size = len(self._context.catalogue) + 1
        allowed, matching = self._allowed(filters), self._match.mask
        mask = np.ones(size, np.bool_) if allowed is None else allowed.copy()
        mask[0] = False
        return mask if matching is None else mask & matching

    def _order(
        self, listed: Sequence[int], mask: NDArray[np.bool_], items_by_id: Mapping[str, SlateItem]
    ) -> "_PageOrder":
        """Products with their scores, from the first page on or from the token on."""
        catalogue, page = self._context.catalogue, self._page
        if self._following is not None:
            pairs = [
                (catalogue.idx_of[item_id], score)
                for item_id, score in zip(self._following.item_ids, self._following.scores, strict=True)
                if item_id in catalogue.idx_of
            ]
            on_sale = self._allowed(None)  # a product that has changed is still one of the search, if it is on sale
            kept = [(idx, score) for idx, score in pairs if on_sale is None or on_sale[idx]]
            order = np.array([idx for idx, _ in kept], np.int64)
            scores = np.array([score for _, score in kept], np.float64)
            return _PageOrder(order, scores, self._following.offset)
        needed = page.offset + MAX_FOLLOWING + self._request.top_k
        needed = max(needed, MAX_GROUPED) if page.group_by else needed
        if page.sort != "relevance":
            order = self._sorted(mask, needed)
            return _PageOrder(order, np.zeros(len(order)), page.offset)
        order = self._by_relevance(listed, mask, needed)
        values = {catalogue.idx_of[item_id]: item.score for item_id, item in items_by_id.items()}
        scores = np.array([values.get(int(idx), 0.0) for idx in order], np.float64)
        return _PageOrder(order, scores, page.offset)

    def _by_relevance(self, listed: Sequence[int], mask: NDArray[np.bool_], needed: int) -> NDArray[np.int64]:
        rest = mask.copy()
        rest[list(listed)] = False
        query = SourceQuery([self._match.query], np.zeros((1, 1), np.float32), [np.empty(0, np.int32)])
        parts = [np.array(listed, np.int64)]
        for name in ("lexical", "popularity"):
            missing = min(needed - sum(map(len, parts)), int(rest.sum()))
            if missing > 0 and name in self._context.sources and (name != "lexical" or self._match.query):
                hits = self._context.sources[name].search(query, missing, [rest])
                parts.append(hits.item_idx[0, : hits.counts[0]].astype(np.int64))
                rest[parts[-1]] = False
        return np.concatenate(parts)

    def _sorted(self, mask: NDArray[np.bool_], needed: int) -> NDArray[np.int64]:
        """Products by a field, those without it last, equal ones by popularity."""
        ids = np.flatnonzero(mask)
        values = sort_values(self._context, self._page.sort)[ids]
        popular = self._context.activity.slow[ids]
        if len(ids) > 4 * needed:
            bound = np.partition(values, needed)[needed]  # NaN is greater than all
            near = np.flatnonzero(~(values > bound)) if not np.isnan(bound) else np.arange(len(ids))
            ids, values, popular = ids[near], values[near], popular[near]
        return ids[np.lexsort((ids, -popular, values))][:needed]

    def _groups(self) -> NDArray[np.int32] | None:
        """(N + 1,) group of each product, -1 = none; None without groups."""
        if self._page.group_by is None:
            return None
        return self._context.catalogue.facets.groups(self._page.group_by, "group_by")

    def _one_per_group(
        self, order: NDArray[np.int64], scores: NDArray[np.float64], groups: NDArray[np.int32] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The first product of every group, and all without one."""
        if groups is None:
            return order, scores
        codes = groups[order].astype(np.int64)
        alone = codes < 0
        codes[alone] = -1 - order[alone]
        first = np.sort(np.unique(codes, return_index=True)[1])
        return order[first], scores[first]

    def _within_quotas(self, order: NDArray[np.int64], top_k: int) -> NDArray[np.int64]:
        """Places of a page's products: the first ones whose values are not used up."""
        quotas = self._page.quotas
        if not quotas:
            return np.arange(min(top_k, len(order)))
        facets = self._context.catalogue.facets
        codes = [facets.groups(quota.field, "quotas")[order] for quota in quotas]
        used: list[Counter[int]] = [Counter() for _ in quotas]
        places: list[int] = []
        for place in range(len(order)):
            if len(places) == top_k:
                break
            own = [int(column[place]) for column in codes]
            if all(code < 0 or count[code] < quota.most for code, count, quota in zip(own, used, quotas, strict=True)):
                places.append(place)
                for code, count in zip(own, used, strict=True):
                    count[code] += 1
        return np.array(places, np.int64)

    def _item(self, item_idx: int, score: float, items_by_id: Mapping[str, SlateItem]) -> SlateItem:
        catalogue = self._context.catalogue
        item_id = str(catalogue.item_ids[item_idx])
        return items_by_id.get(item_id) or SlateItem(
            item_id, score, catalogue.titles[item_idx], "match", price=catalogue.price_of(item_idx)
        )

    def _decorated(
        self, items: Sequence[SlateItem], groups: NDArray[np.int32] | None, mask: NDArray[np.bool_]
    ) -> list[SlateItem]:
        """The items with marked titles and their groups."""
        catalogue, page = self._context.catalogue, self._page
        if page.highlight:
            marks = Highlighter(catalogue.analyser, self._match.query)
            items = [replace(item, highlight=marks.parts(item.title or "")) for item in items]
        if groups is None or page.group_by is None:
            return list(items)
        matching = np.flatnonzero(mask)
        codes, popular = groups[matching], self._context.activity.slow[matching]
        grouped = []
        for item in items:
            idx = catalogue.idx_of[item.item_id]
            code = int(groups[idx])
            if code < 0:
                grouped.append(item)
                continue
            members = np.flatnonzero(codes == code)
            best = members[np.argsort(-popular[members], kind="stable")]
            others = [str(catalogue.item_ids[matching[place]]) for place in best if matching[place] != idx]
            label = catalogue.facets.label(page.group_by, code)
            grouped.append(replace(item, group=Group(label, max(1, len(members)), tuple(others[:MAX_OTHERS]))))
        return grouped

    def _facets(self, mask: NDArray[np.bool_]) -> tuple[Facet, ...]:
        """Counts; those of a field that the request filters by leave that filter out, so that other values stay."""
        page, facets = self._page, self._context.catalogue.facets
        counted: list[Facet] = []
        for name in page.facets:
            if name == AUTO:
                chosen = facets.auto(mask, page.facet_values)
                known = {one.field for one in counted}
                counted += [self._facet(one.field, mask) for one in chosen if one.field not in known]
            elif name not in {one.field for one in counted}:
                counted.append(self._facet(name, mask))
        return tuple(counted)

    def _facet(self, field: str, mask: NDArray[np.bool_]) -> Facet:
        wider = without(self._request.filters, field)
        if wider is not self._request.filters:
            mask = self._mask(wider)
        return self._context.catalogue.facets.count(field, mask, self._page.facet_values)

    def _token(self, order: NDArray[np.int64], scores: NDArray[np.float64], offset: int) -> str | None:
        if not len(order):
            return None
        order, scores = order[:MAX_FOLLOWING], scores[:MAX_FOLLOWING]
        ids = tuple(str(self._context.catalogue.item_ids[idx]) for idx in order)
        return encode(Following(ids, tuple(scores.tolist()), offset), self._search)


def plan(
    context: PageContext, request: Request, page: PageRequest, allowed: Callable[[Filters | None], Mask]
) -> PagePlan:
    """Plans a page.

    Args:
        context: the recommender's parts.
        request: with history; its query is not normalised.
        page: request of the page's parts.
        allowed: (N + 1,) products that may be shown under filters; None = all.

    Raises:
        RequestError: an unknown field, a token of another search, or settings that exclude each other.
    """
    match = context.matcher.match(normalise(request.query or ""), request.variants)
    filters = request.filters.model_dump(mode="json") if request.filters else None
    sent = request.query if request.sent_query is None else request.sent_query  # rules may change between two pages
    search = fingerprint(normalise(sent or ""), filters, page.sort, page.group_by)
    following = None if page.token is None else decode(page.token, search)
    _check(context, page)
    ranked = None
    if following is None and page.sort == "relevance":
        blocked = request.blocked
        if match.mask is not None:
            blocked = ~match.mask if blocked is None else ~match.mask | _padded(blocked, len(match.mask))
        query = match.query if match.kind == "corrected" else request.query
        head = min(max(context.num_ranked, 1), page.offset + request.top_k + MAX_FOLLOWING)
        ranked = replace(request, query=query, blocked=blocked, top_k=head)
    return PagePlan(ranked, context, request, page, match, allowed, search, following)


def sort_values(context: PageContext, sort: str) -> NDArray[np.float64]:
    """(N + 1,) values of which the least comes first; NaN = last.

    Raises:
        RequestError: no product has such a field, it holds texts, or it is the relevance, which has no values.
    """
    name = normalise(sort.removeprefix("-"))
    if name == "relevance":
        raise RequestError(
            "sort", f"{sort!r}: relevance has one direction, the best match first; expected 'relevance' as it stands"
        )
    if name == "popularity":
        values = context.activity.slow.astype(np.float64)
    elif name == "newness":
        values = _newness(context)
    else:
        values = context.catalogue.facets.numbers(name, "sort", ("relevance", "popularity", "newness"))
    return -values if (name in BEST_FIRST) != sort.startswith("-") else values


def without(filters: Filters | None, field: str) -> Filters | None:
    """Filters without those on one field, except in `where`; the same object where there is none."""
    if filters is None:
        return None
    name = normalise(field)
    changes: dict[str, object] = {}
    if name in ("category", "brand") and getattr(filters, name):
        changes[name] = ()
    if name == "price" and filters.price is not None:
        changes["price"] = None
    kept = {key: values for key, values in filters.attributes.items() if normalise(key) != name}
    if len(kept) < len(filters.attributes):
        changes["attributes"] = kept
    return filters.model_copy(update=changes) if changes else filters


def _newness(context: PageContext) -> NDArray[np.float64]:
    """(N + 1,) time of a product's first event; products that came after the model are newer, those without last."""
    first = np.where(context.activity.first_ts > 0, context.activity.first_ts.astype(np.float64), np.nan)
    live = np.arange(len(context.catalogue.base) + 1, len(first))
    first[live] = context.activity.end_us + live
    return first


def _num_groups(codes: NDArray[np.int32]) -> int:
    return len(np.unique(codes[codes >= 0])) + int((codes < 0).sum())


def _padded(blocked: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    return np.pad(blocked[:size], (0, max(0, size - len(blocked))))


def _check(context: PageContext, page: PageRequest) -> None:
    facets = context.catalogue.facets
    if page.sort != "relevance":
        sort_values(context, page.sort)
    if page.group_by is not None:
        facets.groups(page.group_by, "group_by")
    for place, quota in enumerate(page.quotas):
        facets.groups(quota.field, f"quotas.{place}.field")
    for place, name in enumerate(page.facets):
        if name != AUTO:
            facets.count(name, np.zeros(len(context.catalogue) + 1, np.bool_), 1, f"facets.{place}")
    if page.offset and page.token is not None:
        raise RequestError("offset", "cannot be sent with page_token, which says where the page begins")
    if page.offset and page.quotas:
        raise RequestError("offset", "cannot be combined with quotas, which change what a page holds; use page_token")
