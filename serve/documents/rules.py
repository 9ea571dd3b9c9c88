"""Rules in the server: compiled from their documents, matched to a request, and applied around a recommender."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from serve.observability.logs import log
from serve.types import ProductCheck, ServedCatalogue, ServingRequest, SupportsRecommend
from txrec.errors import RequestError
from txrec.online.documents import Documents
from txrec.recommender.lists.lists import ListRequest
from txrec.recommender.rules.rule_application import ActiveRules, RuleBook, slate_items
from txrec.recommender.rules.rule_index import RuleContext, RuleIndex
from txrec.recommender.rules.rule_types import Products, Rule
from txrec.recommender.search.search_page import PagePlan
from txrec.recommender.types import Request, Slate
from txrec.text import normalise

KIND = "rules"
"""Kind of the documents that hold rules."""


def compile_rules(documents: Documents) -> RuleBook:
    """The rules of all documents; one that this version of txrec cannot read is left out and logged."""
    rules = []
    for name, document in sorted(documents.by_name.items()):
        try:
            rules.append(Rule.model_validate(document))
        except ValidationError as error:
            log.warning("rule %r is left out: %s", name, error.errors()[0]["msg"])
    return RuleBook(RuleIndex(tuple(rules)))


@dataclass(frozen=True, eq=False)
class RuledRequest:
    """A request before and after the rules that act on it.

    Attributes:
        sent: the request as it was sent, with its history.
        prepared: the request to retrieve for; None = nothing has to be retrieved.
        rules: the rules that act; None = none.
        fallback_items: products that fill a slate that is too short.
        catalogue: knows them.
        page: makes a page of the slate; None = it stays a slate.
    """

    sent: Request
    prepared: Request | None
    rules: ActiveRules | None
    fallback_items: tuple[str, ...]
    catalogue: ServedCatalogue
    page: PagePlan | None = None

    def finish(self, slate: Slate | None) -> Slate:
        """The slate after the effects of the rules, filled up with fallback products, or its page.

        Args:
            slate: answer to `prepared`; None where that is None.
        """
        if slate is None or self.prepared is None:
            return self.page.finish(slate) if self.page else Slate(())
        ruled = self.rules.apply(slate, self.sent) if self.rules else slate
        if self.page is not None:
            return self.page.finish(ruled)
        missing = self.sent.top_k - len(ruled.items)
        if not self.fallback_items or missing <= 0:
            return ruled
        present = {item.item_id for item in ruled.items}
        others = [item_id for item_id in self.fallback_items if item_id not in present]
        filling = slate_items(self.catalogue, others, replace(self.sent, blocked=self.prepared.blocked), "fallback")
        return replace(ruled, items=(*ruled.items, *filling[:missing]))


def prepare(
    book: RuleBook,
    serving: ServingRequest,
    request: Request,
    recommender: SupportsRecommend,
    clock: Callable[[], float] = time.time,
) -> RuledRequest:
    """Matches the rules to a request.

    Args:
        book: all rules.
        serving: the request with its context.
        request: the same with its history.
        recommender: will answer it.
        clock: seconds since 1970 UTC.
    """
    now_us = request.now_us or int(clock() * 1e6)
    catalogue, fallback_items = recommender.catalogue.at(request.context, now_us), serving.fallback_items
    if not serving.use_rules or not book.index.rules:
        deep = _deep(request, serving)
        return _planned(RuledRequest(request, deep, None, fallback_items, catalogue), serving, recommender)
    context = RuleContext(
        query=normalise(request.query or ""),
        categories=frozenset(normalise(name) for name in request.filters.category) if request.filters else frozenset(),
        placement=serving.placement,
        segments=segments(serving, recommender),
        now_us=now_us,
    )
    rules = book.match(context, catalogue)
    prepared = rules.prepare(request, recommender.num_ranked) if rules else _deep(request, serving)
    return _planned(RuledRequest(request, prepared, rules, fallback_items, catalogue), serving, recommender)


def _deep(request: Request, serving: ServingRequest) -> Request:
    """The request for as many products as exploration needs."""
    return replace(request, top_k=serving.depth) if serving.depth > request.top_k else request


def segments(serving: ServingRequest, recommender: SupportsRecommend) -> frozenset[str]:
    """Segments of a request's user; those of the users table too unless a live profile replaces it."""
    request = serving.request
    stored = recommender.profile(request.user_id) if request.properties is None else None
    return frozenset(serving.segments if stored is None else (*serving.segments, *stored.all_segments))


def _planned(ruled: RuledRequest, serving: ServingRequest, recommender: SupportsRecommend) -> RuledRequest:
    """The request with the plan of its page, if it has one."""
    if serving.page is None or ruled.prepared is None:
        return ruled
    plan = recommender.plan_page(replace(ruled.prepared, top_k=ruled.sent.top_k), serving.page)
    sent = ruled.sent if plan.request is None else replace(ruled.sent, top_k=plan.request.top_k)
    return replace(ruled, sent=sent, prepared=plan.request, page=plan)


def similar(book: RuleBook, serving: ServingRequest, item_id: str, recommender: SupportsRecommend) -> Slate:
    """Similar products, with the rules that act on the request."""
    ruled = prepare(book, serving, serving.request, recommender)
    return ruled.finish(recommender.similar_to(item_id, ruled.prepared or serving.request))


def product_list(
    book: RuleBook, serving: ServingRequest, request: Request, spec: ListRequest, recommender: SupportsRecommend
) -> Slate:
    """A list such as trending products, with the rules that act on the request.

    Args:
        book: all rules.
        serving: the request with its context.
        request: the same with its history.
        spec: which list.
        recommender: will answer it.
    """
    ruled = prepare(book, serving, request, recommender)
    return ruled.finish(recommender.product_list(ruled.prepared or request, spec))


def own_list(
    book: RuleBook, serving: ServingRequest, request: Request, item_ids: Sequence[str], recommender: SupportsRecommend
) -> Slate:
    """The caller's own products in order, with the rules that act on the request; rules add no products.

    Products that a limit moves out of the slate, and then those that cannot be bought now, stand last.

    Args:
        book: all rules.
        serving: the request with its context.
        request: the same with its history.
        item_ids: the products.
        recommender: will answer it.
    """
    ruled = prepare(book, serving, request, recommender)
    prepared, catalogue = ruled.prepared or request, ruled.catalogue
    allowed, blocked = catalogue.mask(request.filters, ()) if request.filters else None, prepared.blocked
    places = {item_id: catalogue.idx_of.get(item_id, 0) for item_id in item_ids}
    refused = [key for key, place in places.items() if place and allowed is not None and not allowed[place]]
    hidden = {*refused, *(key for key, place in places.items() if place and blocked is not None and blocked[place])}
    slate = recommender.rank_items([key for key in places if key not in hidden], prepared)
    if ruled.rules is not None:
        moved = replace(ruled.rules, adds_items=False).apply(slate, request)
        kept = {item.item_id for item in moved.items}
        slate = replace(moved, items=(*moved.items, *(item for item in slate.items if item.item_id not in kept)))
    on_sale = catalogue.on_sale
    last = {item.item_id for item in slate.items if on_sale is not None and not on_sale[places[item.item_id]]}
    notes = [f"items: {key} does not fulfil the filters, left out" for key in refused]
    notes += [f"items: {item.item_id} cannot be bought now, last" for item in slate.items if item.item_id in last]
    items = sorted(slate.items, key=lambda item: item.item_id in last)
    return replace(slate, items=tuple(items), notes=(*slate.notes, *notes))


def check_products(recommender: SupportsRecommend, selections: Sequence[Products]) -> tuple[ProductCheck, ...]:
    """Meaning of each selection of products in the catalogue."""
    catalogue, checks = recommender.catalogue, []
    for products in selections:
        unknown = tuple(name for name in products.items if name not in catalogue.idx_of)
        try:
            mask = None if products.filters is None else catalogue.mask(products.filters, ())
        except RequestError as error:
            checks.append(ProductCheck(unknown, 0, str(error)))
            continue
        matching = 0 if products.filters is None else len(catalogue.idx_of) if mask is None else int(mask.sum())
        known = [catalogue.idx_of[name] for name in products.items if name in catalogue.idx_of]
        common = 0 if products.filters is None else len(known) if mask is None else int(mask[known].sum())
        checks.append(ProductCheck(unknown, matching + len(known) - common, None, common))
    return tuple(checks)
