"""The contract of the journal of changed products, and what it means for a recommender."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import services
from txrec.errors import UnavailableError
from txrec.online.journal import ItemJournal
from txrec.online.redis_journal import RedisJournal
from txrec.online.sqlite_journal import SqliteJournal
from txrec.online.stores import open_journal
from txrec.recommender import catalogue
from txrec.recommender.catalogue import ItemChange
from txrec.recommender.recommender import Event, Recommender, Request
from txrec.text import normalise


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with services.redis() as url:
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def journal(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ItemJournal]:
    journal: ItemJournal
    if request.param == "redis":
        journal = RedisJournal(request.getfixturevalue("redis_url"), prefix=request.node.name)
    else:
        journal = SqliteJournal(tmp_path / "state" / "history.sqlite")
    yield journal
    journal.close()


def test_a_change_is_numbered_and_told_to_whoever_asks_from_before(journal: ItemJournal) -> None:
    assert journal.since(0).items == ()
    second = journal.put([{"item_id": "a", "title": "Lamp"}, {"item_id": "b"}])
    assert journal.put([{"item_id": "c"}]) == second + 1
    changes = journal.since(second)
    assert changes.version == second + 1
    assert changes.items == (ItemChange("c", {}, False, second + 1),)
    assert journal.since(second + 1).items == ()
    assert journal.since(second + 1).version == second + 1
    assert [change.item_id for change in journal.since(0).items] == ["a", "b", "c"]


def test_what_is_left_out_stays_and_null_takes_away(journal: ItemJournal) -> None:
    journal.put([{"item_id": "a", "title": "Lamp", "price": 5.0, "category": [], "attributes": {}}])
    journal.put([{"item_id": "a", "available": False}, {"item_id": "a", "price": None}])
    change = journal.get("a")
    assert change is not None
    assert change.fields == {"title": "Lamp", "price": None, "available": False, "category": [], "attributes": {}}
    assert len(journal.since(0).items) == 1


def test_a_retired_product_keeps_its_place_and_starts_afresh(journal: ItemJournal) -> None:
    second = journal.put([{"item_id": "a", "title": "Lamp"}, {"item_id": "b"}])
    assert journal.retire("a") == second + 1
    assert journal.get("a") == ItemChange("a", {"title": "Lamp"}, True, second - 1)
    journal.put([{"item_id": "a", "price": 1.0}])
    assert journal.get("a") == ItemChange("a", {"price": 1.0}, False, second - 1)


def test_a_product_that_was_only_retired_is_born_when_it_is_put(journal: ItemJournal) -> None:
    first = journal.retire("a")
    assert journal.get("a") == ItemChange("a", {}, True, 0)
    journal.put([{"item_id": "b"}, {"item_id": "a"}])
    assert {change.item_id: change.first_seq for change in journal.since(0).items} == {"b": first + 1, "a": first + 2}


def test_writers_at_the_same_time_get_numbers_of_their_own(journal: ItemJournal) -> None:
    numbers: list[int] = []

    def write(place: int) -> None:
        numbers.extend(journal.put([{"item_id": f"{place}-{number}"}]) for number in range(10))

    threads = [threading.Thread(target=write, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(min(numbers), min(numbers) + 30))
    assert len(journal.since(0).items) == 30


@pytest.mark.parametrize("restart", range(6))
def test_a_reader_sees_what_a_server_that_came_back_empty_got_since_however_much_it_is(
    redis_url: str, restart: int
) -> None:
    journal = RedisJournal(redis_url, prefix=f"emptied-{restart}")
    reached = journal.since(journal.put([{"item_id": f"old-{n}"} for n in range(3)])).version
    journal._redis.flushall()
    journal.put([{"item_id": f"new-{n}"} for n in range(2 + restart)])  # with fewer, as many and more changes
    changes = journal.since(reached)
    assert [change.item_id for change in changes.items] == [f"new-{n}" for n in range(2 + restart)]
    assert journal.since(changes.version).items == ()
    journal.close()


def test_a_redis_that_is_gone_is_unavailable() -> None:
    journal = open_journal("redis://127.0.0.1:1/0")
    with pytest.raises(UnavailableError, match="Redis cannot be used now"):
        journal.put([{"item_id": "a"}])


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


STEPS: tuple[list[dict[str, Any]], ...] = (
    [{"item_id": "new-1", "title": "Zyx Lamp", "brand": "acme", "category": ["home", "lamp"], "price": 3.0}],
    [{"item_id": "sku-011", "price": 999.0}, {"item_id": "new-2", "title": "Qux tent"}],
    [{"item_id": "new-1", "title": "Renamed kettle"}, {"item_id": "sku-012", "available": False}],
)


def test_changes_applied_bit_by_bit_or_at_once_give_the_same_recommender(recommender: Recommender) -> None:
    journal, reached, stepwise = SqliteJournal(), 0, recommender
    for rows in STEPS:
        journal.put(rows)
        changes = journal.since(reached)
        stepwise, reached = stepwise.with_changes(changes.items), changes.version
    journal.retire("new-2")
    stepwise = stepwise.with_changes(journal.since(reached).items)
    at_once = recommender.with_changes(journal.since(0).items)
    assert stepwise.catalogue.idx_of == at_once.catalogue.idx_of
    assert stepwise.catalogue.retired == at_once.catalogue.retired
    for name in ("item_vectors", "item_text"):
        ours, theirs = (getattr(one.ranking_features, name) for one in (stepwise, at_once))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    requests = [Request(query="lamp"), Request(query="kettle"), Request(events=(Event("click", "new-1"),))]
    for one, other in zip(stepwise.recommend(requests), at_once.recommend(requests), strict=True):
        assert [item.item_id for item in one.items] == [item.item_id for item in other.items]


def found(recommender: Recommender, query: str, top_k: int = 64) -> list[str]:
    (slate,) = recommender.recommend([Request(query=query, top_k=top_k)])
    return [item.item_id for item in slate.items]


def best_by_name(recommender: Recommender, query: str) -> str:
    (candidates,) = recommender.retrieve([Request(query=query)])
    ranks = candidates.ranks[:, recommender.retriever.names.index("lexical")]
    return str(recommender.catalogue.item_ids[candidates.item_idx[ranks == 1][0]])


def test_a_renamed_new_product_is_found_by_its_new_name_only(recommender: Recommender) -> None:
    named = recommender.with_changes([ItemChange("new", {"title": "Zyx lamp"}, first_seq=1)])
    renamed = named.with_changes([ItemChange("new", {"title": "Qux kettle"}, first_seq=1)])
    place = named.catalogue.idx_of["new"]
    assert renamed.catalogue.idx_of["new"] == place
    assert not np.allclose(named.ranking_features.item_vectors[place], renamed.ranking_features.item_vectors[place])
    assert best_by_name(named, "zyx lamp") == "new"
    assert best_by_name(renamed, "qux kettle") == "new"
    assert best_by_name(renamed, "zyx lamp") != "new"


def test_a_change_of_one_field_keeps_what_the_bundle_knows(recommender: Recommender) -> None:
    before = recommender.catalogue.row("sku-011")
    changed = recommender.with_changes([ItemChange("sku-011", {"price": 1.5}, first_seq=1)])
    assert changed.catalogue.row("sku-011") == {**before, "price": 1.5}
    assert "sku-011" in found(changed, "lamp")


def test_an_unavailable_product_is_out_until_it_is_back(recommender: Recommender) -> None:
    gone = recommender.with_changes([ItemChange("sku-011", {"available": False}, first_seq=1)])
    assert "sku-011" not in found(gone, "lamp")
    back = gone.with_changes([ItemChange("sku-011", {"available": True}, first_seq=1)])
    assert "sku-011" in found(back, "lamp")


def test_a_product_of_which_nothing_is_said_is_known_and_harmless(recommender: Recommender) -> None:
    changed = recommender.with_changes([ItemChange("bare", {}, first_seq=1)])
    assert "bare" in changed.catalogue.idx_of
    assert np.isfinite(changed.ranking_features.item_vectors[changed.catalogue.idx_of["bare"]]).all()
    assert found(changed, "lamp")
    assert changed.recommend([Request(events=(Event("click", "bare"),))])[0].items


def test_a_retired_product_unknown_to_the_bundle_changes_nothing(recommender: Recommender) -> None:
    changed = recommender.with_changes([ItemChange("nothing", {}, True, 0)])
    assert len(changed.catalogue) == len(recommender.catalogue)


def test_the_first_request_after_a_change_finds_everything_built(recommender: Recommender) -> None:
    changed = recommender.with_changes([ItemChange("new", {"title": "Zyx lamp"}, first_seq=1)])
    parts = (changed.catalogue, changed.catalogue.filters, changed.ranking_features, changed.ranking_features.activity)
    before = [set(vars(part)) for part in parts]
    changed.recommend([Request(user_id="u1", query="zyx lamp"), Request(events=(Event("click", "new"),))])
    assert [set(vars(part)) - known for part, known in zip(parts, before, strict=True)] == [set()] * len(parts)


def test_titles_are_cut_into_words_once_whatever_changes(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(recommender, "lamp")
    cut: list[str] = []

    def cut_and_normalise(text: str) -> str:
        cut.append(text)
        return normalise(text)

    monkeypatch.setattr(catalogue, "normalise", cut_and_normalise)
    changed = recommender.with_changes([ItemChange("new", {"title": "Zyx lamp number two"}, first_seq=1)])
    cut.clear()
    found(changed, "lamp")
    assert set(cut) == {"Zyx lamp number two"}
