"""Published bundles, the one in production, and the gate between the two.

    registry/
    ├── v1/ v2/ ...      bundles, never changed once they are there
    ├── production       symbolic link to one of them, moved by an atomic rename
    └── moves.jsonl      every move of the pointer: when, from, to, why

A bundle that fails the gate is registered all the same, with the decision in its manifest: it can be looked at and
activated by hand.
"""

import fcntl
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from txrec.errors import BundleError
from txrec.evals.bootstrap import Interval, Paired
from txrec.evals.slice_warnings import SliceWarning
from txrec.recommender import bundle
from txrec.recommender.bundle import Bundle, Manifest

POINTER = "production"
MOVES = "moves.jsonl"
_VERSION = re.compile(r"v([1-9]\d*)")


@dataclass(frozen=True)
class Decision:
    """The gate's verdict on a version: what was measured, and the inequality that follows from it.

    A version is promoted if every smoke query is answered and its metric is at most `margin` (a share) below that of
    the version in production on the same requests. The best baseline on these requests is told beside it and decides
    nothing: there is no bundle of it that could serve instead.
    """

    version: str
    metric: str
    value: float
    """The new version's."""
    margin: float
    num_cases: int
    interval: Interval | None = None
    """Of the value; None = none was made."""
    baseline: str = ""
    """The best baseline; empty = there is none."""
    baseline_value: float | None = None
    over_baseline: Paired | None = None
    """How far the new version lies above it."""
    production: str | None = None
    """Version in production at the time; None = none."""
    production_value: float | None = None
    """Its value on the same requests; None = there is none to compare with."""
    production_problem: str = ""
    """Why the version in production could not be opened; such a version cannot serve, so it holds nobody back."""
    over_production: Paired | None = None
    """How far the new version lies above it."""
    behind_baselines: tuple[SliceWarning, ...] = ()
    """Slices of the test requests in which it is behind a baseline; they decide nothing."""
    unanswered: tuple[str, ...] = ()
    """Smoke queries that got no answer."""
    force: bool = False
    """Asked to promote whatever the gate says."""

    @property
    def required(self) -> float | None:
        """Least value that passes; None where nothing is in production."""
        return None if self.production_value is None else self.production_value * (1.0 - self.margin)

    @property
    def passed(self) -> bool:
        """What the gate itself says."""
        return not self.unanswered and (self.required is None or self.value >= self.required)

    @property
    def promote(self) -> bool:
        """Whether the version goes into production."""
        return self.passed or self.force

    @property
    def forced(self) -> bool:
        """Promoted in spite of the gate."""
        return self.force and not self.passed

    @property
    def inequality(self) -> str:
        """`ndcg@10 0.1312 >= 0.1301 required`."""
        if self.required is None:
            unopened = f"{self.production} in production cannot be opened, {self.production_problem}"
            compared = unopened if self.production else "nothing in production to compare with"
            return f"{self.metric} {self.value:.4f}, {compared}"
        sign = ">=" if self.value >= self.required else "<"
        return f"{self.metric} {self.value:.4f} {sign} {self.required:.4f} required"

    def __str__(self) -> str:
        """`promote v2: ndcg@10 0.1312 >= 0.1301 required`."""
        kept = self.production or "no version"
        verb = f"promote {self.version}" if self.promote else f"keep {kept}, not {self.version}"
        parts = [self.inequality]
        if self.interval is not None:
            parts.append(f"95 % interval {self.interval.low:.4f} to {self.interval.high:.4f}")
        if self.baseline_value is not None:
            parts.append(f"best baseline {self.baseline} {self.baseline_value:.4f}")
        certain = [one.slice.replace("_", " ") for one in self.behind_baselines if one.certain]
        if certain:
            parts.append("behind a baseline in " + ", ".join(certain))
        if self.unanswered:
            parts.append("no answer to " + ", ".join(repr(query) for query in self.unanswered))
        return f"{verb}{' by force' if self.forced else ''}: {'; '.join(parts)}"

    def plain(self) -> dict[str, Any]:
        """As the manifest holds it."""
        derived = ("required", "passed", "promote", "forced")
        behind = [one.plain() for one in self.behind_baselines]
        fields = {**asdict(self), "unanswered": list(self.unanswered), "behind_baselines": behind}
        return {**fields, **{name: getattr(self, name) for name in derived}, "decision": str(self)}


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
        bundle.publish_copy(source, target, decision.version, metrics, decision.plain())
        if decision.promote:
            self._point(decision.version, str(decision))
        return target

    def activate(self, version: str, why: str = "activated by hand") -> Path:
        """Puts a version into production after checking every file of it.

        Raises:
            BundleError: no such version, or a damaged one; the pointer stays.
        """
        folder = self.folder(version)
        Bundle.open(folder)
        self._point(version, why)
        return folder

    def rollback(self, version: str = "") -> str:
        """Goes back to a version, or to the one that was in production before the present one; returns its name.

        Raises:
            BundleError: there is none to go back to.
        """
        target = version or self.previous()
        self.activate(target, f"rolled back from {self.production}")
        return target

    def previous(self) -> str:
        """What was in production before the present version came: rolling back twice goes back two steps.

        Raises:
            BundleError: there is none.
        """
        came_from = {move["to"]: move["from"] for move in self.moves() if not move["why"].startswith("rolled back")}
        target: str | None = came_from.get(self.production)
        if not target:
            raise BundleError(f"{self.path}: no earlier version to go back to; `txrec models` lists what there is")
        return target

    def moves(self) -> list[dict[str, Any]]:
        """Every move of the pointer, oldest first."""
        file = self.path / MOVES
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []

    def names(self) -> list[str]:
        """Names of all versions, oldest first."""
        if not self.path.is_dir():
            return []
        found = [entry.name for entry in self.path.iterdir() if _VERSION.fullmatch(entry.name) and entry.is_dir()]
        return sorted(found, key=lambda name: int(name[1:]))

    def _point(self, version: str, why: str) -> None:
        move = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "from": self.production,
            "to": version,
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
