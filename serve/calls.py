"""Calls from one deployment to the next: they carry the ids of the requests that they are made for, for the log.

They go by value over gRPC, for half the CPU time of calls by reference, whatever Ray Serve was told at its start.
Everything that travels is of txrec's own importable classes, so plain pickle does, in half the time of cloudpickle.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

from ray.serve.handle import DeploymentHandle

from serve import logs
from txrec.errors import RequestError

T = TypeVar("T")


class NotHereError(Exception):
    """A ranker that does not have the model, or not the products, that its candidates come from."""


def remote(method: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T | RequestError | NotHereError]]:
    """Makes an asynchronous method of a deployment one that `Calls` can call.

    What it refuses to do is returned, not raised: Ray Serve would log it as a defect.
    """

    @wraps(method)
    async def called(self: Any, *args: Any, request_ids: Sequence[str] = ()) -> T | RequestError | NotHereError:
        logs.concern(request_ids)
        try:
            return await method(self, *args)
        except (RequestError, NotHereError) as error:
            return error

    return called


class Calls:
    """The methods of a deployment that are marked as `remote`."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle
        self._methods: dict[str, DeploymentHandle[Any]] = {}

    async def __call__(self, method: str, timeout_s: float, *args: Any) -> Any:
        """What the method returns, or raises because it refuses.

        Raises:
            TimeoutError: no answer within `timeout_s` seconds.
            RayError: no replica, or one that died.
        """
        if method not in self._methods:
            self._methods[method] = self._handle.options(
                method_name=method,
                _by_reference=False,
                request_serialization="pickle",
                response_serialization="pickle",
            )
        async with asyncio.timeout(timeout_s):
            found = await self._methods[method].remote(*args, request_ids=logs.REQUEST_IDS.get())
        if isinstance(found, RequestError | NotHereError):
            raise found
        return found
