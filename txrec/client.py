"""A client of the HTTP API, synchronous and asynchronous.

    with Client("http://127.0.0.1:8000") as shop:
        slate = shop.search(query="blue jeans", top_k=5)
        for item in slate["items"]:
            ...

A call that failed because the server was out of reach, overloaded or starting is tried again after a random wait that
grows (full jitter, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/) or that the server names.
Every endpoint but the rollback may be called twice without harm: reads change nothing, events carry ids, and products
and models are said as they shall be.
"""

import asyncio
import random
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote

import httpx

from txrec.errors import TxrecError

Json = dict[str, Any]
R = TypeVar("R")
SWITCH_TIMEOUT_S = 180.0
"""Least timeout of a call that changes models: it is answered when every replica has opened the version."""
RETRIED_STATUS = frozenset({429, 502, 503, 504})


class ApiError(TxrecError):
    """The server refused a request, or could not be reached.

    Attributes:
        status: HTTP status, 0 where there was no answer.
        field: the offending field, if one is to blame.
        request_id: finds the request in the server's log.
    """

    def __init__(self, status: int, message: str, field: str | None = None, request_id: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.status = status
        self.field = field
        self.request_id = request_id


@dataclass(frozen=True)
class Retry:
    """When to try again.

    Attributes:
        attempts: calls in all.
        first_wait_s: the first wait is random between zero and this; the bound doubles each time.
        max_wait_s: upper bound of every wait.
    """

    attempts: int = 4
    first_wait_s: float = 0.1
    max_wait_s: float = 5.0

    def wait_s(self, attempt: int, outcome: httpx.Response | httpx.TransportError, chance: float) -> float | None:
        """Seconds until the next attempt, None = no other one.

        Args:
            attempt: attempts so far.
            outcome: of the last one.
            chance: uniform random number in [0, 1).
        """
        if attempt >= self.attempts:
            return None
        if isinstance(outcome, httpx.Response) and not _passes(outcome):
            return None
        bound = min(self.max_wait_s, self.first_wait_s * 2.0 ** (attempt - 1))
        if isinstance(outcome, httpx.Response):
            named = outcome.headers.get("retry-after", "")
            if named.isdigit():  # nobody comes back at the same moment
                return min(self.max_wait_s, float(named)) + chance * bound
        return chance * bound


class Endpoints(ABC, Generic[R]):
    """The calls, written once for both clients; each returns the decoded reply (or an awaitable of it).

    Keyword arguments are the fields of the request body; `/docs` on the server describes them.
    """

    @abstractmethod
    def _send(self, method: str, path: str, body: Any = None, least_timeout_s: float = 0.0, once: bool = False) -> R:
        """Makes one call, again where that may help and does no harm."""

    def recommend(self, **fields: Any) -> R:
        """What to show to a user now."""
        return self._send("POST", "/v1/recommend", fields)

    def search(self, query: str, **fields: Any) -> R:
        """Products for a search."""
        return self._send("POST", "/v1/search", {"query": query, **fields})

    def similar(self, item_id: str, **fields: Any) -> R:
        """Products like this one."""
        return self._send("POST", "/v1/similar", {"item_id": item_id, **fields})

    def rank(self, items: list[str], **fields: Any) -> R:
        """The caller's own list in order."""
        return self._send("POST", "/v1/rank", {"items": items, **fields})

    def log(self, *events: Json) -> R:
        """What users did; an event without an `event_id` gets one here, so that a repeated call counts once."""
        return self._send("POST", "/v1/events", [{"event_id": uuid.uuid4().hex, **event} for event in events])

    def forget(self, user_id: str) -> R:
        """Removes a user."""
        return self._send("DELETE", f"/v1/users/{quote(user_id, safe='')}")

    def user(self, user_id: str) -> R:
        """A user's history."""
        return self._send("GET", f"/v1/users/{quote(user_id, safe='')}")

    def put_items(self, *items: Json) -> R:
        """Adds or changes products; what an item leaves out stays, None takes a value away."""
        return self._send("PUT", "/v1/items", list(items))

    def retire(self, item_id: str) -> R:
        """Takes a product out of sale."""
        return self._send("DELETE", f"/v1/items/{quote(item_id, safe='')}")

    def item(self, item_id: str) -> R:
        """A product."""
        return self._send("GET", f"/v1/items/{quote(item_id, safe='')}")

    def models(self) -> R:
        """Models, served or registered."""
        return self._send("GET", "/v1/models")

    def activate(self, version: str, role: str = "production", share: float | None = None) -> R:
        """Serves a version: `production`, `canary` (with the share of users that it answers) or `shadow`."""
        body = {"role": role} if share is None else {"role": role, "share": share}
        return self._send("POST", f"/v1/models/{quote(version, safe='')}:activate", body, SWITCH_TIMEOUT_S)

    def deactivate(self, version: str) -> R:
        """Ends a canary or a shadow."""
        return self._send("POST", f"/v1/models/{quote(version, safe='')}:deactivate", None, SWITCH_TIMEOUT_S)

    def rollback(self) -> R:
        """Puts the version back into production that was there before; tried once, for twice goes back two steps."""
        return self._send("POST", "/v1/models:rollback", None, SWITCH_TIMEOUT_S, once=True)

    def ready(self) -> R:
        """Whether the server can answer."""
        return self._send("GET", "/health/ready")


class Client(Endpoints[Json]):
    """Synchronous client.

    Args:
        url: of the server.
        timeout_s: longest wait for one attempt.
        retry: when to try again.
        key: API key, where the server needs one.
        transport: how requests travel; for tests.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        timeout_s: float = 10.0,
        retry: Retry | None = None,
        key: str = "",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retry = retry or Retry()
        self._timeout_s = timeout_s
        self._http = httpx.Client(base_url=url, timeout=timeout_s, transport=transport, headers=_headers(key))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _send(self, method: str, path: str, body: Any = None, least_timeout_s: float = 0.0, once: bool = False) -> Json:
        attempt, timeout_s = 0, max(self._timeout_s, least_timeout_s)
        while True:
            attempt += 1
            try:
                outcome: httpx.Response | httpx.TransportError = self._http.request(
                    method, path, json=body, timeout=timeout_s
                )
            except httpx.TransportError as error:
                outcome = error
            chance = random.random()  # noqa: S311 - jitter is no secret
            wait_s = None if once else self._retry.wait_s(attempt, outcome, chance)
            if wait_s is None:
                return _decoded(outcome)
            time.sleep(wait_s)


class AsyncClient(Endpoints[Awaitable[Json]]):
    """Asynchronous client; arguments as for `Client`."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        timeout_s: float = 10.0,
        retry: Retry | None = None,
        key: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retry = retry or Retry()
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout_s, transport=transport, headers=_headers(key))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _send(
        self, method: str, path: str, body: Any = None, least_timeout_s: float = 0.0, once: bool = False
    ) -> Json:
        attempt, timeout_s = 0, max(self._timeout_s, least_timeout_s)
        while True:
            attempt += 1
            try:
                outcome: httpx.Response | httpx.TransportError = await self._http.request(
                    method, path, json=body, timeout=timeout_s
                )
            except httpx.TransportError as error:
                outcome = error
            chance = random.random()  # noqa: S311 - jitter is no secret
            wait_s = None if once else self._retry.wait_s(attempt, outcome, chance)
            if wait_s is None:
                return _decoded(outcome)
            await asyncio.sleep(wait_s)


def _passes(outcome: httpx.Response) -> bool:
    """Whether a refusal may be over soon: the server says so, or a proxy whose replica died gave a bare 500."""
    bare = not outcome.headers.get("content-type", "").startswith("application/json")
    return outcome.status_code in RETRIED_STATUS or (outcome.status_code == 500 and bare)


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _decoded(outcome: httpx.Response | httpx.TransportError) -> Json:
    """The reply's body.

    Raises:
        ApiError: the server refused, or there was no answer.
    """
    if isinstance(outcome, httpx.TransportError):
        raise ApiError(0, f"no answer from the server: {outcome or type(outcome).__name__}") from outcome
    if outcome.is_success:
        reply: Json = outcome.json()
        return reply
    try:
        body = outcome.json()
        problem = body["error"]
        raise ApiError(outcome.status_code, problem["message"], problem["field"], body["request_id"])
    except (ValueError, KeyError, TypeError):
        raise ApiError(outcome.status_code, f"HTTP {outcome.status_code}: {outcome.text[:200]}") from None
