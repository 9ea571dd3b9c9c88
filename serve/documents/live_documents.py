"""Live documents of a replica: rules, placements and the like, polled from their store, compiled on change."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from serve.observability.logs import log
from txrec.errors import UnavailableError
from txrec.online.documents import Documents, DocumentStore

T = TypeVar("T")
POLL_S = 0.5


class LiveDocuments(Generic[T]):
    """The compiled form of all documents of one kind.

    Args:
        store: holds the documents.
        compile_: makes the compiled form; a document that it cannot use must be left out by it, not raised.
    """

    def __init__(self, store: DocumentStore, compile_: Callable[[Documents], T]) -> None:
        self._store = store
        self._compile = compile_
        self._version = 0
        self.unavailable = False
        """True while the store is down."""
        self._refreshing = threading.Lock()
        self._refresh_task: asyncio.Task[None] | None = None  # a task without a reference may be collected
        self.current = compile_(Documents())

    def refresh(self) -> None:
        """Compiles the documents where there is a new version; keeps the present ones while the store is down."""
        with self._refreshing:
            try:
                if self._store.version() != self._version:
                    documents = self._store.all()
                    self.current = self._compile(documents)
                    self._version = documents.version
                self.unavailable = False
            except UnavailableError as error:
                if not self.unavailable:
                    log.warning("the document store is unavailable: %s", error)
                self.unavailable = True

    async def refresh_beside(self) -> None:
        """Refreshes in a thread; while the store is down nobody waits for that, as it may take a timeout."""
        refreshing = asyncio.create_task(asyncio.to_thread(self.refresh))
        if self.unavailable:
            self._refresh_task = refreshing
        else:
            await refreshing

    def start(self) -> "LiveDocuments[T]":
        """Refreshes now and then twice per second, in a daemon thread."""
        self.refresh()
        threading.Thread(target=self._poll, name="documents", daemon=True).start()
        return self

    def _poll(self) -> None:
        while True:
            time.sleep(POLL_S)
            try:
                self.refresh()
            except Exception:
                log.exception("documents are not kept up to date")
