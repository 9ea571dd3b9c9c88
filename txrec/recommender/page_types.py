"""Search page values: the request of a page in addition to its products, and the parts of its answer."""

from dataclasses import dataclass, field
from typing import Literal

from txrec.index.filters.facets import Facet

MatchKind = Literal["all", "corrected", "partial", "nearest"]


@dataclass(frozen=True)
class Quota:
    """Bound on the products with the same value of a field on one page.

    Attributes:
        field: `brand`, `category` or an attribute; of several values of a product the last one counts.
        most: products per value.
    """

    field: str
    most: int


@dataclass(frozen=True)
class PageRequest:
    """Request of a page: its parts next to the products.

    Attributes:
        facets: fields to count; `auto` = those that divide the matching products best.
        facet_values: values per facet at most.
        sort: `relevance`, `popularity`, `newness`, `rating`, `price` or any attribute with numbers or dates; a minus
            before it turns the order around.
        offset: products before the page.
        token: of the page before; None = the first page.
        group_by: field of which one product per value is shown.
        quotas: limits per value and page.
        highlight: whether titles are marked where they match.
    """

    facets: tuple[str, ...] = ()
    facet_values: int = 10
    sort: str = "relevance"
    offset: int = 0
    token: str | None = None
    group_by: str | None = None
    quotas: tuple[Quota, ...] = ()
    highlight: bool = False


@dataclass(frozen=True)
class Group:
    """Products that a product stands for.

    Attributes:
        value: of the field that they have in common.
        count: matching products with the value, the shown one included.
        others: raw ids of the most popular others.
    """

    value: str
    count: int
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """Parts of a page next to its products.

    Attributes:
        total: matching products that the request allows; with `group_by` also counted one by one.
        offset: products before the page.
        match: `all`: the products hold every word; `corrected`: those of another spelling; `partial`: of most words;
            `nearest`: no product holds any word.
        answered_query: the query that the products match; None without a query.
        did_you_mean: a spelling that finds more; None = none.
        num_groups: groups, products without the field one each; None without `group_by`.
        facets: counts over all matching products.
        next_token: of the page after this one; None = this is the last one.
    """

    total: int
    offset: int = 0
    match: MatchKind = "all"
    answered_query: str | None = None
    did_you_mean: str | None = None
    num_groups: int | None = None
    facets: tuple[Facet, ...] = field(default_factory=tuple)
    next_token: str | None = None
