"""What a monitoring system reads at `/metrics`, in Prometheus' text format.

Figures are those of one ingress replica, which the label `replica` names; sums over replicas are the scraper's part.
"""

import os
import socket

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from txrec.slate import Slate

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Counters of one replica."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._replica = f"{socket.gethostname()}-{os.getpid()}"
        self._requests = Counter(
            "txrec_requests", "Answered requests.", ["replica", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "txrec_request_seconds",
            "Time from the first byte to the answer.",
            ["replica", "route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._stages = Histogram(
            "txrec_stage_seconds",
            "Time of a stage, for the whole batch that a request was in.",
            ["replica", "stage"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._fallbacks = Counter(
            "txrec_fallbacks",
            "Slates that were simpler than asked for.",
            ["replica", "reason"],
            registry=self._registry,
        )
        self._events = Counter("txrec_events", "Events stored.", ["replica", "outcome"], registry=self._registry)
        self._model = Gauge(
            "txrec_model_info", "1 for the model that answered last.", ["replica", "version"], registry=self._registry
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answered request; `route` is the path's template."""
        self._requests.labels(self._replica, route, str(status)).inc()
        self._seconds.labels(self._replica, route).observe(seconds)

    def slate(self, slate: Slate, fallback: str | None, model_version: str) -> None:
        """Counts a slate."""
        for stage, ms in slate.timings_ms.items():
            self._stages.labels(self._replica, stage).observe(ms / 1000)
        if fallback:
            self._fallbacks.labels(self._replica, fallback).inc()
        self._model.clear()
        self._model.labels(self._replica, model_version).set(1)

    def events(self, stored: int, repeated: int) -> None:
        """Counts events."""
        self._events.labels(self._replica, "stored").inc(stored)
        self._events.labels(self._replica, "repeated").inc(repeated)

    def text(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self._registry)
