"""Servers of the clients' tests: an application on a free loopback port, in a thread of this process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.types import ASGIApp

from tests.services import free_port


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """Runs an application; yields its URL once it answers."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
            client.get(f"{url}/health/live", timeout=30)
        yield url
    finally:
        server.should_exit = True
        thread.join()
