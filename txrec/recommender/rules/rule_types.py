"""Rule types: conditions of a request, effects on its slate, and the rule that joins them.

A rule acts where all of its conditions hold. Effects act in this order, whatever the order of the rules:

1. `redirect`, `replace_query`, `synonyms` change the query. Conditions always see the query that was sent.
2. `block` removes products before retrieval, so that the slate is full whenever enough products remain.
3. `boost` and `bury` multiply scores; several factors of one product multiply.
4. `promote` gives promoted products a share of the slots.
5. `limit` bounds the share of the slots that products take.
6. `pin` puts products at positions. A blocked product, or one that a request's filters exclude, is never pinned.

Of two rules with effects of the same kind that cannot both act, the one of higher priority acts.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

import re2
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from txrec.errors import field_error
from txrec.index.filters.filters import Filters
from txrec.json_numbers import Integer, Number
from txrec.text import normalise

Name = Annotated[str, Field(min_length=1, max_length=256)]
Words = Annotated[str, Field(min_length=1, max_length=512)]


MAX_PATTERN_SIZE = 5_000
"""Instructions that a pattern may compile to, as RE2 counts them; repetitions such as {1,1000} need many."""
COMPILE_BYTES = 1 << 20
"""Memory for the program of one pattern; enough for twice `MAX_PATTERN_SIZE`, bytes."""


@lru_cache(maxsize=20_000)
def compiled(pattern: str) -> Any:
    """A pattern as RE2 compiles it.

    Raises:
        re2.error: it is not a regular expression.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = COMPILE_BYTES  # a greater program fails at once instead of being made
    return re2.compile(pattern, options)


class Closed(BaseModel):
    """A model without unknown fields, documented under its definition."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, populate_by_name=True
    )


class QueryCondition(Closed):
    """Condition on the search text, after normalisation. Exactly one of the three."""

    exact: Words | None = None
    """The query is this text."""
    contains: Words | None = None
    """The query holds these words, next to each other and in this order."""
    pattern: Words | None = None
    """The query holds a match of this regular expression (RE2 syntax, linear time)."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        named = [name for name in ("exact", "contains", "pattern") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(f"found {' and '.join(named) or 'none'}; expected exactly one of exact, contains, pattern")
        if self.pattern is None and not normalise(self.exact or self.contains or ""):
            raise ValueError("is blank, so that no query fulfils it")
        return self

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                size = compiled(pattern).programsize
            except re2.error as error:
                reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
                raise ValueError(f"{pattern!r} is not a regular expression: {reason}") from None
            if size > MAX_PATTERN_SIZE:
                raise ValueError(f"{pattern!r} compiles to {size} instructions; expected at most {MAX_PATTERN_SIZE}")
        return pattern


class Period(Closed):
    """A time span; either end may be open."""

    start: datetime | None = None
    """The rule acts from this instant on; without time zone = UTC."""
    end: datetime | None = None
    """The rule acts until just before this instant; without time zone = UTC."""

    @field_validator("start", "end")
    @classmethod
    def _in_utc(cls, instant: datetime | None) -> datetime | None:
        return instant.replace(tzinfo=UTC) if instant is not None and instant.tzinfo is None else instant

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"ends at {self.end.isoformat()}, before its start {self.start.isoformat()}")
        return self

    def holds(self, now_us: int) -> bool:
        """True where an instant, microseconds since 1970 UTC, lies in the period."""
        now_s = now_us / 1e6
        return (not self.start or self.start.timestamp() <= now_s) and (not self.end or now_s < self.end.timestamp())


class Conditions(Closed):
    """Conditions of a rule; all of them must hold, absent ones always do."""

    query: QueryCondition | None = None
    """Condition on the search text; a request without one does not fulfil it."""
    category: tuple[Name, ...] = ()
    """The request filters for any of these categories."""
    placement: tuple[Name, ...] = ()
    """The request names any of these placements."""
    segment: tuple[Name, ...] = ()
    """The user is in any of these segments."""
    period: Period | None = None
    """The time of the request."""


class Products(Closed):
    """A selection of products: those named, and those that fulfil the filters."""

    items: tuple[Name, ...] = Field((), max_length=1_000)
    """Item ids."""
    filters: Filters | None = None
    """Conditions as in a request."""

    @model_validator(mode="after")
    def _selects(self) -> Self:
        if not self.items and (self.filters is None or self.filters == Filters()):
            raise ValueError("selects no product; expected items, filters or both")
        return self


class Pin(Closed):
    """Puts products at fixed positions."""

    type: Literal["pin"] = "pin"
    """Kind of the effect."""
    items: tuple[Name, ...] = Field(min_length=1, max_length=100)
    """Item ids, for consecutive positions."""
    position: Integer = Field(1, ge=1, le=1_000)
    """Position of the first one, 1 = top."""

    @field_validator("items")
    @classmethod
    def _each_once(cls, items: tuple[str, ...]) -> tuple[str, ...]:
        double = next((item for place, item in enumerate(items) if item in items[:place]), None)
        if double is not None:
            raise ValueError(f"{double!r} is there twice; a product has one position")
        return items


class Boost(Closed):
    """Multiplies the scores of products."""

    type: Literal["boost"] = "boost"
    """Kind of the effect."""
    products: Products
    """The products."""
    factor: Number = Field(gt=1, le=1_000)
    """Factor of their scores."""


class Bury(Closed):
    """Multiplies the scores of products by less than one."""

    type: Literal["bury"] = "bury"
    """Kind of the effect."""
    products: Products
    """The products."""
    factor: Number = Field(gt=0, lt=1)
    """Factor of their scores."""


class Block(Closed):
    """Removes products from the slate."""

    type: Literal["block"] = "block"
    """Kind of the effect."""
    products: Products
    """The products."""


class Promote(Closed):
    """Reserves a share of the slots for promoted products, spread evenly."""

    type: Literal["promote"] = "promote"
    """Kind of the effect."""
    products: Products
    """Promoted products: those among the candidates by their score, then the named ones that are not."""
    share: Number = Field(gt=0, le=1)
    """Share of the slate's slots, rounded up."""


class Limit(Closed):
    """Bounds the share of the slots that products take; the others move up."""

    type: Literal["limit"] = "limit"
    """Kind of the effect."""
    products: Products
    """Limited products; those with the lowest scores fall away."""
    share: Number = Field(ge=0, lt=1)
    """Largest share of the slate's slots, rounded down."""


class ReplaceQuery(Closed):
    """Searches for another text."""

    type: Literal["replace_query"] = "replace_query"
    """Kind of the effect."""
    query: Words
    """The text to search for instead."""


class Redirect(Closed):
    """Sends the user to a page; the slate is answered all the same."""

    type: Literal["redirect"] = "redirect"
    """Kind of the effect."""
    url: str = Field(min_length=1, max_length=2_000, pattern=r"^(https?://|/$|/[^/\\])")
    """Address of the page."""


class Synonyms(Closed):
    """Adds words of the same meaning to the query."""

    type: Literal["synonyms"] = "synonyms"
    """Kind of the effect."""
    words: tuple[Words, ...] = Field(min_length=1, max_length=50)
    """Words of one meaning. Both ways: a query that holds any of them is extended by the others."""
    source: Words | None = Field(None, alias="from")
    """One way: only a query that holds this word is extended, by all of `words`."""

    @model_validator(mode="after")
    def _adds(self) -> Self:
        if self.source is None and len({normalise(word) for word in self.words}) < 2:
            raise ValueError("has a single word; expected two, or `from`")
        if self.source is not None and {normalise(word) for word in self.words} <= {normalise(self.source)}:
            raise ValueError(f"adds {self.source!r} to itself, so that it can never act")
        return self


Effect = Annotated[
    Pin | Boost | Bury | Block | Promote | Limit | ReplaceQuery | Redirect | Synonyms, Field(discriminator="type")
]


class Rule(Closed):
    """A merchandising rule."""

    rule_id: Name
    """Name of the rule, unique; putting it again replaces the rule."""
    description: str = Field("", max_length=2_000)
    """Text for people."""
    when: Conditions = Conditions()
    """Conditions; without any, the rule always acts."""
    effect: Effect
    """Its effect."""
    priority: Integer = Field(0, ge=-1_000, le=1_000)
    """Decides between rules that cannot both act; higher acts."""
    enabled: bool = True
    """false keeps the rule without letting it act."""

    @model_validator(mode="after")
    def _can_act(self) -> Self:
        if isinstance(self.effect, ReplaceQuery | Redirect) and self.when.query is None:
            raise field_error("when.query", f"is missing; the effect {self.effect.type} needs a condition on the query")
        exact = self.when.query.exact if self.when.query else None
        if isinstance(self.effect, ReplaceQuery) and exact and normalise(exact) == normalise(self.effect.query):
            raise field_error("effect.query", f"replaces {exact!r} by itself, so that it can never act")
        return self

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Item ids that the effect names."""
        if isinstance(self.effect, Pin):
            return self.effect.items
        return self.effect.products.items if isinstance(self.effect, Boost | Bury | Block | Promote) else ()
