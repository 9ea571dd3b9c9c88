"""Rollout of versions: production, a canary for a share of the users, a shadow whose answers only the log sees.

Production is where the registry's pointer points, so that a server, a restart and `txrec models` agree. Canary and
shadow stand in a file of the registry folder, and so do the reports of the replicas that follow it:

    registry/
    ├── serving.json          canary, share, shadow, and a version that is being tried before it is let in
    └── .reports/SERIAL/      one file per replica: ready for the serving.json of this number, or why not;
                              its time of modification is the replica's heartbeat

A `Rollout` is a plain value; the variant of a user is a function of it, the same in every process.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from txrec.errors import BundleError, ConflictError, UnknownVersionError
from txrec.registry.registry import Registry
from txrec.storage import write_text

Variant = Literal["production", "canary", "shadow"]
FILE = "serving.json"
REPORTS = ".reports"
HEARTBEAT_TTL_S = 5.0
"""A report that its replica has not renewed for this long, seconds, is that of a dead replica and does not count."""


@dataclass(frozen=True)
class Rollout:
    """Versions and their roles.

    Attributes:
        production: version that answers everybody else.
        canary: version that answers a share of the users, if any.
        share: of users that the canary answers, 0 to 1.
        shadow: version that answers too, unseen, if any.
        staged: version that replicas are to open and try, if any.
        serial: grows with every change.
    """

    production: str
    canary: str | None = None
    share: float = 0.0
    shadow: str | None = None
    staged: str | None = None
    serial: int = 0

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that a replica holds, production first."""
        names = (self.production, self.canary, self.shadow, self.staged)
        return tuple(dict.fromkeys(version for version in names if version))

    def variant(self, key: str) -> Variant:
        """The variant that answers a user (or an anonymous request): a function of key and rollout alone."""
        if self.canary is None:
            return "production"
        place = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2.0**64
        return "canary" if place < self.share else "production"

    def roles(self, version: str) -> tuple[Variant, ...]:
        """The roles of a version."""
        held: dict[Variant, str | None] = {
            "production": self.production,
            "canary": self.canary,
            "shadow": self.shadow,
        }
        return tuple(variant for variant, name in held.items() if name == version)

    def assign(self, role: Variant, version: str, share: float = 0.0) -> "Rollout":
        """The rollout with a version in a role; a version has one role, so it leaves the one that it had.

        Raises:
            ConflictError: the version is in production and would leave it.
        """
        if role == "production":
            return replace(self.unassign(version), production=version)
        if version == self.production:
            raise ConflictError("version", f"{version} is in production; it cannot be a {role} at the same time")
        left = self.unassign(version)
        return replace(left, canary=version, share=share) if role == "canary" else replace(left, shadow=version)

    def unassign(self, version: str) -> "Rollout":
        """The rollout with a version neither canary nor shadow."""
        kept = replace(self, canary=None, share=0.0) if version == self.canary else self
        return replace(kept, shadow=None) if version == kept.shadow else kept


@dataclass(frozen=True)
class Report:
    """Readiness of a replica for a rollout: ready, or why not."""

    replica: str
    kind: str
    error: str | None = None


class Rollouts:
    """The rollout of a registry: every replica reads it, one caller at a time changes it."""

    def __init__(self, registry: Path, clock: Callable[[], float] = time.time) -> None:
        """Takes the registry's folder, and the clock of heartbeats in seconds since 1970 UTC."""
        self._clock = clock
        self.registry = Registry(registry)
        self._file = registry / FILE
        self._reports = registry / REPORTS

    def read(self) -> Rollout:
        """The present rollout; trials of versions that are gone are left out.

        Raises:
            BundleError: nothing is in production.
        """
        trials = json.loads(self._file.read_text(encoding="utf-8")) if self._file.is_file() else {}
        production = self.registry.folder().name
        rollout = Rollout(**{**trials, "production": production})
        for version in (rollout.canary, rollout.shadow):
            if version and (version == production or not (self.registry.path / version).is_dir()):
                rollout = rollout.unassign(version)
        return rollout

    def write(self, rollout: Rollout) -> Rollout:
        """Makes a rollout the present one, production apart, inside `locked`; returns it with its number."""
        numbered = replace(rollout, serial=self.read().serial + 1)
        shutil.rmtree(self._reports, ignore_errors=True)
        trials = {name: value for name, value in asdict(numbered).items() if name != "production"}
        write_text(self._file, json.dumps(trials))
        return numbered

    @contextmanager
    def locked(self) -> Iterator[Rollout]:
        """Excludes other changes of the rollout; yields the present one, with nothing staged.

        Raises:
            ConflictError: another change is under way.
        """
        with (self.registry.path / ".rollout.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConflictError("version", "another change of the served models is under way; try again") from None
            yield replace(self.read(), staged=None)

    def require(self, version: str) -> None:
        """Raises UnknownVersionError for a version that is not registered."""
        try:
            self.registry.folder(version)
        except BundleError as error:
            raise UnknownVersionError("version", str(error)) from None

    def report(self, serial: int, report: Report) -> None:
        """Stores a replica's readiness for the rollout of a number."""
        folder = self._reports / str(serial)
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{report.replica}"
        fresh.write_text(json.dumps(asdict(report)), encoding="utf-8")
        os.utime(fresh, (self._clock(),) * 2)
        fresh.replace(folder / f"{report.replica}.json")

    def heartbeat(self, serial: int, replica: str) -> None:
        """Renews a report: its replica is alive. Does nothing once the rollout has moved on."""
        with suppress(FileNotFoundError):
            os.utime(self._reports / str(serial) / f"{replica}.json", (self._clock(),) * 2)

    def reports(self, serial: int) -> list[Report]:
        """Reports of live replicas on the rollout of a number, by replica."""
        reports = []
        for file in sorted((self._reports / str(serial)).glob("*.json")):
            with suppress(FileNotFoundError):  # the rollout moved on meanwhile
                if file.stat().st_mtime >= self._clock() - HEARTBEAT_TTL_S:
                    reports.append(Report(**json.loads(file.read_text(encoding="utf-8"))))
        return reports
