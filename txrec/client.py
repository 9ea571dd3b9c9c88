"""A client of the HTTP API, synchronous and asynchronous.

    with Client("http://127.0.0.1:8000") as shop:
        slate = shop.search(query="blue jeans", top_k=5)
        for item in slate["items"]:
            ...

A call that failed because the server was out of reach, overloaded or starting is tried again after a random wait that
grows (full jitter, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/) or that the server names.
Every endpoint except the rollback and the start of an experiment is idempotent: reads change nothing, events carry ids,
and changes of products and models state the result.
"""

import asyncio
import random
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Generator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote, urlencode

import httpx

from txrec.errors import TxrecError

Json = dict[str, Any]
Outcome = httpx.Response | httpx.TransportError
"""Of one attempt."""
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

    def wait_s(self, attempt: int, outcome: Outcome, chance: float) -> float | None:
        """Seconds until the next attempt, None = no other one.

        Args:
            attempt: attempts so far.
            outcome: of the last one.
            chance: uniform random number in [0, 1).
        """
        if attempt >= self.attempts:
            return None
        if isinstance(outcome, httpx.Response) and not _is_temporary(outcome):
            return None
        bound = min(self.max_wait_s, self.first_wait_s * 2.0 ** (attempt - 1))
        if isinstance(outcome, httpx.Response):
            named = outcome.headers.get("retry-after", "")
            if named.isdigit():  # jitter: callers do not return at the same moment
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
        """Recommendations for a user."""
        return self._send("POST", "/v1/recommend", fields)

    def search(self, query: str, **fields: Any) -> R:
        """Products for a search."""
        return self._send("POST", "/v1/search", {"query": query, **fields})

    def similar(self, item_id: str, **fields: Any) -> R:
        """Products similar to one."""
        return self._send("POST", "/v1/similar", {"item_id": item_id, **fields})

    def trending(self, **fields: Any) -> R:
        """Products that rise now."""
        return self._send("POST", "/v1/trending", fields)

    def popular(self, **fields: Any) -> R:
        """Products with most events."""
        return self._send("POST", "/v1/popular", fields)

    def new(self, **fields: Any) -> R:
        """New products."""
        return self._send("POST", "/v1/new", fields)

    def complements(self, items: list[str], **fields: Any) -> R:
        """Products that are bought together with others."""
        return self._send("POST", "/v1/complements", {"items": items, **fields})

    def recently_viewed(self, user_id: str, **fields: Any) -> R:
        """Products that a user looked at lately."""
        return self._send("POST", "/v1/recently-viewed", {"user_id": user_id, **fields})

    def buy_again(self, user_id: str, **fields: Any) -> R:
        """Products that a user is due to buy again."""
        return self._send("POST", "/v1/buy-again", {"user_id": user_id, **fields})

    def rank(self, items: list[str], **fields: Any) -> R:
        """The caller's own list in order."""
        return self._send("POST", "/v1/rank", {"items": items, **fields})

    def log(self, *events: Json) -> R:
        """Logs events of users; an event without an `event_id` gets one here, so that a repeated call counts once."""
        return self._send("POST", "/v1/events", [{"event_id": uuid.uuid4().hex, **event} for event in events])

    def forget(self, user_id: str) -> R:
        """Removes a user: events and profile."""
        return self._send("DELETE", f"/v1/users/{path_id(user_id)}")

    def user(self, user_id: str) -> R:
        """A user's history and profile."""
        return self._send("GET", f"/v1/users/{path_id(user_id)}")

    def put_user(self, user_id: str, **profile: Any) -> R:
        """Adds or replaces a user's profile: `properties` and `segments`."""
        return self._send("PUT", f"/v1/users/{path_id(user_id)}", profile)

    def put_items(self, *items: Json) -> R:
        """Adds or changes products; fields that are left out stay, None removes a value."""
        return self._send("PUT", "/v1/items", list(items))

    def retire(self, item_id: str) -> R:
        """Takes a product out of sale."""
        return self._send("DELETE", f"/v1/items/{path_id(item_id)}")

    def item(self, item_id: str) -> R:
        """A product."""
        return self._send("GET", f"/v1/items/{path_id(item_id)}")

    def suggest(self, query: str, user_id: str | None = None, limit: int = 10) -> R:
        """Completions of a prefix."""
        fields = {"q": query, "limit": limit, **({"user_id": user_id} if user_id else {})}
        return self._send("GET", f"/v1/suggest?{urlencode(fields)}")

    def block_words(self, *words: str) -> R:
        """Replaces the words that no suggestion may hold."""
        return self._send("PUT", "/v1/suggest/blocked", {"words": list(words)})

    def placements(self) -> R:
        """All placements with their defaults."""
        return self._send("GET", "/v1/placements")

    def put_placement(self, name: str, **defaults: Any) -> R:
        """Adds or replaces a placement."""
        return self._send("PUT", f"/v1/placements/{path_id(name)}", defaults)

    def delete_placement(self, name: str) -> R:
        """Removes a placement that was put over HTTP."""
        return self._send("DELETE", f"/v1/placements/{path_id(name)}")

    def rules(self) -> R:
        """All merchandising rules."""
        return self._send("GET", "/v1/rules")

    def put_rules(self, *rules: Json) -> R:
        """Adds or replaces merchandising rules."""
        return self._send("PUT", "/v1/rules", list(rules))

    def rule(self, rule_id: str) -> R:
        """A merchandising rule."""
        return self._send("GET", f"/v1/rules/{path_id(rule_id)}")

    def delete_rule(self, rule_id: str) -> R:
        """Removes a merchandising rule."""
        return self._send("DELETE", f"/v1/rules/{path_id(rule_id)}")

    def judging(self) -> R:
        """State of the relevance judgments."""
        return self._send("GET", "/v1/judging")

    def judging_task(self, judge: str) -> R:
        """The next query for a judge, with the products to grade."""
        return self._send("GET", f"/v1/judging/task?{urlencode({'judge': judge})}")

    def grade(self, judge: str, query: str, grades: dict[str, int | None]) -> R:
        """Stores a judge's grades of products for a query; None = cannot tell."""
        return self._send("POST", "/v1/judging/grades", {"judge": judge, "query": query, "grades": grades})

    def forget_judge(self, judge: str) -> R:
        """Removes a judge's grades."""
        return self._send("DELETE", f"/v1/judging/judges/{path_id(judge)}")

    def models(self) -> R:
        """Models, served or registered."""
        return self._send("GET", "/v1/models")

    def monitor(self) -> R:
        """Live figures of the last hours by slice, with intervals."""
        return self._send("GET", "/v1/monitor")

    def experiments(self) -> R:
        """All experiments, with their latest decisions."""
        return self._send("GET", "/v1/experiments")

    def create_experiment(self, name: str, variants: list[Json], **fields: Any) -> R:
        """Starts an experiment."""
        body = {"name": name, "variants": variants, **fields}
        return self._send("POST", "/v1/experiments", body, SWITCH_TIMEOUT_S, once=True)

    def experiment(self, name: str) -> R:
        """An experiment."""
        return self._send("GET", f"/v1/experiments/{path_id(name)}")

    def stop_experiment(self, name: str, reason: str = "stopped over HTTP") -> R:
        """Stops an experiment."""
        return self._send("POST", f"/v1/experiments/{path_id(name)}:stop", {"reason": reason}, SWITCH_TIMEOUT_S)

    def activate(self, version: str, role: str = "production", share: float | None = None) -> R:
        """Serves a version: `production`, `canary` (with the share of users that it answers) or `shadow`."""
        body = {"role": role} if share is None else {"role": role, "share": share}
        return self._send("POST", f"/v1/models/{path_id(version)}:activate", body, SWITCH_TIMEOUT_S)

    def deactivate(self, version: str) -> R:
        """Ends a canary or a shadow."""
        return self._send("POST", f"/v1/models/{path_id(version)}:deactivate", None, SWITCH_TIMEOUT_S)

    def rollback(self) -> R:
        """Puts the version before the present one into production; tried once: twice would go back two versions."""
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

    def pages(self, query: str, **fields: Any) -> Iterator[Json]:
        """Pages of a search one after another, each the reply of `search`; no product twice, none left out."""
        reply = self.search(query, **{"offset": 0, **fields})
        yield reply
        fields.pop("offset", None)
        while token := reply["page"]["next_page_token"]:
            reply = self.search(query, **fields, page_token=token)
            yield reply

    def _send(self, method: str, path: str, body: Any = None, least_timeout_s: float = 0.0, once: bool = False) -> Json:
        attempts = _attempts(self._retry, once)
        wait_s = next(attempts)
        while True:
            time.sleep(wait_s)
            outcome: Outcome
            try:
                timeout_s = max(self._timeout_s, least_timeout_s)
                outcome = self._http.request(method, path, json=body, timeout=timeout_s)
            except httpx.TransportError as error:
                outcome = error
            try:
                wait_s = attempts.send(outcome)
            except StopIteration as end:
                reply: Json = end.value
                return reply


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

    async def pages(self, query: str, **fields: Any) -> AsyncIterator[Json]:
        """Pages of a search one after another, each the reply of `search`; no product twice, none left out."""
        reply = await self.search(query, **{"offset": 0, **fields})
        yield reply
        fields.pop("offset", None)
        while token := reply["page"]["next_page_token"]:
            reply = await self.search(query, **fields, page_token=token)
            yield reply

    async def _send(
        self, method: str, path: str, body: Any = None, least_timeout_s: float = 0.0, once: bool = False
    ) -> Json:
        attempts = _attempts(self._retry, once)
        wait_s = next(attempts)
        while True:
            await asyncio.sleep(wait_s)
            outcome: Outcome
            try:
                timeout_s = max(self._timeout_s, least_timeout_s)
                outcome = await self._http.request(method, path, json=body, timeout=timeout_s)
            except httpx.TransportError as error:
                outcome = error
            try:
                wait_s = attempts.send(outcome)
            except StopIteration as end:
                reply: Json = end.value
                return reply


def _attempts(retry: Retry, once: bool) -> Generator[float, Outcome, Json]:
    """Protocol of one call, for both clients: yields the seconds to wait before each attempt and is sent its outcome.

    Returns:
        The decoded reply.

    Raises:
        ApiError: the last attempt failed.
    """
    attempt, wait_s = 0, 0.0
    while True:
        outcome = yield wait_s
        attempt += 1
        chance = random.random()  # noqa: S311 - jitter is not a secret
        following = None if once else retry.wait_s(attempt, outcome, chance)
        if following is None:
            return _decoded(outcome)
        wait_s = following


def path_id(raw_id: str) -> str:
    """An id as one path segment: `/` escaped, and dots where URL normalisation would read them as folders."""
    escaped = quote(raw_id, safe="")
    return escaped.replace(".", "%2E") if not escaped.strip(".") else escaped


def _is_temporary(outcome: httpx.Response) -> bool:
    """Whether a later attempt may succeed: the server says so, or a proxy whose replica died answered a bare 500."""
    bare = not outcome.headers.get("content-type", "").startswith("application/json")
    return outcome.status_code in RETRIED_STATUS or (outcome.status_code == 500 and bare)


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _decoded(outcome: Outcome) -> Json:
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
