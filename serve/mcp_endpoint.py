"""MCP endpoint at `/mcp`: search, recommendations, similar products and product lookup as tools for agents.

Model Context Protocol (https://modelcontextprotocol.io), streamable HTTP without sessions, so that every replica can
answer every request. A tool calls the HTTP API of the same process with the caller's own key and address: keys, limits,
placements, rules, impressions and figures are those of every other request.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import FastAPI
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field
from starlette.types import ASGIApp

from txrec import __version__
from txrec.client import ApiError, AsyncClient, Json, Retry

MAX_PRODUCTS = 50
"""Products that a tool returns at most: they go into the context of a language model."""
_INSTRUCTIONS = """
Products of one shop. `search_products` finds products for words, `recommend_products` for a user or for products that
they looked at, `similar_products` finds alternatives to a product, `get_product` returns everything that is known of a
product. Ids are the shop's own; use them as they are.
"""
_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)

TopK = Annotated[int, Field(ge=1, le=MAX_PRODUCTS, description="Products to return")]
Query = Annotated[str, Field(min_length=1, description="Search text; typing errors are forgiven")]
ItemId = Annotated[str, Field(min_length=1, description="Id of a product, e.g. from search_products")]
UserId = Annotated[str | None, Field(description="Id of the user whose history is used")]
Where = Annotated[
    str | None,
    Field(description='Conditions on product fields, e.g. `brand = "acme" AND price < 50`, `NOT colour = red`'),
]
Seen = Annotated[list[str] | None, Field(description="Ids of products that the user looked at, oldest first")]
Cart = Annotated[list[str] | None, Field(description="Ids of products in the cart")]


class FoundProduct(BaseModel):
    """One product of an answer, best first."""

    item_id: str = Field(description="Id of the product")
    title: str | None = Field(description="Name of the product")
    score: float = Field(description="Higher is better; comparable within one answer")
    reasons: list[str] = Field(description="Why the product is here")


class FoundProducts(BaseModel):
    """Answer of a tool that finds products."""

    request_id: str = Field(description="Id of the answer; events that follow from it should carry it")
    fallback: str | None = Field(description="Reason of a simpler answer than requested")
    notes: list[str] = Field(description="Parts of the request that were ignored")
    items: list[FoundProduct] = Field(description="Products, best first")


@asynccontextmanager
async def running(app: FastAPI, host: str, any_host: bool) -> AsyncIterator[ASGIApp]:
    """The MCP application over an HTTP application, for as long as the block lasts.

    Args:
        app: the HTTP API that the tools call.
        host: address that is listened on.
        any_host: accepts requests under any host name; without, only under loopback names where `host` is loopback,
            so that a page whose name is bound to 127.0.0.1 cannot call the tools (DNS rebinding).
    """
    server = MCPServer("txrec", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING")
    _add_tools(server, app)
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False) if any_host else None
    mounted = server.streamable_http_app(
        json_response=True, stateless_http=True, host=host, transport_security=security
    )
    async with server.session_manager.run():
        yield mounted


def _add_tools(server: MCPServer[Any], app: FastAPI) -> None:
    @server.tool(title="Search products", annotations=_READS)
    async def search_products(
        query: Query, context: Context[Any], top_k: TopK = 10, where: Where = None, user_id: UserId = None
    ) -> FoundProducts:
        """Finds products of the shop for a search text, best first."""
        fields = _fields(top_k, where, user_id)
        async with _client(app, context) as shop:
            return _products_of(await _answer(shop.search(query, **fields)))

    @server.tool(title="Recommend products", annotations=_READS)
    async def recommend_products(
        context: Context[Any],
        user_id: UserId = None,
        seen: Seen = None,
        cart: Cart = None,
        top_k: TopK = 10,
        where: Where = None,
    ) -> FoundProducts:
        """Recommends products for a user, for products that they looked at, or for a cart."""
        session = [{"event": "view", "item_id": item_id} for item_id in seen or ()]
        fields = _fields(top_k, where, user_id) | {"session": session, "items": cart or []}
        async with _client(app, context) as shop:
            return _products_of(await _answer(shop.recommend(**fields)))

    @server.tool(title="Similar products", annotations=_READS)
    async def similar_products(
        item_id: ItemId, context: Context[Any], top_k: TopK = 10, where: Where = None
    ) -> FoundProducts:
        """Finds alternatives to a product."""
        async with _client(app, context) as shop:
            return _products_of(await _answer(shop.similar(item_id, **_fields(top_k, where, None))))

    @server.tool(title="Get a product", annotations=_READS)
    async def get_product(item_id: ItemId, context: Context[Any]) -> dict[str, Any]:
        """Returns everything that is known of a product: name, price, brand, category, attributes, availability."""
        async with _client(app, context) as shop:
            return await _answer(shop.item(item_id))


def _client(app: FastAPI, context: Context[Any]) -> AsyncClient:
    """A client of the HTTP API in this process, with the key and the address of the agent that called."""
    request = context.request_context.request
    address = request.client if request is not None and request.client else ("", 0)
    scheme, _, key = (context.headers or {}).get("authorization", "").partition(" ")
    transport = httpx.ASGITransport(app, client=(address[0], address[1]))
    return AsyncClient(
        "http://mcp",
        retry=Retry(attempts=1),
        key=key.strip() if scheme.lower() == "bearer" else "",
        transport=transport,
    )


def _fields(top_k: int, where: str | None, user_id: str | None) -> Json:
    fields: Json = {"top_k": top_k, "explain": True}
    if where:
        fields["filters"] = {"where": where}
    if user_id:
        fields["user_id"] = user_id
    return fields


async def _answer(call: Any) -> Json:
    """The reply of a call; a refusal becomes an error that the agent can read and act on."""
    try:
        reply: Json = await call
    except ApiError as error:
        raise ToolError(str(error)) from None
    return reply


def _products_of(reply: Json) -> FoundProducts:
    return FoundProducts(
        request_id=reply["request_id"],
        fallback=reply["fallback"],
        notes=reply["notes"],
        items=[FoundProduct.model_validate(item) for item in reply["items"]],
    )
