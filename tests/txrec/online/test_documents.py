"""The contract of the document store, over SQLite, Redis and a Redis Cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.documents.live_documents import LiveDocuments
from tests import services
from txrec.errors import UnavailableError
from txrec.online.documents import DocumentStore
from txrec.online.redis_documents import RedisDocuments
from txrec.online.sqlite_documents import SqliteDocuments
from txrec.online.stores import open_documents


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with services.redis(cluster=True) as url:
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def stores(tmp_path: Path, request: pytest.FixtureRequest) -> list[DocumentStore]:
    """Two openers of the same documents, as two replicas have them."""
    if request.param == "redis":
        url, prefix = request.getfixturevalue("redis_url"), request.node.name.partition("[")[0]
        return [RedisDocuments(url, "rules", prefix) for _ in range(2)]
    return [SqliteDocuments(tmp_path / "state.sqlite", "rules") for _ in range(2)]


def test_what_one_replica_puts_every_replica_reads_with_a_new_version(stores: list[DocumentStore]) -> None:
    one, other = stores
    assert one.all().version == one.version() == 0
    first = one.put({"a": {"n": 1}, "b": {"n": 2}})
    assert first
    assert other.all().by_name == {"a": {"n": 1}, "b": {"n": 2}}
    assert (other.get("b"), other.get("c")) == ({"n": 2}, None)
    assert other.put({"a": {"n": 3}}) == first + 1
    assert one.all().by_name["a"] == {"n": 3}
    assert one.version() == first + 1


def test_a_deleted_document_is_gone_and_the_version_moves_only_if_there_was_one(stores: list[DocumentStore]) -> None:
    one, other = stores
    first = one.put({"a": {}})
    assert first
    assert other.delete("a")
    assert not other.delete("a")
    assert one.all().by_name == {}
    assert one.version() == first + 1


def test_nothing_is_written_where_the_version_is_not_the_expected_one(stores: list[DocumentStore]) -> None:
    one, other = stores
    first = one.put({"a": {"n": 1}})
    assert first
    assert other.put({"a": {"n": 9}}, expected_version=0) is None
    assert one.all().by_name == {"a": {"n": 1}}
    assert other.put({"a": {"n": 9}}, expected_version=first) == first + 1


def test_a_server_that_came_back_empty_has_another_version_after_as_many_changes(redis_url: str) -> None:
    store = RedisDocuments(redis_url, "rules", "emptied")
    live = LiveDocuments(store, lambda documents: dict(documents.by_name))
    store.put({"a": {"n": 1}})
    live.refresh()
    assert live.current == {"a": {"n": 1}}
    store._redis.delete(store._documents, store._counter)
    store.put({"b": {"n": 2}})
    live.refresh()
    assert live.current == {"b": {"n": 2}}
    store.close()


def test_kinds_do_not_mix(tmp_path: Path) -> None:
    rules, places = (open_documents(str(tmp_path / "state.sqlite"), kind) for kind in ("rules", "places"))
    rules.put({"a": {}})
    assert places.version() == 0
    assert places.all().by_name == {}


def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    store = SqliteDocuments(tmp_path / "state.sqlite")
    store.close()
    with pytest.raises(UnavailableError):
        store.version()
