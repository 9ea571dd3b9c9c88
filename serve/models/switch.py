"""Changes of the served models: a version is staged, opened and tried by every live replica, then activated.

Until the last step the served models stay the same, so a bundle that is damaged, of another format or without answers
never takes traffic: the replicas report why, and the caller gets the reasons.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from serve.models.opening import describe
from serve.types import Model
from txrec.config import ServeConfig
from txrec.errors import BundleError, ConflictError, TxrecError, UnavailableError
from txrec.registry.registry import Registry
from txrec.registry.rollout import Rollout, Rollouts, Variant

POLL_S = 0.1
REASON = "activated over HTTP"


@dataclass(frozen=True)
class Listed:
    """A version that is served or could be.

    Attributes:
        model: identity.
        roles: of the version; empty = registered only.
        share: of the users that it answers, 0 to 1.
    """

    model: Model
    roles: tuple[Variant, ...]
    share: float = 0.0


class Switch:
    """Changes the rollout of a registry.

    Args:
        registry: folder; None where the server has one bundle and no registry.
        config: numbers of replicas to wait for, and the longest wait.
        clock: seconds, for the longest wait.
        rollouts_clock: seconds since 1970 UTC, for the heartbeats of replicas.
    """

    def __init__(
        self,
        registry: Path | None,
        config: ServeConfig,
        clock: Callable[[], float] = time.monotonic,
        rollouts_clock: Callable[[], float] = time.time,
    ) -> None:
        self._rollouts = Rollouts(registry, rollouts_clock) if registry else None
        self._replicas = {"retriever": config.num_retrievers, "ranker": config.num_rankers}
        self._timeout_s = config.activation_timeout_s
        self._clock = clock

    def listed(self, production: Model) -> list[Listed]:
        """All versions, oldest first; `production` is the model that answers now."""
        if self._rollouts is None:
            return [Listed(production, ("production",), 1.0)]
        rollout, registry = self._rollouts.read(), self._rollouts.registry
        return [
            Listed(
                production if version == production.version else _registered(registry, version),
                rollout.roles(version),
                _share(rollout, version),
            )
            for version in registry.names()
        ]

    def canary_share(self) -> float:
        """Share of the users that a canary answers, 0 without one."""
        if self._rollouts is None:
            return 0.0
        rollout = self._rollouts.read()
        return rollout.share if rollout.canary else 0.0

    async def activate(self, version: str, role: Variant, share: float = 0.0) -> Rollout:
        """Gives a version a role once every replica is ready to serve it.

        Raises:
            UnknownVersionError: it is not registered.
            ConflictError: a replica refuses it, another change is under way, or there is no registry.
            UnavailableError: the replicas were not ready in time.
        """
        rollouts = self._required()
        rollouts.require(version)
        with rollouts.locked() as now:
            target = now.assign(role, version, share)
            await self._stage(rollouts, now, version)
            if role == "production" and version != now.production:
                await self._point(rollouts, now, version, partial(rollouts.registry.activate, version, REASON))
            return await self._adopted(rollouts, target)

    async def rollback(self) -> Rollout:
        """Puts the version back into production that was there before the present one.

        Raises:
            ConflictError: there is none, a replica refuses it, or there is no registry.
            UnavailableError: the replicas were not ready in time.
        """
        rollouts = self._required()
        with rollouts.locked() as now:
            try:
                version = rollouts.registry.previous()
            except BundleError as error:
                raise ConflictError("version", str(error)) from None
            await self._stage(rollouts, now, version)
            await self._point(rollouts, now, version, rollouts.registry.rollback)
            return await self._adopted(rollouts, now.assign("production", version))

    async def deactivate(self, version: str) -> Rollout:
        """Ends a canary or a shadow.

        Raises:
            UnknownVersionError: it is not registered.
            ConflictError: it is in production, has no role, or there is no registry.
        """
        rollouts = self._required()
        rollouts.require(version)
        with rollouts.locked() as now:
            if version == now.production:
                raise ConflictError("version", f"{version} is in production; activate another one, or roll back")
            if version not in (now.canary, now.shadow):
                raise ConflictError("version", f"{version} is neither canary nor shadow")
            return await self._adopted(rollouts, now.unassign(version))

    async def hold(self, versions: Sequence[str]) -> None:
        """Keeps versions ready in every replica for experiments, these and no others.

        Raises:
            UnknownVersionError: one is not registered.
            ConflictError: a replica refuses one, another change is under way, or there is no registry.
            UnavailableError: the replicas were not ready in time.
        """
        if self._rollouts is None and not versions:
            return
        rollouts = self._required()
        for version in versions:
            rollouts.require(version)
        with rollouts.locked() as now:
            if set(versions) == set(now.held):
                return
            for version in versions:
                if version not in now.versions:
                    await self._stage(rollouts, now, version)
            await self._adopted(rollouts, replace(now, held=tuple(versions)))

    async def _stage(self, rollouts: Rollouts, now: Rollout, version: str) -> None:
        staged = rollouts.write(replace(now, staged=version))
        try:
            errors = await self._errors(rollouts, staged.serial)
        except UnavailableError:
            rollouts.write(now)
            raise
        if errors:
            rollouts.write(now)
            raise ConflictError("version", f"{version} is refused, {now.production} stays: {errors[0]}")

    async def _adopted(self, rollouts: Rollouts, rollout: Rollout) -> Rollout:
        written = rollouts.write(rollout)
        await self._errors(rollouts, written.serial)
        return written

    async def _errors(self, rollouts: Rollouts, serial: int) -> list[str]:
        """Errors that replicas report; awaits the first one, or enough live replicas of each kind that are ready."""
        deadline = self._clock() + self._timeout_s
        while True:
            reports = rollouts.reports(serial)
            errors = [report.error for report in reports if report.error]
            ready = Counter(report.kind for report in reports)
            if errors or all(ready[kind] >= needed for kind, needed in self._replicas.items()):
                return errors
            if self._clock() > deadline:
                numbers = " and ".join(f"{ready[kind]} of {needed} {kind}s" for kind, needed in self._replicas.items())
                raise UnavailableError("", f"{numbers} were ready within {self._timeout_s:g} s")
            await asyncio.sleep(POLL_S)

    async def _point(self, rollouts: Rollouts, now: Rollout, version: str, move: Callable[[], object]) -> None:
        """Moves the registry's pointer, which checks every file once more."""
        try:
            await asyncio.to_thread(move)
        except BundleError as error:
            rollouts.write(now)
            raise ConflictError("version", f"{version} is refused, {now.production} stays: {error}") from None

    def _required(self) -> Rollouts:
        if self._rollouts is None:
            raise ConflictError("version", "the server was started with one bundle; start it with a registry folder")
        return self._rollouts


def _share(rollout: Rollout, version: str) -> float:
    if version == rollout.production:
        return 1.0 - (rollout.share if rollout.canary else 0.0)
    return rollout.share if version == rollout.canary else 0.0


def _registered(registry: Registry, version: str) -> Model:
    """A registered version; a damaged one, or the products of one that this machine does not hold, are unknown."""
    items = registry.path / version / "items.parquet"
    try:
        model = replace(describe(registry.manifest(version)), version=version)
        return replace(model, num_items=pq.read_metadata(items).num_rows) if items.is_file() else model
    except (TxrecError, OSError, pa.ArrowException):
        return Model(version)
