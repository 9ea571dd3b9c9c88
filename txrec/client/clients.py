"""Synchronous and asynchronous client over httpx."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from types import TracebackType
from typing import Any, Self

import httpx

from txrec.client.endpoints import Endpoints, Json
from txrec.client.retry import Outcome, Retry, attempts


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
        protocol = attempts(self._retry, once)
        wait_s = next(protocol)
        while True:
            time.sleep(wait_s)
            outcome: Outcome
            try:
                timeout_s = max(self._timeout_s, least_timeout_s)
                outcome = self._http.request(method, path, json=body, timeout=timeout_s)
            except httpx.TransportError as error:
                outcome = error
            try:
                wait_s = protocol.send(outcome)
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
        protocol = attempts(self._retry, once)
        wait_s = next(protocol)
        while True:
            await asyncio.sleep(wait_s)
            outcome: Outcome
            try:
                timeout_s = max(self._timeout_s, least_timeout_s)
                outcome = await self._http.request(method, path, json=body, timeout=timeout_s)
            except httpx.TransportError as error:
                outcome = error
            try:
                wait_s = protocol.send(outcome)
            except StopIteration as end:
                reply: Json = end.value
                return reply


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}
