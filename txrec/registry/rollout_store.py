"""Storage of a rollout: canary, shadow and staged version, and the readiness reports of replicas.

A registry folder has the file `serving.json`, a lock and a folder of reports. A registry in object storage has the same
names as objects: `serving.json` is replaced only if it is the one that the change began with (S3 `If-Match`), so of two
changes at once one fails and says so. A replica's heartbeat is the object's time of modification by the store's clock.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from txrec import object_storage, objects
from txrec.errors import ConflictError
from txrec.storage import replace_file, write_text

FILE = "serving.json"
REPORTS = ".reports"
HEARTBEAT_TTL_S = 5.0
"""A report that its replica has not renewed for this long, seconds, is that of a dead replica and does not count."""
OBJECT_TTL_S = 20.0
"""The same in object storage, where renewing costs a request and clocks of machines and store differ."""
OBJECT_HEARTBEAT_S = 5.0
"""Time between two renewals of a report in object storage, seconds."""
_BUSY = "another change of the served models is under way; try again"


class RolloutStore(Protocol):
    """Store of one registry's rollout."""

    def read(self) -> dict[str, Any]:
        """Fields of the rollout, production apart; empty before the first change."""

    def write(self, fields: dict[str, Any]) -> None:
        """Replaces the fields and drops earlier reports; inside `locked`."""

    def locked(self) -> Any:
        """Context that excludes other changes, or makes their later writes fail.

        Raises:
            ConflictError: another change is under way.
        """

    def report(self, serial: int, replica: str, content: dict[str, Any]) -> None:
        """Stores the report of a replica."""

    def heartbeat(self, serial: int, replica: str) -> None:
        """Renews a report, if it is there."""

    def reports(self, serial: int) -> list[dict[str, Any]]:
        """Reports of live replicas, by replica."""


def store_of(registry: Path, clock: Callable[[], float]) -> RolloutStore:
    """The store of a registry's folder, which may be the working copy of one in object storage."""
    uri = object_storage.uri_of(registry)
    return ObjectStore(uri, clock) if uri is not None else FolderStore(registry, clock)


class FolderStore:
    """Rollout in a folder."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder, self._clock = folder, clock
        self._reports = folder / REPORTS

    def read(self) -> dict[str, Any]:
        """Implements `RolloutStore`."""
        file = self._folder / FILE
        fields: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return fields

    def write(self, fields: dict[str, Any]) -> None:
        """Implements `RolloutStore`."""
        shutil.rmtree(self._reports, ignore_errors=True)
        write_text(self._folder / FILE, json.dumps(fields))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Implements `RolloutStore` by a lock on a file."""
        with (self._folder / ".rollout.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConflictError("version", _BUSY) from None
            yield

    def report(self, serial: int, replica: str, content: dict[str, Any]) -> None:
        """Implements `RolloutStore`."""
        with replace_file(self._reports / str(serial) / f"{replica}.json") as fresh:
            fresh.write_text(json.dumps(content), encoding="utf-8")
            os.utime(fresh, (self._clock(),) * 2)

    def heartbeat(self, serial: int, replica: str) -> None:
        """Implements `RolloutStore`."""
        with suppress(FileNotFoundError):
            os.utime(self._reports / str(serial) / f"{replica}.json", (self._clock(),) * 2)

    def reports(self, serial: int) -> list[dict[str, Any]]:
        """Implements `RolloutStore`."""
        reports = []
        for file in sorted((self._reports / str(serial)).glob("*.json")):
            with suppress(FileNotFoundError):  # the rollout moved on meanwhile
                if file.stat().st_mtime >= self._clock() - HEARTBEAT_TTL_S:
                    reports.append(json.loads(file.read_text(encoding="utf-8")))
        return reports


class ObjectStore:
    """Rollout in object storage."""

    def __init__(self, uri: str, clock: Callable[[], float]) -> None:
        self._uri, self._clock = uri, clock
        self._version: str | None = None

    def read(self) -> dict[str, Any]:
        """Implements `RolloutStore`."""
        stored = objects.read(f"{self._uri}/{FILE}")
        fields: dict[str, Any] = json.loads(stored[0]) if stored else {}
        return fields

    def write(self, fields: dict[str, Any]) -> None:
        """Implements `RolloutStore`.

        Raises:
            ConflictError: another change was faster; nothing is written.
        """
        version = objects.replace(f"{self._uri}/{FILE}", json.dumps(fields).encode(), self._version)
        if version is None:
            raise ConflictError("version", _BUSY)
        self._version = version
        for entry in objects.listed(f"{self._uri}/{REPORTS}"):
            if not entry.key.startswith(f"{fields['serial']}/"):
                objects.delete(f"{self._uri}/{REPORTS}/{entry.key}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Implements `RolloutStore`: notes the version of serving.json that writes are to replace."""
        stored = objects.read(f"{self._uri}/{FILE}")
        self._version = stored[1] if stored else None
        yield

    def report(self, serial: int, replica: str, content: dict[str, Any]) -> None:
        """Implements `RolloutStore`."""
        objects.write(self._report_uri(serial, replica), json.dumps(content).encode())

    def heartbeat(self, serial: int, replica: str) -> None:
        """Implements `RolloutStore`."""
        uri = self._report_uri(serial, replica)
        entry = objects.stat(uri)
        if entry is None or self._age(entry.changed) < OBJECT_HEARTBEAT_S:
            return
        stored = objects.read(uri)
        if stored is not None:
            objects.write(uri, stored[0])

    def reports(self, serial: int) -> list[dict[str, Any]]:
        """Implements `RolloutStore`."""
        folder = f"{self._uri}/{REPORTS}/{serial}"
        alive = [entry for entry in objects.listed(folder) if self._age(entry.changed) <= OBJECT_TTL_S]
        contents = (objects.read(f"{folder}/{entry.key}") for entry in alive)
        return [json.loads(stored[0]) for stored in contents if stored is not None]

    def _report_uri(self, serial: int, replica: str) -> str:
        return f"{self._uri}/{REPORTS}/{serial}/{replica}.json"

    def _age(self, changed: datetime) -> float:
        """Seconds since an instant."""
        return self._clock() - changed.astimezone(UTC).timestamp()
