"""The models that one replica holds, kept in line with what is to be served and with the shop's latest changes.

A replica looks at the rollout and at the journal of changed products twice a second, outside requests. What is new is
opened and tried, or applied, first and then takes the place of what was there in one assignment; requests on their way
finish with what they began with. A version that leaves stays for a while, because other replicas may still ask for it.
"""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from serve.logs import log
from serve.service import Model, SupportsRecommend, open_bundle
from txrec.errors import BundleError, TxrecError, UnavailableError
from txrec.online.journal import ItemJournal
from txrec.recommender.catalogue import ItemChange
from txrec.registry.rollout import Report, Rollout, Rollouts, Variant

Opener = Callable[[], tuple[SupportsRecommend, Model]]
"""Opens the recommender of a replica; importable, so that replicas can do it themselves."""

POLL_S = 0.5
LINGER_S = 30.0
"""A version that is not wanted any more stays open for so long, seconds."""


class Shelf(Protocol):
    """Where a replica finds what it serves. Picklable."""

    def rollout(self) -> Rollout:
        """What is to be served."""
        ...

    def open(self, version: str) -> tuple[SupportsRecommend, Model]:
        """Opens and verifies a version."""
        ...

    def report(self, serial: int, report: Report) -> None:
        """Tells whoever changed the rollout how it went."""
        ...


@dataclass(frozen=True)
class OneBundle:
    """A shelf with one model on it, for good."""

    opener: Opener

    def rollout(self) -> Rollout:
        """Always the same."""
        return Rollout("")

    def open(self, version: str) -> tuple[SupportsRecommend, Model]:  # noqa: ARG002 - there is just one
        """Opens it."""
        return self.opener()

    def report(self, serial: int, report: Report) -> None:
        """Nobody asks."""


@dataclass(frozen=True)
class RegistryShelf:
    """The versions of a registry folder."""

    path: str

    def rollout(self) -> Rollout:
        """Production and the trials beside it."""
        return Rollouts(Path(self.path)).read()

    def open(self, version: str) -> tuple[SupportsRecommend, Model]:
        """Opens and verifies a version, which must say that it is that one."""
        recommender, model = open_bundle(str(Path(self.path) / version))
        if model.version != version:
            raise BundleError(f"{self.path}/{version}: its manifest says version {model.version}; publish it anew")
        return recommender, model

    def report(self, serial: int, report: Report) -> None:
        """Leaves a file."""
        Rollouts(Path(self.path)).report(serial, report)


Source = Opener | OneBundle | RegistryShelf
"""What a replica serves from: a shelf, or a function that opens the only bundle there is."""


def as_shelf(source: Source) -> Shelf:
    """A shelf with the only bundle on it, where that is all there is."""
    return source if isinstance(source, OneBundle | RegistryShelf) else OneBundle(source)


@dataclass(frozen=True, eq=False)
class Served:
    """A model that can answer now.

    Attributes:
        model: identity.
        recommender: with the shop's changes applied.
        catalogue: number of the last change that is applied.
    """

    model: Model
    recommender: SupportsRecommend
    catalogue: int = 0


class Models:
    """The models of one replica.

    Args:
        shelf: where models come from.
        journal: changes of products.
        kind: of the replica, for reports.
        clock: seconds, for how long a version lingers.

    Raises:
        BundleError: the version in production cannot be served.
    """

    def __init__(
        self, shelf: Shelf, journal: ItemJournal, kind: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shelf = shelf
        self._journal = journal
        self._kind = kind
        self._clock = clock
        self._replica = f"{kind}-{uuid.uuid4().hex[:12]}"
        self._reconciling = threading.Lock()
        self._changing = threading.Lock()
        self._served: dict[str, Served] = {}
        self._failed: dict[str, str] = {}
        self._last_wanted: dict[str, float] = {}
        self._reported = -1
        self._blind = False
        self._rollout = shelf.rollout()
        self._production = self._rollout.production
        self._served[self._production] = self._opened(self._production)
        self.reconcile()

    def follow(self) -> None:
        """Keeps reconciling in a thread of its own for as long as the process lives."""
        threading.Thread(target=self._follow, name="models", daemon=True).start()

    def choose(self, key: str) -> tuple[Variant, Served]:
        """Who answers a user or a request, given by its key."""
        rollout, served = self._rollout, self._served
        if rollout.canary and rollout.canary in served and rollout.variant(key) == "canary":
            return "canary", served[rollout.canary]
        return "production", served[self._production]

    @property
    def production(self) -> Served:
        """What answers everybody who is in no trial."""
        return self._served[self._production]

    @property
    def shadow(self) -> Served | None:
        """What answers too, unseen."""
        return self._served.get(self._rollout.shadow or " ")

    def get(self, version: str) -> Served | None:
        """A model by its version; None = this replica does not have it."""
        return next((served for served in self._served.values() if served.model.version == version), None)

    def reconcile(self) -> None:
        """Opens what is wanted, applies what changed, closes what nobody needs, and reports."""
        with self._reconciling:
            rollout = self._shelf.rollout()
            self._open_wanted(rollout)
            self.catch_up()
            if rollout.production in self._served:
                self._production = rollout.production
            self._rollout = rollout
            self._close_unwanted(rollout)
            self._report(rollout)

    def catch_up(self) -> None:
        """Applies the changes of products that are not applied yet; nothing where they cannot be read now."""
        with self._changing:
            self._served = {name: self._caught_up(served) for name, served in self._served.items()}

    def _follow(self) -> None:
        while True:
            time.sleep(POLL_S)
            try:
                self.reconcile()
            except Exception as error:
                log.warning("models are not kept up to date: %s", error)

    def _open_wanted(self, rollout: Rollout) -> None:
        if rollout.serial != self._reported:
            self._failed = {}
        for version in rollout.versions:
            if version in self._served or version in self._failed:
                continue
            try:
                served = self._opened(version)
            except Exception as error:  # whatever is wrong with a bundle must not stop what is served
                self._failed[version] = str(error) if isinstance(error, TxrecError) else _described(error)
                log.warning("%s cannot be served: %s", version, self._failed[version])
                continue
            with self._changing:
                self._served = {**self._served, version: served}

    def _opened(self, version: str) -> Served:
        recommender, model = self._shelf.open(version)
        return self._caught_up(Served(model, recommender))

    def _caught_up(self, served: Served) -> Served:
        try:
            found = self._journal.since(served.catalogue)
            if self._blind:
                log.warning("changes of products are seen again")
            self._blind = False
        except UnavailableError as error:
            if not self._blind:
                log.warning("changes of products are not seen: %s", error)
            self._blind = True
            return served
        if not found.items:
            return served
        changed = _applied(served.recommender, found.items)
        return Served(replace(served.model, num_items=len(changed.catalogue.idx_of)), changed, found.version)

    def _close_unwanted(self, rollout: Rollout) -> None:
        now = self._clock()
        self._last_wanted.update(dict.fromkeys((*rollout.versions, self._production), now))
        gone = {name for name in self._served if now - self._last_wanted[name] > LINGER_S}
        if gone:
            with self._changing:
                self._served = {name: served for name, served in self._served.items() if name not in gone}

    def _report(self, rollout: Rollout) -> None:
        if rollout.serial != self._reported:
            error = self._failed.get(rollout.staged or "")
            self._shelf.report(rollout.serial, Report(self._replica, self._kind, error))
            self._reported = rollout.serial


def _applied(recommender: SupportsRecommend, changes: Sequence[ItemChange]) -> SupportsRecommend:
    """A recommender with changes; one that breaks it is left out, the others must not suffer."""
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


def _described(error: Exception) -> str:
    return f"does not open with this version of txrec: {type(error).__name__}: {str(error)[:300]}"
