"""Prometheus metrics of an ingress replica, served at `/metrics`.

The label `replica` names the replica; sums over replicas are made by the queries of the monitoring system.
"""

import os
import socket
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serve.observability.live_metrics import LiveMetrics
from serve.types import Answer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one replica."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._replica = f"{socket.gethostname()}-{os.getpid()}"
        self._requests = self._counter("txrec_requests", "Answered requests.", "route", "status")
        self._seconds = self._histogram(
            "txrec_request_seconds", "Time from the first byte to the answer.", "route", buckets=_SECONDS
        )
        self._stages = self._histogram(
            "txrec_stage_seconds",
            "Time of a stage, for the whole batch that a request was in.",
            "stage",
            buckets=_SECONDS,
        )
        self._fallbacks = self._counter("txrec_fallbacks", "Slates with a fallback.", "reason")
        self._events = self._counter("txrec_events", "Events stored.", "outcome")
        self._lost = self._counter(
            "txrec_impressions_lost", "Slates that were answered and not logged, as their store was unavailable."
        )
        self._slates = self._counter("txrec_slates", "Slates by the model that made them.", "version", "variant")
        self._parts = self._counter(
            "txrec_experiment_slates", "Requests that took part in an experiment.", "experiment", "variant"
        )
        self._placements = self._counter(
            "txrec_placement_slates",
            "Slates by placement; `other` = one without defaults, `none` = not named.",
            "placement",
        )
        self._objectives = self._counter(
            "txrec_objective_slates",
            "Slates with an objective: `ordered` = by expected worth, `no_effect` = nothing of it is estimated.",
            "effect",
        )
        self._profiles = self._counter("txrec_profile_lookups", "Lookups of users' profiles.", "outcome")
        self._pages = self._counter("txrec_pages", "Search pages by how their products match the query.", "match")
        self._lists = self._counter("txrec_lists", "Lists answered, by kind.", "kind")
        self._audiences = self._counter("txrec_audiences", "Audiences answered, by kind of target.", "target")
        self._rules = self._counter(
            "txrec_rule_effects", "Effects of merchandising rules on slates, by their type.", "effect"
        )
        self._batches = self._histogram(
            "txrec_batch_size", "Calls in a batch: slates, or reports of events.", "kind", buckets=_SIZES
        )
        self._hits = self._counter("txrec_cache_hits", "Cache lookups that hit.", "cache")
        self._misses = self._counter("txrec_cache_misses", "Cache lookups that missed.", "cache")
        self._model = self._gauge("txrec_model_info", "1 for the model that answered last.", "version")
        self.live = LiveMetrics(self._registry, self._replica)
        """Gauges of the last hours."""

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, ["replica", *labels], registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, ["replica", *labels], registry=self._registry)

    def _histogram(self, name: str, text: str, *labels: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, ["replica", *labels], buckets=buckets, registry=self._registry)

    def lost_impressions(self, number: int) -> None:
        """Counts slates that could not be logged."""
        self._lost.labels(self._replica).inc(number)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answered request; `route` is the path's template."""
        self._requests.labels(self._replica, route, str(status)).inc()
        self._seconds.labels(self._replica, route).observe(seconds)

    def slate(self, answer: Answer, fallback: str | None) -> None:
        """Counts a slate."""
        for stage, ms in answer.slate.timings_ms.items():
            self._stages.labels(self._replica, stage).observe(ms / 1000)
        if fallback:
            self._fallbacks.labels(self._replica, fallback).inc()
        self._hits.labels(self._replica, "query_vectors").inc(answer.query_vectors.hits)
        self._misses.labels(self._replica, "query_vectors").inc(answer.query_vectors.misses)
        self._slates.labels(self._replica, answer.model_version, answer.variant).inc()
        if answer.slate.page is not None:
            self._pages.labels(self._replica, answer.slate.page.match).inc()
        if any(item.estimates for item in answer.slate.items):
            self._objectives.labels(self._replica, "ordered").inc()
        elif any(note.startswith("objective:") for note in answer.slate.notes):
            self._objectives.labels(self._replica, "no_effect").inc()
        for effect in answer.slate.rules.values():
            self._rules.labels(self._replica, effect).inc()
        self._model.clear()
        self._model.labels(self._replica, answer.model_version).set(1)

    def participates(self, labels: Sequence[str]) -> None:
        """Counts a request in its experiments, `experiment:variant` each."""
        for label in labels:
            experiment, _, variant = label.partition(":")
            self._parts.labels(self._replica, experiment, variant).inc()

    def product_list(self, kind: str) -> None:
        """Counts a list."""
        self._lists.labels(self._replica, kind).inc()

    def audience(self, target: str) -> None:
        """Counts an audience."""
        self._audiences.labels(self._replica, target).inc()

    def placement(self, name: str) -> None:
        """Counts a slate of a placement."""
        self._placements.labels(self._replica, name).inc()

    def profile(self, outcome: str) -> None:
        """Counts the lookup of a user's profile."""
        self._profiles.labels(self._replica, outcome).inc()

    def batch(self, kind: str, size: int) -> None:
        """Observes the size of a batch."""
        self._batches.labels(self._replica, kind).observe(size)

    def events(self, stored: int, repeated: int) -> None:
        """Counts events."""
        self._events.labels(self._replica, "stored").inc(stored)
        self._events.labels(self._replica, "repeated").inc(repeated)

    def text(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self._registry)
