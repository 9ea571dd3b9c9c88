"""Live figures of served traffic: attribution of the last hours, and drift of the last day from the training log.

Figures are computed again on request once they are old; drift once an hour.
"""

import asyncio
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from serve.observability.logs import log
from serve.observability.metrics import Metrics
from txrec.config import MonitorConfig
from txrec.errors import BundleError, UnavailableError
from txrec.loop import settings
from txrec.loop.attribution.attribution import HOUR_US, in_micros, slates_of
from txrec.loop.attribution.live_attribution import LiveAttribution
from txrec.loop.drift.live_drift import LiveDrift, TrafficDrift
from txrec.loop.drift.placement_drift import PlacementDrift
from txrec.loop.drift.traffic import TrafficProfile
from txrec.loop.monitor_report import Figures
from txrec.online.history import HistoryStore
from txrec.registry.registry import Registry
from txrec.schema import DAY_US

DRIFT_LOOK_S = 3_600.0
"""Time between two comparisons with the training log, seconds."""
DRIFT_SPAN_US = DAY_US + HOUR_US
"""Log that a comparison reads: a day, and what was still missing of yesterday at the last look."""
_EVENT_FIELDS = ("user_id", "ts", "event", "item_id", "request_id", "value")


@dataclass(frozen=True)
class TrafficProfiles:
    """Profiles of the training logs of a registry's versions.

    Attributes:
        registry: folder; None = the server has one bundle for good.
    """

    registry: Path | None = None

    @property
    def production(self) -> str | None:
        """Name of the version in production; None without a registry."""
        return Registry(self.registry).production if self.registry else None

    def read(self, version: str) -> TrafficProfile | None:
        """The profile of a version; None where its log had no times or too few days.

        Raises:
            BundleError: the version is gone, or its profile is damaged.
        """
        return TrafficProfile.read(Registry(self.registry).folder(version)) if self.registry else None


class LiveMonitor:
    """Live figures of one process, over the logs of all processes.

    Args:
        store: holds slates and events.
        config: hours, windows, and how old figures may be.
        clock: seconds since 1970 UTC.
        metrics: shows the figures by variant as gauges.
        profiles: of the training logs of the versions that may be in production; None = there are none.
    """

    def __init__(
        self,
        store: HistoryStore,
        config: MonitorConfig,
        clock: Callable[[], float],
        metrics: Metrics,
        profiles: "TrafficProfiles | None" = None,
    ) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._keep_us = int(config.live_h * HOUR_US)
        self._live = LiveAttribution(settings.windows(config), self._keep_us)
        self._known: pl.DataFrame | None = None
        self._lock = threading.Lock()
        self._refreshing: asyncio.Task[None] | None = None
        self._figures: Figures = {}
        self.computed = -math.inf
        self._profiles = profiles or TrafficProfiles()
        self._comparison: LiveDrift | None = None
        self._placements = PlacementDrift(config.drift_alpha / 4)
        self._looked = -math.inf
        self.drift = TrafficDrift("not judged", "nothing was compared yet")

    async def figures(self) -> Figures:
        """Slice -> part -> figure -> `Rate` of the last hours, at most `refresh_s` old.

        Raises:
            UnavailableError: the store cannot be read.
        """
        if self._stale():
            await asyncio.to_thread(self._refresh)
        return self._figures

    def refresh_soon(self) -> None:
        """Starts to make old figures again, and waits for nothing."""
        if self._stale() and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.create_task(self._refresh_quietly())

    def _stale(self) -> bool:
        return self._clock() - self.computed >= self._config.refresh_s

    async def _refresh_quietly(self) -> None:
        try:
            await asyncio.to_thread(self._refresh)
        except UnavailableError as error:
            log.warning("live figures are not up to date: %s", error)

    def _refresh(self) -> None:
        """Adds the slates and events of the store that are new since the last call; late events too."""
        with self._lock:
            if not self._stale():  # another thread was faster
                return
            now = self._clock()
            now_us = int(now * 1e6)
            since = max(now_us - self._keep_us, 0)
            slates, events = (
                pl.DataFrame(pl.from_arrow(table))
                for table in (self._store.impressions(since), self._store.export(since))
            )
            numbered = events.with_columns(number=pl.int_range(pl.len()).over(_EVENT_FIELDS))
            keys = (*_EVENT_FIELDS, "number")
            fresh = numbered
            if self._known is not None:
                fresh = numbered.join(self._known, on=keys, how="anti", nulls_equal=True)
            self._live.update(slates, fresh.drop("number"), now_us)
            self._known = numbered.select(keys)
            self._figures = self._live.figures()
            self.computed = now
            if self._config.drift_alpha and now - self._looked >= DRIFT_LOOK_S:
                self._looked = now
                try:
                    self.drift = self._compared(now_us)
                except BundleError as error:
                    log.warning("live drift is not judged: %s", error)
                    self.drift = TrafficDrift("not judged", str(error))
                self._metrics.live.drift(self.drift)
        self._metrics.live.figures(self._values("variant", "experiments"), self._values("placement"))

    def _compared(self, now_us: int) -> TrafficDrift:
        """Comparison of the last day with the training log of the version in production now."""
        version = self._profiles.production
        if version is None:
            return TrafficDrift("not judged", "the server has one bundle and no registry")
        if self._comparison is None or self._comparison.version != version:
            profile = self._profiles.read(version)
            if profile is None:
                return TrafficDrift(
                    "not judged", f"the training log of {version} has no times, or too few days", version
                )
            self._comparison = LiveDrift(profile, version, self._config.drift_alpha, self._placements)
        since = max(now_us - DRIFT_SPAN_US, 0)
        slates, events = (
            pl.DataFrame(pl.from_arrow(table)) for table in (self._store.impressions(since), self._store.export(since))
        )
        return self._comparison.look(slates_of(slates), in_micros(events.lazy()).collect(), now_us)

    def _values(self, *slices: str) -> dict[str, dict[str, float]]:
        """Part of some slices -> figure -> value, where it is known."""
        return {
            part: {name: rate.value for name, rate in figures.items() if math.isfinite(rate.value)}
            for slice_ in slices
            for part, figures in self._figures.get(slice_, {}).items()
        }
