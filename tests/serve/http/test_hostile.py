"""Clients that are slow, broken or malicious, on raw sockets: never a 5xx, and nobody else waits for them."""

import json
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import pytest
import uvicorn

from serve.ingress import create_app
from serve.local_service import LocalService
from tests.serve.fake import open_fake
from txrec.config import ServeConfig

Address = tuple[str, int]
MIB = 1 << 20
JSON = b"Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def plain_server() -> Iterator[str]:
    app = create_app(LocalService(*open_fake()), ServeConfig(body_timeout_s=2.0))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module", params=["plain_server", pytest.param("fake_server", marks=pytest.mark.ray)])
def address(request: pytest.FixtureRequest) -> Address:
    """The bare application, and the deployed one behind Ray Serve's proxy."""
    url = urlsplit(request.getfixturevalue(request.param))
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


def head(headers: bytes, path: bytes = b"/v1/search", method: bytes = b"POST") -> bytes:
    return b"%s %s HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n%s\r\n" % (method, path, headers)


def post(body: bytes, headers: bytes = JSON, path: bytes = b"/v1/search") -> bytes:
    return head(b"%sContent-Length: %d\r\n" % (headers, len(body)), path) + body


def exchange(address: Address, pieces: Iterable[bytes], half_close: bool = False) -> bytes:
    """Sends pieces until the server has had enough, and returns what it says until it closes the connection."""
    with socket.create_connection(address, timeout=20) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        try:
            while piece := connection.recv(65_536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def status(answer: bytes) -> int:
    """0 = no answer at all."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


LAMPS = ["p9", "p6", "p3"]


def item_ids(answer: bytes) -> list[str]:
    """Of the slate in a complete answer."""
    assert status(answer) == 200
    body = json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])
    return [item["item_id"] for item in body["items"]]


def still_answers(address: Address) -> bool:
    return item_ids(exchange(address, [post(b'{"query": "lamp"}')])) == LAMPS


BAD = {
    "no JSON": (post(b"{"), 400),
    "deeply nested and unfinished": (post(b"[" * 100_000), 400),
    "deeply nested": (post(b"[" * 100_000 + b"]" * 100_000), 400),
    "nested as deep as a parser goes": (post(b'{"filters":' * 400 + b"1" + b"}" * 400), 422),
    "deep attributes": (post(b'{"query":"a","filters":{"attributes":' + b'{"a":' * 300 + b"1" + b"}" * 302), 422),
    "a number without end": (post(b'{"query": "a", "top_k": ' + b"9" * 10_000 + b"}"), 400),
    "a number too large": (post(b'{"query": "a", "top_k": 1e999}'), 422),
    "text": (post(b"query=lamp", b"Content-Type: text/plain\r\n"), 422),
    "a form": (post(b"query=lamp", b"Content-Type: application/x-www-form-urlencoded\r\n"), 422),
    "a multipart form": (post(b"--x--", b"Content-Type: multipart/form-data; boundary=x\r\n"), 422),
    "no content type": (post(b'{"query": "lamp"}', b""), 422),
    "compressed": (post(b"\x1f\x8b\x08\x00\x00", JSON + b"Content-Encoding: gzip\r\n"), 400),
    "another charset": (post('{"query": "lämp"}'.encode("latin-1"), JSON), 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "a length that is no number": (head(JSON + b"Content-Length: many\r\n"), 400),
    "a negative length": (head(JSON + b"Content-Length: -5\r\n"), 400),
    "an unknown method": (head(b"", method=b"BREW"), 400),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_an_error_of_the_client(address: Address, name: str) -> None:
    sent, expected = BAD[name]
    assert status(exchange(address, [sent])) == expected


def test_fifty_megabytes_are_refused_whether_declared_or_not(address: Address) -> None:
    declared = head(JSON + b"Content-Length: %d\r\n" % (50 * MIB))
    assert status(exchange(address, [declared, *[b"x" * MIB] * 50])) == 413
    chunk = b"%x\r\n%s\r\n" % (MIB // 4, b"x" * (MIB // 4))
    chunked = head(JSON + b"Transfer-Encoding: chunked\r\n")
    assert status(exchange(address, [chunked, *[chunk] * 200, b"0\r\n\r\n"])) == 413
    assert still_answers(address)


def test_a_body_that_does_not_come_is_not_waited_for(address: Address) -> None:
    answer = exchange(address, [head(JSON + b"Content-Length: 17\r\n"), b'{"query"'])
    assert status(answer) == 408
    assert b'"field":"body"' in answer.replace(b" ", b"")


def test_a_client_that_closes_its_half_gets_its_whole_answer_or_nothing(address: Address) -> None:
    """Which of the two depends on whether the answer or the end of the stream is there first."""
    answer = exchange(address, [post(b'{"query": "lamp"}')], half_close=True)
    assert answer == b"" or item_ids(answer) == LAMPS
    assert still_answers(address)


@pytest.mark.parametrize("sent", [head(JSON + b"Content-Length: 17\r\n") + b'{"que', b"POST /v1/sea"])
def test_half_a_request_whose_rest_cannot_come_is_closed_without_an_answer(address: Address, sent: bytes) -> None:
    assert exchange(address, [sent], half_close=True) == b""
    assert still_answers(address)


def test_a_client_that_vanishes_harms_nobody(address: Address) -> None:
    for sent in (post(b'{"query": "lamp"}'), post(b'{"query": "lamp"}')[:-5], b"POST"):
        connection = socket.create_connection(address, timeout=20)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no farewell
        connection.sendall(sent)
        connection.close()
    assert still_answers(address)


def test_clients_that_dawdle_keep_nobody_else_waiting(address: Address) -> None:
    slow = [socket.create_connection(address, timeout=20) for _ in range(50)]
    try:
        for connection in slow:
            connection.sendall(post(b'{"query": "lamp"}')[:60])
        assert still_answers(address)
    finally:
        for connection in slow:
            connection.close()


def test_none_of_this_was_an_error_of_the_server(address: Address) -> None:
    figures = exchange(address, [head(b"", b"/metrics", b"GET")])
    assert b'status="413"' in figures
    assert b'status="5' not in figures
