"""What a replica holds: opened, tried and swapped as the rollout and the journal say, with a source in memory."""

from dataclasses import dataclass, field, replace

import pytest

from serve.models.opening import try_out
from serve.models.replica_models import UNLOAD_DELAY_S, ModelPlan, Models, plan_models
from serve.types import Model
from tests.serve.fake import FakeRecommender
from txrec.errors import BundleError, UnavailableError
from txrec.online.journal import Changes
from txrec.online.sqlite_journal import SqliteJournal
from txrec.recommender.types import Request, Slate, SlateItem
from txrec.registry.rollout import Report, Rollout


@dataclass
class MemorySource:
    """Versions v1, v2, ... that open at once; `broken` ones do not."""

    wanted: Rollout = field(default_factory=lambda: Rollout("v1"))
    broken: set[str] = field(default_factory=set)
    opened: list[str] = field(default_factory=list)
    reports: list[tuple[int, Report]] = field(default_factory=list)
    heartbeats: list[tuple[int, str]] = field(default_factory=list)

    def rollout(self) -> Rollout:
        return self.wanted

    def open(self, version: str) -> tuple[FakeRecommender, Model]:
        self.opened.append(version)
        if version in self.broken:
            raise BundleError(f"{version}/items.parquet: damaged")
        return FakeRecommender(), Model(version)

    def report(self, serial: int, report: Report) -> None:
        self.reports.append((serial, report))

    def heartbeat(self, serial: int, replica: str) -> None:
        self.heartbeats.append((serial, replica))


def found(models: Models, query: str, version: str = "v1") -> list[str]:
    served = models.get(version)
    assert served is not None
    return [item.item_id for item in served.recommender.recommend([Request(query=query)])[0].items]


def test_a_staged_version_is_opened_and_reported_but_answers_nobody() -> None:
    source = MemorySource()
    models = Models(source, SqliteJournal(), "ranker")
    source.wanted = Rollout("v1", staged="v2", serial=1)
    models.reconcile()
    models.reconcile()
    assert source.opened == ["v1", "v2"]
    assert [(serial, report.kind, report.error) for serial, report in source.reports] == [
        (0, "ranker", None),
        (1, "ranker", None),
    ]
    assert models.production.model.version == "v1"
    assert models.get("v2") is not None
    assert source.heartbeats[-1] == (1, source.reports[-1][1].replica), "an unchanged rollout is confirmed"


def test_production_moves_only_to_what_opens_and_the_reason_is_reported() -> None:
    source = MemorySource(broken={"v2"})
    models = Models(source, SqliteJournal(), "ranker")
    source.wanted = Rollout("v1", staged="v2", serial=1)
    models.reconcile()
    assert source.reports[-1][1].error == "v2/items.parquet: damaged"
    source.wanted = Rollout("v2", serial=2)  # somebody moved the pointer by hand
    models.reconcile()
    models.reconcile()
    assert models.choose("anybody")[1].model.version == "v1"
    assert source.opened == ["v1", "v2", "v2"]  # tried again when something changed, not all the time
    source.broken, source.wanted = set(), replace(source.wanted, serial=3)
    models.reconcile()
    assert models.choose("anybody")[1].model.version == "v2"


def test_a_replica_does_not_start_with_a_broken_production_but_does_with_a_broken_canary() -> None:
    with pytest.raises(BundleError, match="damaged"):
        Models(MemorySource(broken={"v1"}), SqliteJournal(), "ranker")
    trial = MemorySource(Rollout("v1", canary="v2", share=1.0), broken={"v2"})
    assert Models(trial, SqliteJournal(), "ranker").choose("anybody")[0] == "production"


def test_the_canary_answers_its_users_and_the_shadow_is_at_hand() -> None:
    rollout = Rollout("v1", canary="v2", share=0.5, shadow="v3")
    models = Models(MemorySource(rollout), SqliteJournal(), "retriever")
    for number in range(50):
        variant, served = models.choose(f"user-{number}")
        assert variant == rollout.variant(f"user-{number}")
        assert served.model.version == {"production": "v1", "canary": "v2"}[variant]
    assert models.shadow is not None
    assert models.shadow.model.version == "v3"


def test_a_version_that_left_stays_for_requests_on_their_way_and_then_goes() -> None:
    now = 0.0
    source = MemorySource()
    models = Models(source, SqliteJournal(), "ranker", lambda: now)
    source.wanted = Rollout("v2")
    models.reconcile()
    assert models.get("v1") is not None
    now = UNLOAD_DELAY_S + 1
    models.reconcile()
    assert models.get("v1") is None
    assert models.production.model.version == "v2"


def test_changes_reach_every_model_also_one_that_is_opened_later() -> None:
    source, journal = MemorySource(), SqliteJournal()
    models = Models(source, journal, "ranker")
    before = models.production
    journal.put([{"item_id": "new", "title": "green lamp"}])
    journal.retire("p3")
    models.catch_up()
    assert found(models, "lamp") == ["new", "p9", "p6"]
    assert (models.production.catalogue, models.production.model.num_items) == (2, 11)
    assert before.recommender.catalogue.idx_of.get("new") is None  # requests on their way see no change
    source.wanted = Rollout("v1", staged="v2", serial=1)
    models.reconcile()
    assert found(models, "lamp", "v2") == ["new", "p9", "p6"]


class Away(SqliteJournal):
    away = True

    def since(self, version: int) -> Changes:
        if self.away:
            raise UnavailableError("", "away")
        return super().since(version)


def test_while_the_journal_is_away_the_bundle_serves_and_catches_up_later() -> None:
    journal = Away()
    journal.put([{"item_id": "new", "title": "green lamp"}])
    models = Models(MemorySource(), journal, "ranker")
    assert found(models, "green") == []
    journal.away = False
    models.reconcile()
    assert found(models, "green") == ["new"]


class Brittle(FakeRecommender):
    def with_changes(self, changes):  # type: ignore[no-untyped-def]
        if any(change.item_id == "poison" for change in changes):
            raise ZeroDivisionError
        return super().with_changes(changes)


def test_a_change_that_breaks_the_recommender_is_left_out_and_the_others_hold() -> None:
    journal = SqliteJournal()
    journal.put([{"item_id": "poison"}, {"item_id": "new", "title": "green lamp"}])
    source = MemorySource()
    source.open = lambda version: (Brittle(), Model(version))  # type: ignore[method-assign]
    assert found(Models(source, journal, "ranker"), "green") == ["new"]


class Mute(FakeRecommender):
    def __init__(self, score: float | None) -> None:
        super().__init__()
        self._score = score

    def recommend(self, requests):  # type: ignore[no-untyped-def]
        items = () if self._score is None else (SlateItem("p1", self._score),)
        return [Slate(items if request.query != "odd" else ()) for request in requests]


def test_a_model_is_tried_before_it_serves() -> None:
    try_out(FakeRecommender(), ["lamp"])
    with pytest.raises(BundleError, match="no answer to a request without user"):
        try_out(Mute(None), [])
    with pytest.raises(BundleError, match="no answer to the query 'odd'"):
        try_out(Mute(0.5), ["odd"])
    with pytest.raises(BundleError, match="no numbers"):
        try_out(Mute(float("nan")), [])


@pytest.mark.parametrize(
    ("rollout", "failed", "plan"),
    [
        (Rollout("v1"), set(), ModelPlan((), "v1", frozenset({"v0"}))),
        (Rollout("v1", canary="v2"), set(), ModelPlan(("v2",), "v1", frozenset({"v0"}))),
        (Rollout("v2"), set(), ModelPlan(("v2",), "v2", frozenset({"v0"}))),
        (Rollout("v2"), {"v2"}, ModelPlan((), "v1", frozenset({"v0"}))),
        (Rollout("v0"), set(), ModelPlan((), "v0", frozenset())),
    ],
)
def test_the_plan_opens_what_is_missing_and_unloads_what_has_been_unneeded_for_long(
    rollout: Rollout, failed: set[str], plan: ModelPlan
) -> None:
    now = UNLOAD_DELAY_S + 1.0
    assert plan_models(rollout, {"v0": 0.0, "v1": 20.0}, failed, "v1", now) == plan
