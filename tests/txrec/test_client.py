"""The client: what it sends, when it tries again, and how it reports a refusal."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from txrec.client import ApiError, AsyncClient, Client, Retry

FAST = Retry(first_wait_s=0.0, max_wait_s=0.0)
ERROR = {"error": {"field": "top_k", "message": "too large"}, "request_id": "r1"}


def answering(*replies: httpx.Response | Exception) -> tuple[list[httpx.Request], Callable[..., httpx.Response]]:
    sent: list[httpx.Request] = []
    left = list(replies)

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        reply = left.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)  # a stream is read once

    return sent, handler


def call_both(method: str, *args: Any, replies: tuple[httpx.Response | Exception, ...], **fields: Any) -> list[Any]:
    """The same call through both clients; (requests sent, result or error) of each."""
    outcomes = []
    sent, handler = answering(*replies)
    with Client(retry=FAST, transport=httpx.MockTransport(handler)) as client:
        outcomes.append((sent, _caught(lambda: getattr(client, method)(*args, **fields))))
    sent, handler = answering(*replies)

    async def through_async() -> Any:
        async with AsyncClient(retry=FAST, transport=httpx.MockTransport(handler)) as client:
            return await getattr(client, method)(*args, **fields)

    outcomes.append((sent, _caught(lambda: asyncio.run(through_async()))))
    return outcomes


def _caught(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ApiError as error:
        return error


def ok() -> httpx.Response:
    return httpx.Response(200, json={"items": []})


def test_a_call_is_one_post_with_the_fields_as_json() -> None:
    for sent, result in call_both("search", "lamp", top_k=3, replies=(ok(),)):
        assert result == {"items": []}
        assert sent[0].url.path == "/v1/search"
        assert json.loads(sent[0].content) == {"query": "lamp", "top_k": 3}


def test_ids_are_escaped_in_paths() -> None:
    for sent, _ in call_both("user", "a/b ?", replies=(ok(),)):
        assert sent[0].url.raw_path == b"/v1/users/a%2Fb%20%3F"


@pytest.mark.parametrize("trouble", [httpx.Response(503), httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])
def test_overload_and_lost_connections_are_tried_again(trouble: httpx.Response | Exception) -> None:
    for sent, result in call_both("recommend", replies=(trouble, trouble, ok())):
        assert len(sent) == 3
        assert result == {"items": []}


def test_it_gives_up_after_the_last_attempt() -> None:
    for sent, result in call_both("recommend", replies=(httpx.ConnectError("refused"),) * 4):
        assert len(sent) == 4
        assert isinstance(result, ApiError)
        assert result.status == 0


def test_a_refusal_is_not_tried_again_and_names_the_field() -> None:
    for sent, result in call_both("recommend", top_k=0, replies=(httpx.Response(422, json=ERROR),)):
        assert len(sent) == 1
        assert isinstance(result, ApiError)
        assert (result.status, result.field, result.request_id) == (422, "top_k", "r1")
        assert str(result) == "top_k: too large"


def test_an_answer_in_another_shape_is_still_an_error() -> None:
    for _, result in call_both("models", replies=(httpx.Response(500, text="oops"),) * 4):
        assert isinstance(result, ApiError)
        assert "oops" in str(result)


def test_waits_grow_are_random_and_follow_the_server() -> None:
    retry = Retry(attempts=9, first_wait_s=0.1, max_wait_s=1.0)
    lost = httpx.ConnectError("refused")
    assert [retry.wait_s(n, lost, 1.0) for n in (1, 2, 3, 6)] == [0.1, 0.2, 0.4, 1.0]
    assert retry.wait_s(3, lost, 0.5) == 0.2
    assert retry.wait_s(9, lost, 0.5) is None
    assert retry.wait_s(1, httpx.Response(503, headers={"retry-after": "1"}), 0.5) == 1.05
    assert retry.wait_s(1, httpx.Response(404), 0.5) is None


@pytest.mark.parametrize(
    ("method", "arguments", "sent_as", "body"),
    [
        ("put_items", ({"item_id": "a"}, {"item_id": "b"}), "PUT /v1/items", [{"item_id": "a"}, {"item_id": "b"}]),
        ("retire", ("a/b",), "DELETE /v1/items/a%2Fb", None),
        ("item", ("a/b",), "GET /v1/items/a%2Fb", None),
        ("activate", ("v2",), "POST /v1/models/v2:activate", {"role": "production"}),
        ("activate", ("v2", "canary", 0.1), "POST /v1/models/v2:activate", {"role": "canary", "share": 0.1}),
        ("deactivate", ("v2",), "POST /v1/models/v2:deactivate", None),
        ("rollback", (), "POST /v1/models:rollback", None),
    ],
)
def test_products_and_models_are_changed_by_one_call(
    method: str, arguments: tuple[Any, ...], sent_as: str, body: Any
) -> None:
    for sent, result in call_both(method, *arguments, replies=(ok(),)):
        assert result == {"items": []}
        (request,) = sent
        assert f"{request.method} {request.url.raw_path.decode()}" == sent_as
        assert (json.loads(request.content) if request.content else None) == body


def test_a_rollback_is_tried_once_because_twice_goes_back_two_steps() -> None:
    for sent, result in call_both("rollback", replies=(httpx.ReadTimeout("slow"), ok())):
        assert len(sent) == 1
        assert isinstance(result, ApiError)


def test_calls_that_change_models_wait_for_the_replicas() -> None:
    for sent, _ in call_both("activate", "v2", replies=(ok(),)):
        assert sent[0].extensions["timeout"]["read"] >= 60
    for sent, _ in call_both("recommend", replies=(ok(),)):
        assert sent[0].extensions["timeout"]["read"] == 10


def test_a_proxy_that_lost_its_replica_is_asked_again_but_a_defect_is_not() -> None:
    for sent, result in call_both("recommend", replies=(httpx.Response(500, text="Internal Server Error"), ok())):
        assert len(sent) == 2
        assert result == {"items": []}
    for sent, result in call_both("recommend", replies=(httpx.Response(500, json=ERROR), ok())):
        assert len(sent) == 1
        assert isinstance(result, ApiError)
