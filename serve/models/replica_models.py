"""Models of one replica, kept in line with the rollout and with the shop's latest catalogue changes.

A replica reads the rollout and the item journal twice per second, outside requests. A new version is opened and tried,
and changes are applied, before they replace the present state in one assignment; requests under way finish with the
state that they began with. A version that leaves the rollout stays loaded for a while: other replicas may still send
its candidates.
"""

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from serve.models.opening import open_bundle
from serve.observability.logs import log
from serve.types import Model, SupportsRecommend
from txrec import object_storage
from txrec.errors import BundleError, TxrecError, UnavailableError
from txrec.index.live_log import LiveEvent
from txrec.online.journal import ItemJournal
from txrec.online.live_window import LiveStatistics, LiveWindow
from txrec.recommender.catalogue import ItemChange
from txrec.registry.rollout import Report, Rollout, Rollouts, Variant

Opener = Callable[[], tuple[SupportsRecommend, Model]]
"""Opens the recommender of a replica; importable, so that replicas can do it themselves."""

POLL_S = 0.5
UNLOAD_DELAY_S = 30.0
"""A version that left the rollout stays loaded for this long, seconds."""


class ModelSource(Protocol):
    """Source of the bundles that a replica serves. Picklable."""

    def rollout(self) -> Rollout:
        """Versions and their roles."""
        ...

    def open(self, version: str) -> tuple[SupportsRecommend, Model]:
        """Opens and verifies a version."""
        ...

    def report(self, serial: int, report: Report) -> None:
        """Reports whether this replica is ready for the rollout of a number."""
        ...

    def heartbeat(self, serial: int, replica: str) -> None:
        """Renews the report of a live replica."""
        ...


@dataclass(frozen=True)
class StaticSource:
    """One bundle for good."""

    opener: Opener

    def rollout(self) -> Rollout:
        """One version, always the same."""
        return Rollout("")

    def open(self, version: str) -> tuple[SupportsRecommend, Model]:  # noqa: ARG002 - there is one version
        """Opens the bundle."""
        return self.opener()

    def report(self, serial: int, report: Report) -> None:
        """Does nothing: the rollout never changes."""

    def heartbeat(self, serial: int, replica: str) -> None:
        """Does nothing: the rollout never changes."""


@dataclass(frozen=True)
class RegistrySource:
    """The versions of a registry: a folder, or a place in object storage, whose bundles each machine fetches once."""

    path: str
    """Absolute path or URI."""
    device: str = "cpu"
    """Device of the networks."""

    def rollout(self) -> Rollout:
        """Production, canary and shadow of the registry."""
        return self._rollouts.read()

    def open(self, version: str) -> tuple[SupportsRecommend, Model]:
        """Opens and verifies a version, which must say that it is that one."""
        recommender, model = open_bundle(str(self._rollouts.registry.folder(version)), self.device)
        if model.version != version:
            raise BundleError(f"{self.path}/{version}: its manifest says version {model.version}; publish it anew")
        return recommender, model

    def report(self, serial: int, report: Report) -> None:
        """Writes a report file into the registry."""
        self._rollouts.report(serial, report)

    def heartbeat(self, serial: int, replica: str) -> None:
        """Marks the report as that of a live replica."""
        self._rollouts.heartbeat(serial, replica)

    @property
    def _rollouts(self) -> Rollouts:
        return Rollouts(object_storage.local_path(self.path))


BundleSource = Opener | StaticSource | RegistrySource
"""A model source, or a function that opens the only bundle there is."""


def as_model_source(source: BundleSource) -> ModelSource:
    """The model source; a function becomes a static one."""
    return source if isinstance(source, StaticSource | RegistrySource) else StaticSource(source)


@dataclass(frozen=True, eq=False)
class Served:
    """A model that can answer now.

    Attributes:
        model: identity.
        recommender: with the shop's catalogue changes applied.
        catalogue: number of the last change that is applied.
        live: version of the live events that are counted.
    """

    model: Model
    recommender: SupportsRecommend
    catalogue: int = 0
    live: int = 0


@dataclass(frozen=True)
class ModelPlan:
    """Changes that bring the models of a replica in line with a rollout.

    Attributes:
        to_open: versions that are to be opened.
        production: the version that answers everyone outside the canary once it is open.
        to_unload: versions that have been out of the rollout for `UNLOAD_DELAY_S`.
    """

    to_open: tuple[str, ...]
    production: str
    to_unload: frozenset[str]


def plan_models(
    rollout: Rollout, last_needed: Mapping[str, float], failed: Collection[str], production: str, now: float
) -> ModelPlan:
    """The changes that a rollout asks of a replica.

    Args:
        rollout: versions and their roles.
        last_needed: loaded version = when it last was part of a rollout, seconds.
        failed: versions that cannot be served.
        production: the version in production so far.
        now: seconds, by the same clock as `last_needed`.
    """
    to_open = tuple(name for name in rollout.versions if name not in last_needed and name not in failed)
    if rollout.production in last_needed or rollout.production in to_open:
        production = rollout.production
    old = set(last_needed) - {*rollout.versions, production}
    return ModelPlan(to_open, production, frozenset(name for name in old if now - last_needed[name] > UNLOAD_DELAY_S))


class Models:
    """The models of one replica.

    Args:
        source: where models come from.
        journal: changes of products.
        kind: of the replica, for reports.
        clock: seconds, for the delay before a version is unloaded.
        live: events whose counts are added to the fitted ones; None = none are.

    Raises:
        BundleError: the version in production cannot be served.
    """

    def __init__(
        self,
        source: ModelSource,
        journal: ItemJournal,
        kind: str,
        clock: Callable[[], float] = time.monotonic,
        live: LiveWindow | None = None,
    ) -> None:
        self._source = source
        self._journal = journal
        self._kind = kind
        self._clock = clock
        self._replica = f"{kind}-{uuid.uuid4().hex[:12]}"
        self._reconciling = threading.Lock()
        self._changing = threading.Lock()
        self._served: dict[str, Served] = {}
        self._failed: dict[str, str] = {}
        self._last_needed: dict[str, float] = {}
        self._reported = -1
        self._journal_unavailable = False
        self._live = live
        self._live_unavailable = False
        self._rollout = source.rollout()
        self._production = self._rollout.production
        self._served[self._production] = self._opened(self._production)
        self._last_needed[self._production] = clock()
        self.reconcile()

    def follow(self) -> None:
        """Keeps reconciling in a thread of its own for as long as the process lives."""
        threading.Thread(target=self._follow, name="models", daemon=True).start()

    def choose(self, key: str, version: str | None = None) -> tuple[Variant, Served]:
        """The variant and the model that answer a user or request, by its key.

        Args:
            key: the user, or for an anonymous user the request.
            version: that an experiment gave it, empty = production; None = as the rollout says. One that this replica
                does not hold is answered by production.
        """
        rollout, served = self._rollout, self._served
        if version is not None:
            return ("experiment", served[version]) if version in served else ("production", served[self._production])
        if rollout.canary and rollout.canary in served and rollout.variant(key) == "canary":
            return "canary", served[rollout.canary]
        return "production", served[self._production]

    @property
    def production(self) -> Served:
        """The model that answers everyone outside the canary."""
        return self._served[self._production]

    @property
    def live_statistics(self) -> LiveStatistics | None:
        """Size of the window of live events; None where none are counted."""
        return None if self._live is None else self._live.statistics

    @property
    def shadow(self) -> Served | None:
        """The shadow model, if any."""
        return self._served.get(self._rollout.shadow or " ")

    def get(self, version: str) -> Served | None:
        """A loaded model by its version; None = this replica has not loaded it."""
        return next((served for served in self._served.values() if served.model.version == version), None)

    def reconcile(self) -> None:
        """Opens new versions, applies catalogue changes, unloads old versions, and reports readiness."""
        with self._reconciling:
            rollout = self._source.rollout()
            if rollout.serial != self._reported:
                self._failed = {}
            plan = plan_models(rollout, self._last_needed, self._failed, self._production, self._clock())
            self._open(plan.to_open)
            self.catch_up()
            self._count_live()
            if plan.production in self._served:
                self._production = plan.production
            self._rollout = rollout
            self._unload(plan.to_unload - {self._production})
            needed = {*rollout.versions, self._production} & set(self._served)
            self._last_needed |= dict.fromkeys(needed, self._clock())
            self._report(rollout)

    def catch_up(self) -> None:
        """Applies the catalogue changes that are not applied yet; none where the journal is unavailable."""
        with self._changing:
            self._served = {name: self._caught_up(served) for name, served in self._served.items()}

    def _count_live(self) -> None:
        """Adds the events that are new to the counts of every model; as before where their store is unavailable."""
        if self._live is None:
            return
        try:
            self._live.refresh()
            self._live_unavailable = False
        except UnavailableError as error:
            if not self._live_unavailable:
                log.warning("the store of live events is unavailable, their counts stay: %s", error)
            self._live_unavailable = True
        if all(served.live == self._live.version for served in self._served.values()):
            return
        events = self._live.events()
        with self._changing:
            self._served = {
                name: served if served.live == self._live.version else self._with_live(served, events)
                for name, served in self._served.items()
            }

    def _with_live(self, served: Served, events: Sequence[LiveEvent]) -> Served:
        version = self._live.version if self._live is not None else 0
        return replace(served, recommender=served.recommender.with_live(events), live=version)

    def _follow(self) -> None:
        while True:
            time.sleep(POLL_S)
            try:
                self.reconcile()
            except Exception as error:
                log.warning("models are not kept up to date: %s", error)

    def _open(self, versions: Iterable[str]) -> None:
        for version in versions:
            try:
                served = self._opened(version)
            except Exception as error:  # a bad bundle must not stop the models that serve
                self._failed[version] = str(error) if isinstance(error, TxrecError) else _opening_error(error)
                log.warning("%s cannot be served: %s", version, self._failed[version])
                continue
            with self._changing:
                self._served = {**self._served, version: served}

    def _opened(self, version: str) -> Served:
        recommender, model = self._source.open(version)
        return self._caught_up(Served(model, recommender))

    def _caught_up(self, served: Served) -> Served:
        try:
            changes = self._journal.since(served.catalogue)
            if self._journal_unavailable:
                log.warning("the item journal is available again")
            self._journal_unavailable = False
        except UnavailableError as error:
            if not self._journal_unavailable:
                log.warning("the item journal is unavailable: %s", error)
            self._journal_unavailable = True
            return served
        if not changes.items:
            return served
        changed = _applied(served.recommender, changes.items)
        model = replace(served.model, num_items=len(changed.catalogue.idx_of), last_change=changes.version)
        current = Served(model, changed, changes.version)
        return current if self._live is None else self._with_live(current, self._live.events())

    def _unload(self, versions: Collection[str]) -> None:
        if versions:
            with self._changing:
                self._served = {name: served for name, served in self._served.items() if name not in versions}
            self._last_needed = {name: at for name, at in self._last_needed.items() if name not in versions}

    def _report(self, rollout: Rollout) -> None:
        if rollout.serial != self._reported:
            error = self._failed.get(rollout.staged or "")
            self._source.report(rollout.serial, Report(self._replica, self._kind, error))
            self._reported = rollout.serial
        else:
            self._source.heartbeat(rollout.serial, self._replica)


def _applied(recommender: SupportsRecommend, changes: Sequence[ItemChange]) -> SupportsRecommend:
    """A recommender with changes applied; a change that breaks it is left out."""
    try:
        return recommender.with_changes(changes)
    except Exception:
        log.exception("a change of a product cannot be applied")
    for change in sorted(changes, key=lambda change: change.first_seq):
        try:
            recommender = recommender.with_changes([change])
        except Exception as error:
            log.warning("the change of product %s is left out: %s", change.item_id, error)
    return recommender


def _opening_error(error: Exception) -> str:
    return f"does not open with this version of txrec: {type(error).__name__}: {str(error)[:300]}"
