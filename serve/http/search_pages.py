"""Search pages over HTTP: the page of a request body, and the page of a reply."""

from serve.api.pages import FacetReply, FacetValueReply, GroupReply, PageFields, PageReply, TextPart
from txrec.recommender.page_types import Page, PageRequest, Quota
from txrec.recommender.types import SlateItem


def page_request(body: PageFields) -> PageRequest | None:
    """The page that a body asks for; None where it sends no field of a page."""
    if body.model_fields_set.isdisjoint(PageFields.model_fields):
        return None
    return PageRequest(
        facets=tuple(dict.fromkeys(body.facets)),
        facet_values=body.facet_values,
        sort=body.sort,
        offset=body.offset,
        token=body.page_token,
        group_by=body.group_by,
        quotas=tuple(Quota(quota.field, quota.max) for quota in body.quotas),
        highlight=body.highlight,
    )


def page_reply(page: Page | None) -> PageReply | None:
    """The page of a reply."""
    if page is None:
        return None
    return PageReply(
        total=page.total,
        offset=page.offset,
        match=page.match,
        answered_query=page.answered_query,
        did_you_mean=page.did_you_mean,
        num_groups=page.num_groups,
        facets=[
            FacetReply(
                field=facet.field,
                kind=facet.kind,
                values=[
                    FacetValueReply(value=one.value, count=one.count, min=one.low, max=one.high) for one in facet.values
                ],
                num_values=facet.num_values,
                missing=facet.missing,
                min=facet.low,
                max=facet.high,
            )
            for facet in page.facets
        ],
        next_page_token=page.next_token,
    )


def group_reply(item: SlateItem) -> GroupReply | None:
    """The group of an item."""
    group = item.group
    return None if group is None else GroupReply(value=group.value, count=group.count, others=list(group.others))


def highlight_reply(item: SlateItem) -> list[TextPart]:
    """The marked title of an item."""
    return [TextPart(text=text, match=match) for text, match in item.highlight]
