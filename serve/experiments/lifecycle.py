"""Experiments of the server: created and stopped over HTTP, looked at by the clock, read by every request.

Every ingress replica looks at running experiments in turn: whoever marks a look in the store first makes it. A look
reads slates and events since the experiments began, decides, takes out variants that a guard stops, and ends what is
decided.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from serve.documents.live_documents import LiveDocuments
from serve.models.switch import Switch
from serve.observability.logs import log
from serve.observability.metrics import Metrics
from txrec.errors import ConflictError, RequestError, UnavailableError, UnknownExperimentError
from txrec.loop.attribution.attribution import HOUR_US, events_of, slates_of
from txrec.loop.decisions import decide_served
from txrec.loop.experiments.experiments import ExperimentDecision
from txrec.loop.experiments.served_experiments import (
    ExperimentBook,
    ExperimentSpec,
    Participation,
    Standing,
    StoredExperiment,
    check_beside,
    read_all,
)
from txrec.online.documents import DocumentStore
from txrec.online.history import HistoryStore

REFRESH_S = 0.5
ATTEMPTS = 5
"""Attempts to write where other replicas change the experiments at the same time."""
ENDING = {"promote": "decided", "keep_control": "decided", "invalid": "stopped", "roll_back": "decided"}
"""State of an experiment whose last variant got this action."""


@dataclass(frozen=True)
class Stores:
    """Stores of experiments: their documents, and the log of slates and events that decides them."""

    documents: DocumentStore
    history: HistoryStore


class Experiments:
    """The experiments of a server as requests see and change them.

    Args:
        stores: of the documents and of the log.
        switch: keeps versions ready in every replica.
        check_s: time between two looks, seconds.
        clock: seconds since 1970 UTC.
        metrics: counts slates by variant.
        uptime: seconds, for the time between two reads of the store.
    """

    def __init__(
        self,
        stores: Stores,
        switch: Switch,
        check_s: float,
        clock: Callable[[], float],
        metrics: Metrics,
        uptime: Callable[[], float] = time.monotonic,
    ) -> None:
        self._documents = stores.documents
        self._history = stores.history
        self._switch = switch
        self._check_s = check_s
        self._clock = clock
        self._metrics = metrics
        self._uptime = uptime
        self._next_read = float("-inf")
        self._live = LiveDocuments(stores.documents, lambda documents: ExperimentBook(read_all(documents.by_name)))

    async def participation(self, user_id: str | None) -> Participation:
        """Experiments that a user takes part in now; changes of other replicas count within half a second."""
        if self._uptime() >= self._next_read:
            self._next_read = self._uptime() + REFRESH_S
            await self._live.refresh_beside()
        part = self._live.current.participation(user_id, self._now_us())
        self._metrics.participates(part.labels)
        return part

    async def all(self) -> list[StoredExperiment]:
        """All experiments, by start."""
        return read_all((await asyncio.to_thread(self._documents.all)).by_name)

    async def get(self, name: str) -> StoredExperiment:
        """An experiment.

        Raises:
            UnknownExperimentError: there is none of this name.
        """
        for one in await self.all():
            if one.spec.name == name:
                return one
        raise UnknownExperimentError("name", f"there is no experiment {name!r}")

    async def create(self, spec: ExperimentSpec) -> StoredExperiment:
        """Starts an experiment once every replica is ready to serve its versions.

        Raises:
            ConflictError: its name is taken, it overlaps another one, or a replica refuses a version.
            UnknownVersionError: a version is not registered.
            UnavailableError: the replicas were not ready in time.
        """
        for _ in range(ATTEMPTS):
            present = await asyncio.to_thread(self._documents.all)
            stored = read_all(present.by_name)
            check_beside(spec, stored)
            await self._switch.hold(sorted({*ExperimentBook(stored).versions, *spec.versions}))
            started = StoredExperiment(spec=spec, standing=Standing(started_us=self._now_us()))
            if await self._put(started, present.version):
                return started
        raise ConflictError("name", "other callers change the experiments at the same time; try again")

    async def stop(self, name: str, reason: str) -> StoredExperiment:
        """Ends an experiment; its users get production again. One that has ended stays as it is.

        Raises:
            UnknownExperimentError: there is none of this name.
        """
        for _ in range(ATTEMPTS):
            version = await asyncio.to_thread(self._documents.version)
            present = await self.get(name)
            if present.standing.state != "running":
                return present
            change = {"state": "stopped", "ended_us": self._now_us(), "reason": reason}
            ended = present.model_copy(update={"standing": present.standing.model_copy(update=change)})
            if await self._put(ended, version):
                await self._release()
                return ended
        raise ConflictError("name", "other callers change the experiments at the same time; try again")

    async def watch(self) -> None:
        """Looks at the running experiments again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(self._check_s)
            try:
                await self.look()
            except (UnavailableError, ConflictError) as error:
                log.warning("the store of experiments is unavailable: %s", error)
            except Exception:
                log.exception("experiments cannot be decided")

    async def look(self) -> list[ExperimentDecision]:
        """Decides every running experiment whose last look is `check_s` seconds ago, and acts on the decisions."""
        made: list[ExperimentDecision] = []
        due = [one for one in await self._due() if await self._claimed(one)]
        if not due:
            return made
        slates, events = await asyncio.to_thread(self._read, due)
        for one in due:
            decisions = await asyncio.to_thread(decide_served, one, (slates, events), self._now_us())
            await self._act(one, decisions)
            made += decisions
        return made

    async def _due(self) -> list[StoredExperiment]:
        limit = self._now_us() - int(self._check_s * 1e6)
        return [one for one in await self.all() if one.standing.state == "running" and one.standing.looked_us <= limit]

    async def _claimed(self, one: StoredExperiment) -> bool:
        """True where this replica makes the look: the first to mark it does."""
        version = await asyncio.to_thread(self._documents.version)
        present = await self.get(one.spec.name)
        if present.standing.looked_us != one.standing.looked_us or present.standing.state != "running":
            return False
        standing = present.standing.model_copy(update={"looked_us": self._now_us()})
        return await self._put(present.model_copy(update={"standing": standing}), version)

    def _read(self, due: Sequence[StoredExperiment]) -> tuple[pl.DataFrame, pl.DataFrame]:
        past_h = max(one.spec.decision.past_h for one in due)
        since = max(min(one.standing.started_us for one in due) - int(past_h * HOUR_US), 0)
        tables = (self._history.impressions(since), self._history.export(since))
        slates, events = (pl.DataFrame(pl.from_arrow(table)) for table in tables)
        return slates_of(slates), events_of(events)

    async def _act(self, one: StoredExperiment, decisions: Sequence[ExperimentDecision]) -> None:
        """Records decisions; takes out variants, promotes, and ends the experiment when nothing is left to decide."""
        name = one.spec.name
        for _ in range(ATTEMPTS):
            version = await asyncio.to_thread(self._documents.version)
            present = await self.get(name)
            if present.standing.state != "running":
                return
            standing = following(present, decisions, self._now_us())
            if standing.state == "decided":
                standing = await self._promoted(present, standing, decisions)
            if await self._put(present.model_copy(update={"standing": standing}), version):
                break
        else:
            raise ConflictError("name", f"{name}: other replicas change the experiments at the same time")
        if standing.state != "running":
            log.warning("experiment %s ends: %s", name, standing.reason)
            await self._release()

    async def _promoted(
        self, present: StoredExperiment, standing: Standing, decisions: Sequence[ExperimentDecision]
    ) -> Standing:
        """The standing after the best promoted variant went into production, where the experiment asks for it."""
        best = max((one for one in decisions if one.action == "promote"), key=lambda one: one.low, default=None)
        if best is None or not present.spec.activate:
            return standing
        version = next(one.version for one in present.spec.variants if one.name == best.variant)
        if not version:
            return standing
        try:
            await self._switch.activate(version, "production")
        except RequestError as error:
            return standing.model_copy(update={"reason": f"{standing.reason}; {version} was not activated: {error}"})
        return standing.model_copy(update={"reason": f"{standing.reason}; {version} is in production"})

    async def _release(self) -> None:
        """Lets go of the versions that no running experiment needs."""
        self._next_read = float("-inf")
        await self._switch.hold(ExperimentBook(await self.all()).versions)

    async def _put(self, one: StoredExperiment, version: int) -> bool:
        self._next_read = float("-inf")
        return await asyncio.to_thread(self._documents.put, {one.spec.name: one.document()}, version) is not None

    def _now_us(self) -> int:
        return int(self._clock() * 1e6)


def following(present: StoredExperiment, decisions: Sequence[ExperimentDecision], now_us: int) -> Standing:
    """The standing after decisions.

    A variant that is rolled back or whose assignment is broken is taken out. The experiment ends when a variant is
    promoted, when it has run its course, or when the control alone is left.
    """
    standing = present.standing
    out = dict(standing.out)
    for one in decisions:
        if one.action in ("roll_back", "invalid"):
            out.setdefault(one.variant, str(one))
    latest = tuple(one.to_dict() for one in decisions)
    left = [one for one in decisions if one.variant not in out]
    ending = [one for one in left if one.action in ("promote", "keep_control")]
    promoted = [one for one in ending if one.action == "promote"]
    if not decisions or (left and not promoted and len(ending) < len(left)):
        return standing.model_copy(update={"out": out, "decisions": latest})
    last = max(promoted, key=lambda one: one.low) if promoted else ending[0] if ending else decisions[-1]
    reason = str(last) if promoted or ending else out[last.variant]
    change = {"state": ENDING[last.action], "ended_us": now_us, "reason": reason, "out": out, "decisions": latest}
    return standing.model_copy(update=change)
