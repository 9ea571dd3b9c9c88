"""Store factories: which store a state names, and where the credentials of Redis come from."""

from pathlib import Path

import pytest
import redis
from pydantic import ValidationError

from txrec.config import ServeConfig
from txrec.online.sqlite_history import SqliteHistory
from txrec.online.stores import PASSWORD_VARIABLE, USER_VARIABLE, open_history, with_credentials


def test_a_path_is_a_sqlite_file(tmp_path: Path) -> None:
    store = open_history(str(tmp_path / "state" / "history.sqlite"))
    assert isinstance(store, SqliteHistory)
    store.close()


def test_a_redis_url_gets_user_and_password_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "p@ss/word")
    monkeypatch.setenv(USER_VARIABLE, "shop")
    client = redis.Redis.from_url(with_credentials("redis://cache:6380/2"))
    arguments = client.connection_pool.connection_kwargs
    expected = {"username": "shop", "password": "p@ss/word", "host": "cache", "port": 6380, "db": 2}
    assert {name: arguments.get(name) for name in expected} == expected


def test_a_password_alone_is_that_of_the_default_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    arguments = redis.Redis.from_url(with_credentials("rediss://cache:6379/0")).connection_pool.connection_kwargs
    assert (arguments.get("username"), arguments["password"]) == (None, "secret")


def test_a_url_without_secrets_in_the_environment_or_with_its_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    assert with_credentials("redis://cache:6379/0") == "redis://cache:6379/0"
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    assert with_credentials("redis://:own@cache:6379/0") == "redis://:own@cache:6379/0"


@pytest.mark.parametrize(
    "state", ["redis:cache", "Redis://cache:abc", "http://cache:6379", "redis://cache/zero", "redis:///0"]
)
def test_a_state_that_is_no_file_and_no_redis_is_refused_instead_of_becoming_a_file(state: str) -> None:
    with pytest.raises(ValidationError, match="expected a file, or redis://host:port/db"):
        ServeConfig(state=state)


def test_a_password_in_a_wrong_url_is_not_shown() -> None:
    with pytest.raises(ValidationError, match=r"\*\*\*@cache") as caught:
        ServeConfig(state="redis://:secret@cache/zero")
    assert "secret" not in str(caught.value.errors()[0]["msg"])


def test_files_and_urls_of_redis_are_states() -> None:
    for state in (
        "",
        "state/history.sqlite",
        "a: b.sqlite",
        "redis://cache:6379/2",
        "rediss://user:x@cache",
        "redis://[::1]:6379",
    ):
        assert ServeConfig(state=state).state == state
