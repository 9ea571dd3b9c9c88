"""User profiles of a shop: properties and segments, stored live and looked up by the requests of their user."""

import asyncio
from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from serve.concurrency.circuit_breaker import CircuitBreaker
from serve.observability.logs import log
from txrec.data.profiles import value_segments
from txrec.errors import UnavailableError
from txrec.online.documents import DocumentStore

KIND = "users"
STORE_COOLDOWN_S = 1.0
"""Time without reads of the profile store after a failure, seconds."""
Name = Annotated[str, Field(min_length=1, max_length=256)]


class Profile(BaseModel):
    """Profile of a user: properties and segments that the shop states."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"properties": {"country": "AT", "tier": "gold"}, "segments": ["newsletter"]}]},
    )

    properties: dict[Name, Annotated[str, Field(max_length=256)] | StrictBool | float] = Field({}, max_length=100)
    """Values by name, e.g. country; each is also the segment `name=value`."""
    segments: tuple[Name, ...] = Field((), max_length=100)
    """Groups that the shop puts the user in, for rules."""

    @property
    def all_segments(self) -> tuple[str, ...]:
        """The segments, and `name=value` of every property."""
        return (*self.segments, *value_segments(self.properties))


class Profiles:
    """Profiles of users as requests read and change them.

    Args:
        store: keeps them.
        count: takes the outcome of each lookup: `known`, `unknown` or `unavailable`.
        clock: seconds, for the time until a store that failed is read again.
    """

    def __init__(self, store: DocumentStore, count: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._store = store
        self._count = count
        self._breaker = CircuitBreaker(STORE_COOLDOWN_S, clock)

    async def find(self, user_id: str) -> Profile | None:
        """A user's profile; None where none is stored.

        Raises:
            UnavailableError: the store cannot be read.
        """
        document = await asyncio.to_thread(self._store.get, user_id)
        return None if document is None else Profile.model_validate(document)

    async def known(self, user_id: str | None) -> Profile | None:
        """A user's profile for a request, counted; None where none is stored or the store is unavailable."""
        if user_id is None:
            return None
        if self._breaker.is_open:
            self._count("unavailable")
            return None
        try:
            profile = await self.find(user_id)
        except UnavailableError as error:
            self._breaker.trip()
            self._count("unavailable")
            log.warning("the profile store is unavailable: %s", error)
            return None
        self._count("unknown" if profile is None else "known")
        return profile

    async def put(self, user_id: str, profile: Profile) -> None:
        """Stores a profile durably; it replaces the one before."""
        await asyncio.to_thread(self._store.put, {user_id: profile.model_dump(mode="json")})

    async def delete(self, user_id: str) -> bool:
        """Removes a profile durably; whether there was one."""
        return await asyncio.to_thread(self._store.delete, user_id)
