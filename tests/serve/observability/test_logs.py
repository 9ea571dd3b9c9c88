"""The server's log: one JSON object a line, with the request's id and without anything secret."""

import contextvars
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve.http.api_keys import Keys
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.observability import logs
from serve.types import ServingRequest
from tests.serve.fake import open_fake
from tests.serve.http.test_api_keys import key_lines


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonLines())
    logs.log.addHandler(handler)
    logs.log.setLevel(logging.INFO)
    yield stream
    logs.log.removeHandler(handler)
    logs.log.setLevel(logging.NOTSET)


def read(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_every_request_leaves_a_line_that_says_who_asked_for_what_and_how_it_went(lines: io.StringIO) -> None:
    keys = Components(keys=Keys.read("", key_lines()[2] + ":shop"))
    client = TestClient(create_app(LocalService(*open_fake()), components=keys))
    reply = client.post(
        "/v1/search", json={"query": "hush lamp", "user_id": "jane"}, headers={"Authorization": "Bearer admin-key"}
    )
    client.get("/v1/users/jane", headers={"Authorization": "Bearer stolen"})
    first, second = read(lines)
    assert first["request_id"] == reply.headers["x-request-id"]
    assert (first["method"], first["route"], first["status"]) == ("POST", "/v1/search", 200)
    assert first["key"] == "shop"
    assert first["level"] == "info"
    assert first["ms"] > 0
    assert first["time"].endswith("+00:00")
    assert (second["route"], second["status"], second["key"]) == ("/v1/users/{user_id}", 401, None)
    for secret in ("admin-key", "stolen", "hush", "jane", key_lines()[2].split(":")[1]):
        assert secret not in lines.getvalue()


class Defective(LocalService):
    async def recommend(self, request: ServingRequest) -> Any:
        raise ZeroDivisionError("inner detail")


def test_a_defect_leaves_its_traceback_under_the_id_that_the_answer_names(lines: io.StringIO) -> None:
    client = TestClient(create_app(Defective(*open_fake())), raise_server_exceptions=False)
    reply = client.post("/v1/recommend", json={})
    defect, answered = read(lines)
    assert defect["request_id"] == answered["request_id"] == reply.json()["request_id"]
    assert defect["level"] == "error"
    assert "ZeroDivisionError: inner detail" in defect["traceback"]
    assert answered["status"] == 500


def test_lines_that_belong_to_no_request_say_so(lines: io.StringIO) -> None:
    logs.log.warning("started %s", "twice", extra={"port": 8000})
    (line,) = read(lines)
    assert (line["message"], line["request_id"], line["port"]) == ("started twice", None, 8000)


def test_a_line_of_a_batch_has_the_ids_of_all_its_requests(lines: io.StringIO) -> None:
    def say() -> None:
        for ids in (("one",), ("one", "two"), ()):
            logs.bind_request_ids(ids)
            logs.log.warning("ranked")

    contextvars.copy_context().run(say)
    one, both, none = read(lines)
    assert (one["request_id"], both["request_ids"], none["request_id"]) == ("one", ["one", "two"], None)


STARTED_TWICE = """
import logging, sys, warnings
from serve.observability import logs
logs.start("ranker")
logs.start("ranker")
sys.stderr = None  # as lost as in a replica in Ray Serve's throughput mode
logs.log.info("own")
logging.getLogger("ray.serve").error("of Ray Serve")
logging.getLogger("uvicorn.error").error("of the HTTP server")
logging.getLogger("asyncio").error("of a task")
logging.getLogger("some.library").info("too much")
warnings.warn("a warning")
"""


def test_lines_of_libraries_are_json_too_and_every_line_comes_once() -> None:
    done = subprocess.run(  # in a process of its own: it is the whole process's log that is started
        [sys.executable, "-c", STARTED_TWICE], capture_output=True, text=True, timeout=60, check=True
    )
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [one["message"].split("\n")[0].split(": ")[-1] for one in found] == [
        "own", "of Ray Serve", "of the HTTP server", "of a task", "a warning"
    ]  # fmt: skip
    assert {one["deployment"] for one in found} == {"ranker"}
