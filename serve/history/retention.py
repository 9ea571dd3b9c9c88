"""Retention of personal data: events and impressions older than the configured number of days are removed.

`serve.event_days` and `serve.impression_days` hold whether or not anything is written: a thread of each ingress
replica prunes the store at its start and then once per hour.
"""

import threading
import time
from collections.abc import Callable

from serve.observability.logs import log
from txrec.config import ServeConfig
from txrec.errors import UnavailableError
from txrec.online.history import HistoryStore
from txrec.schema import DAY_US

INTERVAL_S = 3_600.0


class Retention:
    """Prunes a store.

    Args:
        store: holds events and impressions.
        config: `event_days` and `impression_days`.
        clock: seconds since 1970 UTC.
    """

    def __init__(self, store: HistoryStore, config: ServeConfig, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._event_days = config.event_days
        self._impression_days = config.impression_days
        self._clock = clock

    def run_once(self) -> int:
        """Removes data older than the retention; the number of removed events."""
        now_us = int(self._clock() * 1e6)
        if self._impression_days:
            self._store.log_impressions([], now_us - self._impression_days * DAY_US)
        return self._store.prune(now_us - self._event_days * DAY_US) if self._event_days else 0

    def start(self) -> None:
        """Prunes now and then once per hour, in a daemon thread."""
        threading.Thread(target=self._loop, name="retention", daemon=True).start()

    def _loop(self) -> None:
        while True:
            try:
                removed = self.run_once()
                if removed:
                    log.info("%d events were older than %d days and are removed", removed, self._event_days)
            except UnavailableError as error:
                log.warning("events are not pruned now: %s", error)
            time.sleep(INTERVAL_S)
