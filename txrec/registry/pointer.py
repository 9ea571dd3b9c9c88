"""Production pointer of a registry and its moves: a symbolic link, or one object that is replaced on condition.

A registry folder has `production`, a symbolic link that is moved by an atomic rename, and `moves.jsonl`. A registry in
object storage has neither links nor renames: `production.json` there holds all moves, the last of which is the pointer.
It is replaced only if the store still holds the version that was read (S3 `If-Match`), so that of several moves at once
none is lost and the last one wins.
"""

import json
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from txrec import object_storage, objects
from txrec.errors import StorageError

POINTER = "production"
MOVES = "moves.jsonl"
OBJECT = "production.json"
MoveKind = Literal["activate", "rollback"]
_TRIES = 20


@dataclass(frozen=True)
class Move:
    """A move of the pointer."""

    at: str
    """ISO 8601, UTC."""
    to: str
    kind: MoveKind
    why: str
    """Text for people."""


class Pointer(Protocol):
    """The production pointer of one registry."""

    def production(self) -> str | None:
        """Name of the version in production; None before the first promotion."""

    def moves(self) -> list[dict[str, Any]]:
        """Every move, oldest first: at, from, to, kind, why."""

    def move(self, version: str, why: str, kind: MoveKind) -> None:
        """Puts a version into production and logs it."""


def pointer_of(path: Path) -> Pointer:
    """The pointer of a registry's folder, which may be the working copy of one in object storage."""
    uri = object_storage.uri_of(path)
    return ObjectPointer(f"{uri}/{OBJECT}") if uri is not None else LinkPointer(path)


@dataclass(frozen=True)
class LinkPointer:
    """Pointer of a registry on a file system."""

    folder: Path

    def production(self) -> str | None:
        """Implements `Pointer`."""
        link = self.folder / POINTER
        return link.readlink().name if link.is_symlink() else None

    def moves(self) -> list[dict[str, Any]]:
        """Implements `Pointer`; a record without a kind was an activation."""
        file = self.folder / MOVES
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        return [{"kind": "activate", **json.loads(line)} for line in lines]

    def move(self, version: str, why: str, kind: MoveKind) -> None:
        """Implements `Pointer`."""
        record = _record(self.production(), version, why, kind)
        fresh = self.folder / f".{POINTER}.{uuid.uuid4().hex}"  # several may move it at once: the last one wins
        fresh.symlink_to(version)
        fresh.replace(self.folder / POINTER)
        with (self.folder / MOVES).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")


@dataclass(frozen=True)
class ObjectPointer:
    """Pointer of a registry in object storage."""

    uri: str

    def production(self) -> str | None:
        """Implements `Pointer`."""
        moves = self.moves()
        return str(moves[-1]["to"]) if moves else None

    def moves(self) -> list[dict[str, Any]]:
        """Implements `Pointer`."""
        return self._read()[0]

    def move(self, version: str, why: str, kind: MoveKind) -> None:
        """Implements `Pointer`.

        Raises:
            StorageError: others moved it every time in between.
        """
        for _ in range(_TRIES):
            moves, read_version = self._read()
            record = _record(str(moves[-1]["to"]) if moves else None, version, why, kind)
            content = json.dumps([*moves, record], indent=1).encode()
            if objects.replace(self.uri, content, read_version) is not None:
                return
        raise StorageError(f"{self.uri}: changed by others {_TRIES} times in a row; try again")

    def _read(self) -> tuple[list[dict[str, Any]], str | None]:
        stored = objects.read(self.uri)
        return (json.loads(stored[0]), stored[1]) if stored else ([], None)


def _record(before: str | None, to: str, why: str, kind: MoveKind) -> dict[str, Any]:
    move = Move(datetime.now(UTC).isoformat(timespec="seconds"), to, kind, why)
    return {"from": before, **asdict(move)}
