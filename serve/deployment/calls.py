"""Calls from one deployment to the next, by value, with the ids of the requests that they are made for."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

from ray.serve.handle import DeploymentHandle

from serve.deployment.ray_compat import method_by_value
from serve.observability import logs
from txrec.errors import RequestError

T = TypeVar("T")


class ModelNotLoadedError(Exception):
    """A ranker replica lacks the model, or the catalogue changes, that its candidates come from."""


def remote(method: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T | RequestError | ModelNotLoadedError]]:
    """Makes an asynchronous method of a deployment one that `Calls` can call.

    Expected errors are returned, not raised: Ray Serve would log them as bugs.
    """

    @wraps(method)
    async def called(self: Any, *args: Any, request_ids: Sequence[str] = ()) -> T | RequestError | ModelNotLoadedError:
        logs.bind_request_ids(request_ids)
        try:
            return await method(self, *args)
        except (RequestError, ModelNotLoadedError) as error:
            return error

    return called


class Calls:
    """Client of the methods of a deployment that are marked as `remote`."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle
        self._methods: dict[str, DeploymentHandle[Any]] = {}

    async def __call__(self, method: str, timeout_s: float, *args: Any) -> Any:
        """Calls a method and returns its result.

        Raises:
            TimeoutError: no answer within `timeout_s` seconds.
            RayError: no replica, or one that died.
        """
        if method not in self._methods:
            self._methods[method] = method_by_value(self._handle, method)
        async with asyncio.timeout(timeout_s):
            result = await self._methods[method].remote(*args, request_ids=logs.REQUEST_IDS.get())
        if isinstance(result, RequestError | ModelNotLoadedError):
            raise result
        return result
