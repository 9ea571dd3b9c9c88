"""HTTP bodies of search pages: facets, order, paging, groups and quotas of a request, and what answers them."""

from typing import Annotated, Literal

from pydantic import Field

from serve.api.base import Body, Id, Reply
from serve.documents.placements import QuotaBody
from txrec.json_numbers import Integer

MAX_FACETS, MAX_QUOTAS = 50, 10
MAX_OFFSET = 10_000_000
MAX_TOKEN_CHARS = 200_000
FieldName = Annotated[str, Field(min_length=1, max_length=256)]


class PageFields(Body):
    """Fields that make a slate a page of everything that matches; any of them fills `page` in the reply."""

    facets: tuple[FieldName, ...] = Field((), max_length=MAX_FACETS, examples=[["auto"]])
    """Fields to count over all matching products: `category`, `brand`, `price`, any attribute; `auto` = those that
    divide the matching products best. A filter on the same field, `where` excepted, is left out of its counts. A
    name that comes twice counts once."""
    facet_values: Integer = Field(10, ge=1, le=1_000)
    """Values per facet at most, most frequent first."""
    sort: FieldName = "relevance"
    """`relevance`, `popularity`, `newness`, `rating`, `price` or any attribute with numbers or dates; a minus before it
    turns the order around, except that of `relevance`. Products without the field come last."""
    offset: Integer = Field(0, ge=0, le=MAX_OFFSET)
    """Products before the page. What changes between two requests may shift products; `page_token` does not."""
    page_token: str | None = Field(None, min_length=1, max_length=MAX_TOKEN_CHARS)
    """`next_page_token` of the page before, with the same query, filters, sort and group_by: no product comes twice and
    none is left out, whatever model answers."""
    group_by: FieldName | None = Field(None, examples=["colour"])
    """One product per value of this field, the others named in its `group`."""
    quotas: tuple[QuotaBody, ...] = Field((), max_length=MAX_QUOTAS)
    """Limits per value and page."""
    highlight: bool = False
    """Fill `highlight` of the items."""


class FacetValueReply(Reply):
    """A value, or a range of numbers."""

    value: str
    """Value as the shop wrote it; of a range its bounds as text."""
    count: int
    """Matching products with it."""
    min: float | None
    """Least number of the range, included; null = no bound, or no range."""
    max: float | None
    """Upper bound of the range, excluded."""


class FacetReply(Reply):
    """Counts of one field over all matching products."""

    field: str
    """Its name."""
    kind: Literal["text", "number"]
    """Texts are counted by value, numbers and dates (seconds since 1970) by range."""
    values: list[FacetValueReply]
    """Texts by count, ranges in order."""
    num_values: int
    """Distinct values that there are."""
    missing: int
    """Matching products without the field."""
    min: float | None
    """Least number."""
    max: float | None
    """Greatest number."""


class PageReply(Reply):
    """A page of everything that matches."""

    total: int
    """Matching products that filters and rules allow."""
    offset: int
    """Products before this page."""
    match: Literal["all", "corrected", "partial", "nearest"]
    """`all`: products hold every word; otherwise no product does, and the page answers another spelling
    (`corrected`), most of the words (`partial`) or the nearest products (`nearest`)."""
    answered_query: str | None
    """The query that the products match, normalised."""
    did_you_mean: str | None
    """A spelling that finds more."""
    num_groups: int | None
    """Groups; null without `group_by`."""
    facets: list[FacetReply]
    """Counts, in the order of the request."""
    next_page_token: str | None
    """Token of the page after this one; null = this is the last one."""


class TextPart(Reply):
    """A part of a title."""

    text: str
    """The part; all parts joined are the title."""
    match: bool
    """True where it matches the query."""


class GroupReply(Reply):
    """Products that an item stands for."""

    value: str
    """Value of the field that they have in common."""
    count: int
    """Matching products with the value, the item included."""
    others: list[Id]
    """The most popular others."""
