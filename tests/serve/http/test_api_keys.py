"""API keys: who may do what, and what a bad key file says."""

import hashlib
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve.http.api_keys import Keys
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from tests.serve.fake import open_fake
from txrec.errors import ConfigError

EVENT = {"user_id": "u1", "event": "click", "item_id": "p1"}


def key_lines() -> list[str]:
    """The keys `read-key`, `events-key` and `admin-key`."""
    return [f"{role}:{hashlib.sha256(f'{role}-key'.encode()).hexdigest()}" for role in ("read", "events", "admin")]


def key_file(folder: Path) -> str:
    file = folder / "keys"
    file.write_text("\n".join(["# our keys", *key_lines(), ""]), encoding="utf-8")
    return str(file)


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    return TestClient(create_app(LocalService(*open_fake()), components=Components(keys=Keys.read(key_file(tmp_path)))))


def status(client: TestClient, method: str, path: str, key: str, body: object = None) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return client.request(method, path, json=body, headers=headers).status_code


@pytest.mark.parametrize(
    ("key", "recommend", "events", "forget"),
    [
        ("", 401, 401, 401),
        ("wrong", 401, 401, 401),
        ("read-key", 200, 403, 403),
        ("events-key", 200, 202, 403),
        ("admin-key", 200, 202, 200),
    ],
)
def test_a_role_includes_the_ones_below(client: TestClient, key: str, recommend: int, events: int, forget: int) -> None:
    assert status(client, "POST", "/v1/recommend", key, {}) == recommend
    assert status(client, "POST", "/v1/events", key, EVENT) == events
    assert status(client, "DELETE", "/v1/users/u1", key) == forget


def test_health_needs_no_key_but_everything_about_the_shop_does(client: TestClient) -> None:
    assert status(client, "GET", "/health/live", "") == 200
    assert status(client, "GET", "/health/ready", "") == 200
    for path in ("/v1/models", "/v1/users/u1", "/metrics"):
        assert status(client, "GET", path, "") == 401


def test_a_refusal_has_the_shape_of_every_error(client: TestClient) -> None:
    reply = client.post("/v1/recommend", json={})
    assert reply.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer" in reply.json()["error"]["message"]


def test_without_a_known_key_none_is_needed() -> None:
    anybody = Keys.read("").find("")
    assert anybody is not None
    assert anybody.may("admin")


def test_keys_of_the_environment_are_known_beside_those_of_the_file(tmp_path: Path) -> None:
    keys = Keys.read(key_file(tmp_path), f"admin:{hashlib.sha256(b'deploy').hexdigest().upper()}:deploy-job, ")
    found = keys.find("deploy")
    assert found is not None
    assert (found.role, found.name) == ("admin", "deploy-job")
    known = keys.find("read-key")
    assert known is not None
    assert known.name == "read"
    assert keys.find("") is None


def test_a_key_that_is_listed_twice_has_the_wider_role() -> None:
    digest = hashlib.sha256(b"k").hexdigest()
    found = Keys.read("", f"admin:{digest},read:{digest}").find("k")
    assert found is not None
    assert found.role == "admin"


def test_a_bad_environment_variable_is_named_without_its_content() -> None:
    with pytest.raises(ConfigError, match="TXREC_API_KEYS, entry 2") as caught:
        Keys.read("", f"{key_lines()[0]},admin:secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="holds no key"):
        Keys.read("", " , ")


@pytest.mark.parametrize(
    "line", ["root:" + "0" * 64, "read:short", "secret-key", "read:" + "z" * 64, "read:" + "0" * 64 + ":"]
)
def test_a_bad_line_is_named_without_its_content(tmp_path: Path, line: str) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# comment\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2") as caught:
        Keys.read(str(file))
    assert line not in str(caught.value)


def test_a_missing_or_empty_file_never_means_open_doors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keys_file"):
        Keys.read(str(tmp_path / "nothing"))
    (tmp_path / "keys").write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds no key"):
        Keys.read(str(tmp_path / "keys"))
