"""Prometheus gauges of the last hours: attribution, drift, and the live events that are counted."""

from collections.abc import Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge

from txrec.loop.drift.live_drift import Outcome, TrafficDrift
from txrec.online.live_window import LiveStatistics


class LiveMetrics:
    """Gauges of one replica."""

    def __init__(self, registry: CollectorRegistry, replica: str) -> None:
        self._registry, self._replica = registry, replica
        self._window = self._gauge(
            "txrec_live_counts",
            "Live events that a retriever counts: numbers of `events`, `items` and `queries`, `newest_age_s` is"
            " the age of the newest one in seconds, `bytes` the memory of the events.",
            "figure",
        )
        self._variants = self._gauge(
            "txrec_live_figure",
            "Figure of the last hours by attribution, as /v1/monitor computed it last.",
            "variant",
            "figure",
        )
        self._placements = self._gauge(
            "txrec_live_placement_figure",
            "The same by placement; `none` = slates whose request named none.",
            "placement",
            "figure",
        )
        self._drift = self._gauge(
            "txrec_live_drift",
            "Deviation of a figure of the last day from the training log, in units of its threshold: above 1 = alarm.",
            "figure",
        )
        self._outcome = self._gauge(
            "txrec_live_drift_outcome",
            "1 for the outcome of the last comparison with the training log.",
            "outcome",
        )

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, ["replica", *labels], registry=self._registry)

    def figures(
        self, by_variant: Mapping[str, Mapping[str, float]], by_placement: Mapping[str, Mapping[str, float]]
    ) -> None:
        """Sets the live figures: variant, or placement -> figure -> value."""
        for gauge, parts in ((self._variants, by_variant), (self._placements, by_placement)):
            gauge.clear()
            for part, figures in parts.items():
                for figure, value in figures.items():
                    gauge.labels(self._replica, part, figure).set(value)

    def drift(self, drift: TrafficDrift) -> None:
        """Sets the figures of live drift."""
        self._drift.clear()
        for one in drift.readings:
            self._drift.labels(self._replica, one.figure).set(one.deviation / one.threshold)
        for outcome in get_args(Outcome):
            self._outcome.labels(self._replica, outcome).set(float(outcome == drift.outcome))

    def counts(self, statistics: LiveStatistics, now_us: int) -> None:
        """Sets the size of the live window, at a time in microseconds since 1970 UTC."""
        figures: dict[str, float] = {
            "events": statistics.num_events,
            "items": statistics.num_items,
            "queries": statistics.num_queries,
            "bytes": statistics.num_bytes,
        }
        if statistics.newest_us:
            figures["newest_age_s"] = (now_us - statistics.newest_us) / 1e6
        for figure, value in figures.items():
            self._window.labels(self._replica, figure).set(value)
