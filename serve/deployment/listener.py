"""HTTP straight into an ingress replica: it listens on the configured address itself.

Ray Serve's proxy costs a hop of its own for a request, one more for its body, and pickling on both sides: more than all
the rest of a request together. Without it, the ingress replicas of a machine share the port and the kernel spreads
connections over them (SO_REUSEPORT). The proxy is still there for `serve run`, and wherever `serve.proxy` is set.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

BACKLOG = 2_048
"""Connections that the kernel keeps until they are accepted."""


class Listener:
    """Serves an application on an address that other processes of this machine may serve too.

    Args:
        app: whose lifespan is the caller's.
        host: address.
        port: TCP port.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((host, port))
        self._server = _Server(
            uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, backlog=BACKLOG, ws="none")
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listens from now on, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))

    def stop(self) -> None:
        """Accepts no more connections and lets the requests that are being answered finish."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """A server that is a guest: signals are the host's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield
