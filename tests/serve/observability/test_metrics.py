"""What is exported, and that the dashboard shows just that."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve.observability.metrics import Metrics
from serve.types import Answer, CacheStats
from txrec.loop.drift.drift import Finding
from txrec.loop.drift.live_drift import TrafficDrift
from txrec.online.live_window import LiveStatistics
from txrec.recommender.page_types import Page
from txrec.recommender.types import Slate

DASHBOARD = Path(__file__).parents[3] / "deploy" / "grafana.json"
SUFFIXES = ("", "_total", "_bucket", "_sum", "_count")


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    metrics.request("/v1/search", 200, 0.012)
    metrics.slate(
        Answer(Slate((), timings_ms={"rank": 3.0}, rules={"jeans first": "pin"}), "v1", "canary", CacheStats(3, 1)),
        "unknown_user",
    )
    metrics.events(2, 1)
    metrics.lost_impressions(1)
    metrics.slate(Answer(Slate((), page=Page(total=3, offset=0, match="all", answered_query="lamp")), "v1"), None)
    metrics.slate(Answer(Slate((), notes=("objective: has no effect",)), "v1"), None)
    metrics.live.counts(LiveStatistics(num_events=3, newest_us=1_000_000), now_us=5_000_000)
    metrics.placement("home")
    metrics.participates(["price test:b"])
    metrics.product_list("trending")
    metrics.audience("item")
    metrics.profile("found")
    metrics.batch("slates", 5)
    metrics.live.drift(TrafficDrift("drift", readings=(Finding("mix of query", 0.3, 0.1, 12.0, 6.0),)))
    return metrics


@pytest.fixture
def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def value(metrics: Metrics, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(metrics.text().decode())
    (found,) = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return found


def test_slates_batches_and_cache_lookups_are_counted(metrics: Metrics) -> None:
    assert value(metrics, "txrec_slates_total", version="v1", variant="canary") == 1
    assert value(metrics, "txrec_rule_effects_total", effect="pin") == 1
    assert value(metrics, "txrec_placement_slates_total", placement="home") == 1
    assert value(metrics, "txrec_experiment_slates_total", experiment="price test", variant="b") == 1
    assert value(metrics, "txrec_pages_total", match="all") == 1
    assert value(metrics, "txrec_objective_slates_total", effect="no_effect") == 1
    assert value(metrics, "txrec_live_counts", figure="events") == 3
    assert value(metrics, "txrec_live_counts", figure="newest_age_s") == 4
    assert value(metrics, "txrec_lists_total", kind="trending") == 1
    assert value(metrics, "txrec_profile_lookups_total", outcome="found") == 1
    assert value(metrics, "txrec_batch_size_sum", kind="slates") == 5
    assert value(metrics, "txrec_live_drift", figure="mix of query") == 2.0
    assert value(metrics, "txrec_live_drift_outcome", outcome="drift") == 1
    assert value(metrics, "txrec_live_drift_outcome", outcome="quiet") == 0
    assert value(metrics, "txrec_cache_hits_total", cache="query_vectors") == 3
    assert value(metrics, "txrec_cache_misses_total", cache="query_vectors") == 1
    assert value(metrics, "txrec_fallbacks_total", reason="unknown_user") == 1
    assert value(metrics, "txrec_stage_seconds_sum", stage="rank") == pytest.approx(0.003)


def test_only_the_model_that_answered_last_is_named(metrics: Metrics) -> None:
    metrics.slate(Answer(Slate(()), "v2"), None)
    assert value(metrics, "txrec_model_info") == 1
    assert value(metrics, "txrec_model_info", version="v2") == 1


def shown(dashboard: Any) -> str:
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    return "\n".join(queries)


def test_the_dashboard_asks_for_nothing_that_is_not_exported(metrics: Metrics, dashboard: Any) -> None:
    metrics.live.figures({"production": {"click_rate": 0.1}}, {"home": {"click_rate": 0.3}})
    exported = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }
    queries = shown(dashboard)
    assert set(re.findall(r"\btxrec_\w+", queries)) <= set(exported)
    labels = {label for own in exported.values() for label in own}
    for grouped in re.findall(r"\b(?:by|ignoring) \(([^)]*)\)", queries):
        assert {label.strip() for label in grouped.split(",")} <= labels
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels


def test_the_dashboard_shows_every_exported_figure(metrics: Metrics, dashboard: Any) -> None:
    metrics.live.figures({"production": {"click_rate": 0.1}}, {"home": {"click_rate": 0.3}})
    families = {family.name for family in text_string_to_metric_families(metrics.text().decode())}
    families = {name for name in families if not name.endswith("_created")}
    names = set(re.findall(r"\btxrec_\w+", shown(dashboard)))
    assert {name for name in families if not {name + suffix for suffix in SUFFIXES} & names} == set()


def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard: Any) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    corners = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(corners)) == len(corners)
