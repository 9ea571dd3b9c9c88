"""Rollout of versions: production, a canary for a share of the users, a shadow whose answers only the log sees.

Production is where the registry's pointer points, so that a server, a restart and `txrec models` agree. Canary and
shadow stand in a file of the registry folder, and so do the reports of the replicas that follow it:

    registry/
    ├── serving.json          canary, share, shadow, and a version that is being tried before it is let in
    └── .reports/SERIAL/      one file per replica: ready for the serving.json of this number, or why not;
                              its time of modification is the replica's heartbeat

A `Rollout` is a plain value; the variant of a user is a function of it, the same in every process.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from txrec.errors import BundleError, ConflictError, UnknownVersionError
from txrec.registry.registry import Registry
from txrec.registry.rollout_store import FILE, HEARTBEAT_TTL_S, REPORTS, store_of

__all__ = ["FILE", "HEARTBEAT_TTL_S", "REPORTS", "Report", "Rollout", "Rollouts", "Variant"]

Variant = Literal["production", "canary", "shadow", "experiment"]


@dataclass(frozen=True)
class Rollout:
    """Versions and their roles.

    Attributes:
        production: version that answers everybody else.
        canary: version that answers a share of the users, if any.
        share: of users that the canary answers, 0 to 1.
        shadow: version that answers too, unseen, if any.
        staged: version that replicas are to open and try, if any.
        held: versions that experiments need.
        serial: grows with every change.
    """

    production: str
    canary: str | None = None
    share: float = 0.0
    shadow: str | None = None
    staged: str | None = None
    serial: int = 0
    held: tuple[str, ...] = ()

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that a replica holds, production first."""
        names = (self.production, self.canary, self.shadow, self.staged, *self.held)
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
        roles = tuple(variant for variant, name in held.items() if name == version)
        return (*roles, "experiment") if version in self.held else roles

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
        self.registry = Registry(registry)
        self._store = store_of(registry, clock)

    def read(self) -> Rollout:
        """The present rollout; trials of versions that are gone are left out.

        Raises:
            BundleError: nothing is in production.
        """
        trials = self._store.read()
        held = tuple(name for name in trials.get("held", ()) if self.registry.has(name))
        rollout = Rollout(**{**trials, "production": self.registry.require_production(), "held": held})
        for version in (rollout.canary, rollout.shadow):
            if version and (version == rollout.production or not self.registry.has(version)):
                rollout = rollout.unassign(version)
        return rollout

    def write(self, rollout: Rollout) -> Rollout:
        """Makes a rollout the present one, production apart, inside `locked`; returns it with its number."""
        numbered = replace(rollout, serial=self.read().serial + 1)
        self._store.write({name: value for name, value in asdict(numbered).items() if name != "production"})
        return numbered

    @contextmanager
    def locked(self) -> Iterator[Rollout]:
        """Excludes other changes of the rollout; yields the present one, with nothing staged.

        Raises:
            ConflictError: another change is under way.
        """
        with self._store.locked():
            yield replace(self.read(), staged=None)

    def require(self, version: str) -> None:
        """Raises UnknownVersionError for a version that is not registered."""
        try:
            self.registry.require(version)
        except BundleError as error:
            raise UnknownVersionError("version", str(error)) from None

    def report(self, serial: int, report: Report) -> None:
        """Stores a replica's readiness for the rollout of a number."""
        self._store.report(serial, report.replica, asdict(report))

    def heartbeat(self, serial: int, replica: str) -> None:
        """Renews a report: its replica is alive. Does nothing once the rollout has moved on."""
        self._store.heartbeat(serial, replica)

    def reports(self, serial: int) -> list[Report]:
        """Reports of live replicas on the rollout of a number, by replica."""
        return [Report(**content) for content in self._store.reports(serial)]
