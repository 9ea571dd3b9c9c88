"""MCP endpoint: tools for agents over a real listener, called by the official SDK's client."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi.testclient import TestClient
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from serve.http.api_keys import Keys
from serve.ingress import Components, create_app
from serve.local_service import LocalService
from serve.types import Model
from tests.serve.fake import open_fake
from tests.serve.http.test_api_keys import key_file
from tests.services import free_port
from txrec.config import ServeConfig
from txrec.online.sqlite_history import SqliteHistory
from txrec.recommender.recommender import Recommender

pytestmark = pytest.mark.server

AGENT = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
Talk = Callable[[Client], Awaitable[None]]


def talk_to(app: Any, *talks: Talk, key: str = "") -> None:
    """Runs an application on a port and lets agents, one after another, talk to its MCP endpoint."""

    async def run() -> None:
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="error", ws="none"))
        serving = asyncio.create_task(server.serve())
        try:
            while not server.started:
                await asyncio.sleep(0.01)
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
                for talk in talks:
                    async with Client(
                        streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)
                    ) as agent:
                        await talk(agent)
        finally:
            server.should_exit = True
            await serving

    asyncio.run(run())


@pytest.fixture(scope="module")
def agent_of_fake() -> Iterator[TestClient]:
    with TestClient(create_app(LocalService(*open_fake())), base_url="http://127.0.0.1:8000") as client:
        yield client


def test_an_agent_searches_looks_a_product_up_and_finds_others(tiny_bundle: Path, tmp_path: Path) -> None:
    store = SqliteHistory(tmp_path / "state.sqlite")
    service = LocalService(Recommender.open(tiny_bundle), Model("v1"))

    async def talk(agent: Client) -> None:
        tools = {tool.name: tool for tool in (await agent.list_tools()).tools}
        assert set(tools) == {"search_products", "recommend_products", "similar_products", "get_product"}
        assert "context" not in tools["search_products"].input_schema["properties"]
        searched = await agent.call_tool("search_products", {"query": "lamp", "top_k": 3, "where": "brand = acme"})
        assert searched.structured_content is not None
        items = searched.structured_content["items"]
        assert len(items) == 3
        assert items[0]["reasons"]
        item_id = items[0]["item_id"]
        product = await agent.call_tool("get_product", {"item_id": item_id})
        assert product.structured_content["brand"] == "acme"
        similar = await agent.call_tool("similar_products", {"item_id": item_id, "top_k": 4})
        assert item_id not in {one["item_id"] for one in similar.structured_content["items"]}
        cart = {"seen": [item_id], "cart": [items[1]["item_id"]], "top_k": 50}
        recommended = await agent.call_tool("recommend_products", cart)
        ids = [one["item_id"] for one in recommended.structured_content["items"]]
        assert ids
        assert items[1]["item_id"] not in ids

    app = create_app(service, components=Components(store=store))
    talk_to(app, talk)
    shown = store.impressions().to_pylist()
    assert [row["query"] for row in shown] == ["lamp", None, None], "agents' slates are logged as all others"


def test_an_agent_is_told_why_a_call_was_refused() -> None:
    async def talk(agent: Client) -> None:
        unknown = await agent.call_tool("get_product", {"item_id": "nothing"})
        assert unknown.is_error
        assert "'nothing' is not in the catalogue" in unknown.content[0].text
        too_many = await agent.call_tool("search_products", {"query": "lamp", "top_k": 51})
        assert too_many.is_error
        assert "less than or equal to 50" in too_many.content[0].text

    talk_to(create_app(LocalService(*open_fake())), talk)


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        (
            "search_products",
            {"query": "lamp", "filter": "brand = acme"},
            "filter: is no field here; expected one of query",
        ),
        ("search_products", {"query": "lamp", "user": "u1"}, "user: is no field here; did you mean 'user_id'?"),
        ("search_products", {}, "query: field required"),
        ("search_products", {"query": "lamp", "where": "brand ="}, "where: ends early; expected a value"),
        ("recommend_products", {"seen": "p1"}, "seen: should be a list"),
        ("recommend_products", {"cart": [""]}, "cart.0: string should have at least 1 character"),
        ("similar_products", {"item_id": "nothing"}, "item_id: 'nothing' is not in the catalogue"),
        ("get_product", {"item_id": "p1", "fields": ["price"]}, "fields: is no field here; expected one of item_id"),
    ],
)
def test_a_refused_call_names_the_argument_of_the_tool_in_one_line(
    agent_of_fake: TestClient, tool: str, arguments: dict[str, object], message: str
) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    result = agent_of_fake.post("/mcp", json=call, headers=AGENT).json()["result"]
    assert result["isError"]
    assert message in result["content"][0]["text"]
    assert "\n" not in result["content"][0]["text"]
    assert "pydantic" not in result["content"][0]["text"]


def test_schemas_of_tools_are_closed_and_describe_every_argument(agent_of_fake: TestClient) -> None:
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    tools = agent_of_fake.post("/mcp", json=listing, headers=AGENT).json()["result"]["tools"]
    assert len(tools) == 4
    for tool in tools:
        assert tool["description"]
        assert tool["inputSchema"]["additionalProperties"] is False
        assert all("description" in one for one in tool["inputSchema"]["properties"].values()), tool["name"]


def test_a_call_that_is_no_mcp_is_a_4xx(agent_of_fake: TestClient) -> None:
    for content in ("", "{", "[]", '"text"', '{"id": 1}'):
        reply = agent_of_fake.post("/mcp", content=content, headers={**AGENT, "content-type": "application/json"})
        assert reply.status_code in (400, 202), (content, reply.text)
    without_accept = agent_of_fake.post("/mcp", json={}, headers={"accept": "text/html"})
    assert without_accept.status_code in (400, 406)


def test_an_agent_needs_a_known_key_where_keys_are_known(tmp_path: Path) -> None:
    def app() -> Any:
        return create_app(LocalService(*open_fake()), components=Components(keys=Keys.read(key_file(tmp_path))))

    async def search(agent: Client) -> None:
        reply = await agent.call_tool("search_products", {"query": "lamp"})
        assert [item["item_id"] for item in reply.structured_content["items"]] == ["p9", "p6", "p3"]

    talk_to(app(), search, key="read-key")
    for key in ("", "wrong"):
        with pytest.raises((MCPError, httpx2.HTTPError, ExceptionGroup)):
            talk_to(app(), search, key=key)
    with TestClient(app()) as client:
        refused = client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"


def test_agents_are_answered_by_any_replica_one_request_after_another(tmp_path: Path) -> None:
    """No session is kept: a tool call goes to a replica that has never seen the agent."""
    calls = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    body = {**calls, "params": {"name": "search_products", "arguments": {"query": "lamp", "top_k": 1}}}
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    for _ in range(2):
        app = create_app(LocalService(*open_fake()))
        with TestClient(app, base_url="http://127.0.0.1:8000") as client:
            reply = client.post("/mcp", json=body, headers=headers).json()
            assert reply["result"]["structuredContent"]["items"][0]["item_id"] == "p9"
            assert 'route="/mcp"' in client.get("/metrics").text


def test_a_request_that_would_keep_a_stream_open_for_nothing_is_refused() -> None:
    with TestClient(create_app(LocalService(*open_fake())), base_url="http://127.0.0.1:8000") as client:
        for method in ("GET", "DELETE"):
            assert client.request(method, "/mcp", headers={"accept": "text/event-stream"}).status_code == 405


def test_a_page_under_another_name_cannot_call_the_tools_of_a_local_server() -> None:
    with TestClient(create_app(LocalService(*open_fake())), base_url="http://evil.example") as client:
        assert client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).status_code == 421


def test_the_endpoint_can_be_turned_off() -> None:
    with TestClient(create_app(LocalService(*open_fake()), ServeConfig(mcp=False))) as client:
        assert client.post("/mcp", json={}).status_code == 404
