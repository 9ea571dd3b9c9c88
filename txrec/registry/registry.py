"""Registry of published bundles: versions, the production pointer and its history, in a folder or in object storage.

    registry/
    ├── v1/ v2/ ...      bundles, never changed once they are there; in object storage the manifest is written last
    ├── production       the pointer and
    └── moves.jsonl      every move of it (`txrec.registry.pointer`; in object storage one file, production.json)

A bundle that fails the gate is registered all the same, with the decision in its manifest: it can be looked at and
activated by hand.
"""

import fcntl
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from txrec import object_storage, objects
from txrec.errors import BundleError, StorageError
from txrec.recommender import bundle
from txrec.recommender.bundle import Bundle, Manifest
from txrec.registry import bundle_cache
from txrec.registry.gate import Decision
from txrec.registry.pointer import MOVES, POINTER, MoveKind, pointer_of
from txrec.storage import make_folder

__all__ = ["MOVES", "POINTER", "MoveKind", "Registry", "Version", "state_file"]

_VERSION = re.compile(r"v([1-9]\d*)")
_CLAIM = ".claim"


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
        """Takes the folder, or the working copy of one in object storage; it need not exist yet."""
        self.path = path
        self._uri = object_storage.uri_of(path)
        self._pointer = pointer_of(path)

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        current = self.production
        return [Version(name, self.path / name, self.manifest(name), name == current) for name in self.names()]

    def manifest(self, version: str) -> Manifest:
        """The manifest of a version; nothing else of the bundle is fetched.

        Raises:
            BundleError: it is missing or of another format.
        """
        folder = self.path / version
        if self._uri is None:
            return Bundle.open(folder, verify=False).manifest
        file = folder.with_name(f".{version}.manifest")
        if not file.is_file():  # a version never changes
            objects.download(f"{self._uri}/{version}/{bundle.MANIFEST}", file)
        return bundle.read_manifest(file)

    @property
    def production(self) -> str | None:
        """Name of the version in production; None before the first promotion."""
        return self._pointer.production()

    def folder(self, version: str = "") -> Path:
        """The bundle of a version, or of production, on this machine.

        Raises:
            BundleError: no such version, or none in production; says which there are.
        """
        return bundle_cache.bring(self.path / self.require(version or self.require_production()))

    def require_production(self) -> str:
        """Name of the version in production.

        Raises:
            BundleError: there is none.
        """
        name = self.production
        if name is None:
            raise BundleError(f"{self._place}: no version in production; run `txrec publish CONFIG`")
        return name

    def require(self, version: str) -> str:
        """The name of a version that is registered.

        Raises:
            BundleError: it is not; says which are.
        """
        if not (_VERSION.fullmatch(version) and self.has(version)):
            known = ", ".join(self.names()) or "none"
            raise BundleError(f"{self._place}: no version {version!r}; registered: {known}")
        return version

    @contextmanager
    def locked(self) -> Iterator[str]:
        """Reserves the name that the next version gets, and yields it; other publishers wait, or get other names."""
        if self._uri is not None:
            yield self._claimed()
            return
        make_folder(self.path)
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
        object_storage.share(target)
        if decision.promote:
            self._pointer.move(decision.version, str(decision), "activate")
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
        self._pointer.move(version, why, kind)
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
            raise BundleError(f"{self._place}: no earlier version to go back to; `txrec models` lists what there is")
        return target

    def moves(self) -> list[dict[str, Any]]:
        """Every move of the pointer, oldest first; a record without a kind was an activation."""
        return self._pointer.moves()

    def has(self, version: str) -> bool:
        """True where a version is registered and complete."""
        if self._uri is None:
            return (self.path / version).is_dir()
        return objects.exists(f"{self._uri}/{version}/{bundle.MANIFEST}")

    def names(self) -> list[str]:
        """Names of all complete versions, oldest first."""
        if self._uri is not None:
            below = objects.folders(self._uri)
            names = [name for name in below if _VERSION.fullmatch(name) and self.has(name)]
        elif self.path.is_dir():
            names = [entry.name for entry in self.path.iterdir() if _VERSION.fullmatch(entry.name) and entry.is_dir()]
        else:
            names = []
        return sorted(names, key=lambda name: int(name[1:]))

    @property
    def _place(self) -> str:
        return object_storage.place_of(self.path)

    def _claimed(self) -> str:
        """The next name, reserved by an object that only one publisher can create; names are never used twice."""
        numbers = [int(name[1:]) for name in objects.folders(self._place) if _VERSION.fullmatch(name)]
        number = max(numbers, default=0) + 1
        while objects.replace(f"{self._place}/v{number}/{_CLAIM}", b"", None) is None:
            number += 1
        return f"v{number}"


def state_file(folder: Path) -> Path:
    """Path of the live event store of a bundle: next to it, or next to the registry that it is part of, or is.

    Raises:
        StorageError: the bundle lies in object storage, which cannot hold a database.
    """
    uri = object_storage.uri_of(folder)
    if uri is not None:
        raise StorageError(
            f"{uri}: events and product changes cannot be kept in object storage, because SQLite needs a local disk"
            ' with locks; set serve.state = "redis://HOST:6379/0", or a local path where one machine serves'
        )
    if (folder / POINTER).is_symlink():
        return folder.parent / "state" / "history.sqlite"
    return (
        (folder.parent.parent if (folder.parent / POINTER).is_symlink() else folder.parent) / "state" / "history.sqlite"
    )
