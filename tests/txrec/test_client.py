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
    for _, result in call_both("models", replies=(httpx.Response(500, text="oops"),)):
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
