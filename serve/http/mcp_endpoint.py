"""MCP endpoint at `/mcp`: search, recommendations, similar products and product lookup as tools for agents.

Model Context Protocol (https://modelcontextprotocol.io), streamable HTTP without sessions, so that every replica can
answer every request. A tool calls the HTTP API of the same process with the caller's own key and address: keys, limits,
placements, rules, impressions and figures are those of every other request.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import FastAPI
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field, ValidationError
from starlette.types import ASGIApp

from serve.api.base import MAX_IDS
from serve.api.events import MAX_SESSION_EVENTS
from serve.http.field_errors import message_of, unknown_field
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
Id = Annotated[str, Field(min_length=1, max_length=256)]
Query = Annotated[str, Field(min_length=1, description="Search text; typing errors are forgiven")]
ItemId = Annotated[Id, Field(description="Id of a product, e.g. from search_products")]
UserId = Annotated[Id | None, Field(description="Id of the user whose history is used; absent = nobody in particular")]
Where = Annotated[
    str | None,
    Field(
        description='Conditions on `category`, `brand`, `price`, `available` and attributes, e.g. `brand = "acme" AND '
        "price < 50`, `NOT colour = red`, `size IN (S, M)`. An unknown field is refused with those that there are"
    ),
]
Seen = Annotated[
    list[Id] | None,
    Field(max_length=MAX_SESSION_EVENTS, description="Ids of products that the user looked at, oldest first"),
]
Cart = Annotated[
    list[Id] | None,
    Field(max_length=MAX_IDS, description="Ids of products in the cart; none of them is recommended"),
]
_ARGUMENTS = {"filters.where": "where", "session": "seen", "items": "cart"}
"""Argument of a tool by the field of the HTTP API that it becomes."""


class FoundProduct(BaseModel):
    """One product of an answer, best first."""

    item_id: str = Field(description="Id of the product")
    title: str | None = Field(description="Name of the product")
    price: float | None = Field(None, description="Price in the shop's currency")
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
    server = MCPServer("txrec", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING", tools=_tools(app))
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False) if any_host else None
    mounted = server.streamable_http_app(
        json_response=True, stateless_http=True, host=host, transport_security=security
    )
    async with server.session_manager.run():
        yield mounted


class CheckedTool(Tool):
    """A tool that refuses what its schema does not name, in the words of the HTTP API's errors.

    The SDK ignores unknown arguments, so that an agent that sends `filter` for `where` would take what it gets for
    filtered, and its own errors are several lines of pydantic.
    """

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        """Runs the tool.

        Raises:
            ToolError: an argument is unknown, missing or out of range, or the HTTP API refused the call.
        """
        known = self.fn_metadata.arg_model.model_fields
        for name in arguments:
            if name not in known:
                raise ToolError(f"{name}: {unknown_field(name, known)}")
        try:
            self.fn_metadata.validate_arguments(arguments)
        except ValidationError as error:
            first = error.errors()[0]
            raise ToolError(f"{'.'.join(map(str, first['loc']))}: {message_of(first)}") from None
        return await super().run(arguments, context, convert_result)


def _tools(app: FastAPI) -> list[Tool]:
    async def search_products(
        query: Query, context: Context[Any], top_k: TopK = 10, where: Where = None, user_id: UserId = None
    ) -> FoundProducts:
        """Finds products of the shop for a search text, best first."""
        fields = _fields(top_k, where, user_id)
        async with _client(app, context) as shop:
            return _products_of(await _answer(shop.search(query, **fields)))

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

    async def similar_products(
        item_id: ItemId, context: Context[Any], top_k: TopK = 10, where: Where = None
    ) -> FoundProducts:
        """Finds alternatives to a product."""
        async with _client(app, context) as shop:
            return _products_of(await _answer(shop.similar(item_id, **_fields(top_k, where, None))))

    async def get_product(item_id: ItemId, context: Context[Any]) -> dict[str, Any]:
        """Returns everything that is known of a product: name, price, brand, category, attributes, availability."""
        async with _client(app, context) as shop:
            return await _answer(shop.item(item_id))

    titled: dict[str, Callable[..., Any]] = {
        "Search products": search_products,
        "Recommend products": recommend_products,
        "Similar products": similar_products,
        "Get a product": get_product,
    }
    tools: list[Tool] = []
    for title, function in titled.items():
        tool = CheckedTool.from_function(function, title=title, annotations=_READS)
        tool.parameters["additionalProperties"] = False
        tools.append(tool)
    return tools


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
        raise ToolError(_in_arguments(str(error))) from None
    return reply


def _in_arguments(message: str) -> str:
    """An error of the HTTP API with the tool's argument in place of the field."""
    field, separator, rest = message.partition(": ")
    for prefix, argument in _ARGUMENTS.items():
        if separator and (field == prefix or field.startswith(f"{prefix}.")):
            return f"{argument}: {rest}"
    return message


def _products_of(reply: Json) -> FoundProducts:
    return FoundProducts(
        request_id=reply["request_id"],
        fallback=reply["fallback"],
        notes=reply["notes"],
        items=[FoundProduct.model_validate(item) for item in reply["items"]],
    )
