"""Registry of published bundles: versions, the production pointer and its history.

    registry/
    ├── v1/ v2/ ...      bundles, never changed once they are there
    ├── production       symbolic link to one of them, moved by an atomic rename
    └── moves.jsonl      every move of the pointer: when, from, to, kind (activate or rollback), why

A bundle that fails the gate is registered all the same, with the decision in its manifest: it can be looked at and
activated by hand.
"""

import fcntl
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from txrec.errors import BundleError
from txrec.recommender import bundle
from txrec.recommender.bundle import Bundle, Manifest
from txrec.registry.gate import Decision

POINTER = "production"
MOVES = "moves.jsonl"
MoveKind = Literal["activate", "rollback"]
_VERSION = re.compile(r"v([1-9]\d*)")


@dataclass(frozen=True)
class Version:
    """A registered bundle."""

    name: str
    path: Path
    manifest: Manifest
    in_production: bool


class Registry:
    """The versions below one folder."""

    def __init__(self, path: Path) -> None:
        """Takes the folder; it need not exist yet."""
        self.path = path

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        current = self.production
        return [
            Version(name, self.path / name, Bundle.open(self.path / name, verify=False).manifest, name == current)
            for name in self.names()
        ]

    @property
    def production(self) -> str | None:
        """Name of the version in production; None before the first promotion."""
        pointer = self.path / POINTER
        return pointer.readlink().name if pointer.is_symlink() else None

    def folder(self, version: str = "") -> Path:
        """The bundle of a version, or of production.

        Raises:
            BundleError: no such version, or none in production; says which there are.
        """
        name = version or self.production
        if name is None:
            raise BundleError(f"{self.path}: no version in production; run `txrec publish CONFIG`")
        if name not in self.names():
            known = ", ".join(self.names()) or "none"
            raise BundleError(f"{self.path}: no version {name!r}; registered: {known}")
        return self.path / name

    @contextmanager
    def locked(self) -> Iterator[str]:
        """Keeps other publishers out; yields the name that the next version gets."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            numbers = [int(name[1:]) for name in self.names()]
            yield f"v{max(numbers, default=0) + 1}"

    def add(self, source: Path, metrics: Mapping[str, Any], decision: Decision) -> Path:
        """Copies a bundle in under the decision's version and promotes it if that was decided.

        To be called inside `locked`.
        """
        target = self.path / decision.version
        bundle.publish_copy(source, target, decision.version, metrics, decision.to_dict())
        if decision.promote:
            self._point(decision.version, str(decision), "activate")
        return target

    def activate(self, version: str, why: str = "activated by hand", kind: MoveKind = "activate") -> Path:
        """Puts a version into production after checking every file of it.

        Args:
            version: name of a registered version.
            why: for people, in the record of the move.
            kind: of the move; `rollback` takes the version that it leaves off the way back.

        Raises:
            BundleError: no such version, or a damaged one; the pointer stays.
        """
        folder = self.folder(version)
        Bundle.open(folder)
        self._point(version, why, kind)
        return folder

    def rollback(self, version: str = "") -> str:
        """Goes back to a version, or to the one that was in production before the present one; returns its name.

        Raises:
            BundleError: there is none to go back to.
        """
        target = version or self.previous()
        self.activate(target, f"rolled back from {self.production}", "rollback")
        return target

    def previous(self) -> str:
        """The version in production before the present one was activated: rolling back twice goes back two steps.

        Raises:
            BundleError: there is none.
        """
        came_from = {move["to"]: move["from"] for move in self.moves() if move["kind"] == "activate"}
        target: str | None = came_from.get(self.production)
        if not target:
            raise BundleError(f"{self.path}: no earlier version to go back to; `txrec models` lists what there is")
        return target

    def moves(self) -> list[dict[str, Any]]:
        """Every move of the pointer, oldest first; a record without a kind was an activation."""
        file = self.path / MOVES
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        return [{"kind": "activate", **json.loads(line)} for line in lines]

    def names(self) -> list[str]:
        """Names of all versions, oldest first."""
        if not self.path.is_dir():
            return []
        found = [entry.name for entry in self.path.iterdir() if _VERSION.fullmatch(entry.name) and entry.is_dir()]
        return sorted(found, key=lambda name: int(name[1:]))

    def _point(self, version: str, why: str, kind: MoveKind) -> None:
        move = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "from": self.production,
            "to": version,
            "kind": kind,
            "why": why,
        }
        fresh = self.path / f".{POINTER}.{uuid.uuid4().hex}"  # several may move it at once: the last one wins
        fresh.symlink_to(version)
        fresh.replace(self.path / POINTER)
        with (self.path / MOVES).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(move) + "\n")


def state_file(folder: Path) -> Path:
    """Where the events of a bundle's users go: beside it, or beside the registry that it is part of, or is."""
    if (folder / POINTER).is_symlink():
        return folder.parent / "state" / "history.sqlite"
    return (
        (folder.parent.parent if (folder.parent / POINTER).is_symlink() else folder.parent) / "state" / "history.sqlite"
    )
