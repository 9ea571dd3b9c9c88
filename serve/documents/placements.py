"""Placements: named places of a shop, with defaults for the requests that name them.

Defaults come from the TOML file `serve.placements_file`, a table per placement, and over HTTP, which wins. A field that
a request sends itself is not changed; the filters of the placement hold in addition to those of the request.
"""

import asyncio
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve.documents.live_documents import LiveDocuments
from serve.observability.logs import log
from txrec.config import ExplorationConfig, ObjectiveConfig
from txrec.errors import ConfigError
from txrec.index.filters.filters import Filters, joined
from txrec.json_numbers import Integer, Number
from txrec.online.documents import Documents, DocumentStore

KIND = "placements"
REFRESH_S = 0.5
_FIELDS = (
    "top_k",
    "diversity",
    "exclude_seen",
    "max_showings",
    "fatigue",
    "seen_places",
    "rules",
    "sources",
    "objective",
    "sort",
    "facets",
    "group_by",
    "quotas",
)


class QuotaBody(BaseModel):
    """Bound on the products with the same value of a field on one page."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    field: str = Field(min_length=1, max_length=256, examples=["brand"])
    """`brand`, `category` (the last name of the path) or an attribute."""
    max: Integer = Field(ge=1, le=1_000, examples=[3])
    """Products per value; those in excess move to later pages."""


class Placement(BaseModel):
    """Defaults of a placement; absent ones are those of the API."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"top_k": 8, "diversity": 0.3, "filters": {"price": {"max": 100}}}]},
    )

    description: str = Field("", max_length=2_000)
    """Text for people."""
    top_k: Integer | None = Field(None, ge=1)
    """Items of the slate."""
    filters: Filters | None = None
    """Conditions that every product of the placement fulfils."""
    diversity: Number | None = Field(None, ge=0, le=1)
    """0 = by relevance alone, 1 = by dissimilarity."""
    exclude_seen: bool | None = None
    """Leave out everything in the user's history."""
    max_showings: Integer | None = Field(None, ge=0, le=1_000)
    """Products that were shown this often since the user last engaged with them stand behind all others; 0 = none."""
    fatigue: bool | None = None
    """Lowers the scores of products that the user was shown in vain, as served slates in the training log taught."""
    seen_places: Integer | None = Field(None, ge=0, le=1_000)
    """Number of first products of every slate of this server that count as shown to the user."""
    rules: bool | None = None
    """True where merchandising rules act."""
    sources: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] | None = Field(None, max_length=50)
    """Candidate sources that may propose products, e.g. `popularity`; absent = all."""
    objective: ObjectiveConfig | None = None
    """Worth of clicks, carts and purchases by which slates are ordered; {} = by relevance, absent = as the bundle
    says."""
    sort: str | None = Field(None, min_length=1, max_length=256)
    """Order of a search page."""
    facets: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] | None = Field(None, max_length=50)
    """Fields that a search page counts."""
    group_by: str | None = Field(None, min_length=1, max_length=256)
    """Field of which a search page shows one product per value."""
    quotas: tuple[QuotaBody, ...] | None = Field(None, max_length=10)
    """Limits of a search page per value."""
    explore: bool = True
    """false = slates are never changed by exploration."""
    exploration: ExplorationConfig | None = None
    """Bounds of exploration in this placement; absent = those of `serve.exploration`."""
    fallback_items: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field((), max_length=1_000)
    """Products that fill a slate that is shorter than `top_k`, in this order, where the request allows them."""


def read_file(path: str) -> dict[str, Placement]:
    """Placements of a TOML file, a table each; none for an empty path.

    Raises:
        ConfigError: no such file, no TOML, or a bad field; names the placement and the field.
    """
    if not path:
        return {}
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"serve.placements_file = {path!r}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    placements = {}
    for name, table in tables.items():
        try:
            placements[name] = Placement.model_validate(table)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in (name, *first["loc"]))
            raise ConfigError(f"{path}: {where}: {first['msg']}") from None
    return placements


class Placements:
    """The placements of a shop as requests read and change them.

    Args:
        store: keeps those that were put over HTTP.
        defaults: those of the file.
        clock: seconds, for the time between two looks at the store.
    """

    def __init__(
        self,
        store: DocumentStore,
        defaults: Mapping[str, Placement] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._defaults = dict(defaults or {})
        self._clock = clock
        self._live = LiveDocuments(store, self._compiled)
        self._next_look = float("-inf")

    async def find(self, name: str | None) -> Placement | None:
        """A placement by its name; None for an unknown one. Changes of other replicas count within half a second."""
        if name is None:
            return None
        return (await self.all()).get(name)

    async def all(self) -> Mapping[str, Placement]:
        """All placements by name."""
        if self._clock() >= self._next_look:
            self._next_look = self._clock() + REFRESH_S
            await self._live.refresh_beside()
        return self._live.current

    async def put(self, name: str, placement: Placement) -> None:
        """Stores a placement durably."""
        document = placement.model_dump(mode="json", by_alias=True, exclude_none=True)
        await asyncio.to_thread(self._store.put, {name: document})
        self._next_look = float("-inf")

    async def delete(self, name: str) -> bool:
        """Removes a placement that was put over HTTP; one of the file comes back. Whether there was one."""
        self._next_look = float("-inf")
        return await asyncio.to_thread(self._store.delete, name)

    def _compiled(self, documents: Documents) -> dict[str, Placement]:
        placements = dict(self._defaults)
        for name, document in documents.by_name.items():
            try:
                placements[name] = Placement.model_validate(document)
            except ValidationError as error:
                log.warning("placement %r is left out: %s", name, error.errors()[0]["msg"])
        return placements


def with_defaults(body: Any, placement: Placement | None) -> Any:
    """A request body whose absent fields are those of its placement, and whose filters hold in addition to its own."""
    if placement is None:
        return body
    known = type(body).model_fields
    changes = {
        name: getattr(placement, name)
        for name in _FIELDS
        if name in known and name not in body.model_fields_set and getattr(placement, name) is not None
    }
    if placement.filters is not None and "filters" in known:
        changes["filters"] = joined(placement.filters, body.filters)
    return body.model_copy(update=changes)
