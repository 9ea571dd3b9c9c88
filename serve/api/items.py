"""HTTP bodies of reading and changing products."""

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, RootModel, field_validator, model_validator

from serve.api.base import ITEMS, Body, Id, Reply, as_many, one_or_many
from txrec.data.formats.values import strip_html
from txrec.errors import field_error
from txrec.json_numbers import Number

MAX_ITEMS = 1_000
Place = Annotated[str, Field(min_length=1, max_length=256)]


class LiveItem(Body):
    """A product from now on. Fields that are left out stay as they are, null removes a value."""

    item_id: Id = Field(examples=[ITEMS[0]])
    """The product; an unknown id adds a new one."""
    title: str | None = Field(None, max_length=2_000, examples=["Reading lamp, brass"])
    """Name."""
    description: str | None = Field(None, max_length=20_000)
    """Further text that searches match."""
    category: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] | None = Field(None, max_length=20)
    """Path, broadest first."""
    brand: str | None = Field(None, max_length=256)
    """Maker."""
    price: Number | None = Field(None, ge=0, le=1e9)
    """Price in the shop's currency."""
    available: bool | None = None
    """false takes it out of every slate, except where a filter asks for unavailable products, until it is true or
    null."""
    attributes: (
        dict[Annotated[str, Field(min_length=1, max_length=256)], Annotated[str, Field(max_length=2_000)]] | None
    ) = Field(None, max_length=100)
    """Values for filters, e.g. colour."""
    prices: dict[Place, Annotated[Number, Field(ge=0, le=1e9)]] | None = Field(None, max_length=10_000)
    """Price by store or country, where it differs from `price`."""
    stock: dict[Place, Annotated[float, Field(ge=0, le=1e9)] | bool] | None = Field(None, max_length=10_000)
    """Pieces by store or country, or whether there are any; where some are named, it is to be had there alone."""
    sale_start: datetime | None = Field(None, examples=["2026-12-01T00:00:00Z"])
    """Not shown before this instant; without a zone it is UTC."""
    sale_end: datetime | None = None
    """Not shown from this instant on."""

    @field_validator("title", "description", "brand")
    @classmethod
    def _without_html(cls, text: str | None) -> str | None:
        """HTML in texts becomes text, as in a catalogue's files."""
        return strip_html(text) if text and ("<" in text or "&" in text) else text

    @field_validator("sale_start", "sale_end")
    @classmethod
    def _in_utc(cls, instant: datetime | None) -> datetime | None:
        """Instants whose year is 1 to 9999 in UTC too: others cannot be answered."""
        if instant is not None and instant.tzinfo is not None:
            try:
                instant.astimezone(UTC)
            except OverflowError:
                raise ValueError(f"{instant} is before the year 1 or after the year 9999 in UTC") from None
        return instant

    @model_validator(mode="after")
    def _starts_before_it_ends(self) -> Self:
        start, end = (
            None if one is None else one if one.tzinfo else one.replace(tzinfo=UTC)
            for one in (self.sale_start, self.sale_end)
        )
        if start is not None and end is not None and end <= start:
            message = f"{self.sale_end} is not after sale_start ({self.sale_start})"
            raise field_error("sale_end", message)
        return self


class ItemsRequest(RootModel[tuple[LiveItem, ...]]):
    """One product, or up to 1000 of them."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra=one_or_many(
            MAX_ITEMS, {"item_id": ITEMS[0], "title": "Reading lamp, brass", "price": 49.9, "available": True}
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _one_is_many(cls, body: Any) -> Any:
        return as_many(body, MAX_ITEMS, "products")


class ItemsReply(Reply):
    """Changes of products are on disk and part of every slate within two seconds."""

    stored: int
    """Products changed."""
    change: int
    """Number of the last change."""


class ProductReply(Reply):
    """A product as the model in production knows it."""

    item_id: str
    """Raw id."""
    title: str | None
    """Name."""
    description: str | None
    """Further text that searches match."""
    category: list[str] | None
    """Path, broadest first."""
    brand: str | None
    """Maker."""
    price: float | None
    """Price in the shop's currency."""
    available: bool | None
    """As the shop says."""
    attributes: dict[Place, Annotated[str, Field(max_length=2_000)]] | None = Field(None, max_length=100)
    """Values for filters."""
    prices: dict[str, float] = Field(default_factory=dict)
    """Price by store or country, where it differs."""
    stock: dict[str, float] = Field(default_factory=dict)
    """Pieces by store or country."""
    sale_start: datetime | None = None
    """Not shown before."""
    sale_end: datetime | None = None
    """Not shown from then on."""
    on_sale: bool
    """True where it may be in a slate."""
