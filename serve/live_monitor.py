"""Live figures of served traffic: attribution of the last hours, computed again on request once they are old."""

import asyncio
import math
import threading
from collections.abc import Callable

import polars as pl

from serve.logs import log
from serve.metrics import Metrics
from txrec.config import MonitorConfig
from txrec.errors import UnavailableError
from txrec.loop import settings
from txrec.loop.attribution import HOUR_US
from txrec.loop.live import LiveAttribution
from txrec.loop.monitor import Figures
from txrec.online.history import HistoryStore

_EVENT_FIELDS = ("user_id", "ts", "event", "item_id", "request_id", "value")


class LiveMonitor:
    """Live figures of one process, over the logs of all processes.

    Args:
        store: holds slates and events.
        config: hours, windows, and how old figures may be.
        clock: seconds since 1970 UTC.
        metrics: shows the figures by variant as gauges.
    """

    def __init__(
        self, store: HistoryStore, config: MonitorConfig, clock: Callable[[], float], metrics: Metrics
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
        self._metrics.live(
            {
                variant: {name: rate.value for name, rate in figures.items() if math.isfinite(rate.value)}
                for slice_ in ("variant", "experiments")
                for variant, figures in self._figures.get(slice_, {}).items()
            }
        )
