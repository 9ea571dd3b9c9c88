"""Route of the MCP endpoint: lets callers with a known key through to the MCP application while that runs."""

from fastapi import FastAPI, Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http import error_responses
from serve.http.api_keys import Key

PATH = "/mcp"


class McpEndpoint:
    """ASGI application that passes requests on to the MCP application of `FastAPI.state.mcp`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request: 401 without a known key, 503 before the start or where `serve.mcp` is off."""
        key: Key | None = scope["state"]["key"]
        mounted: ASGIApp | None = scope["app"].state.mcp
        if key is None:
            message = "send a known API key: `Authorization: Bearer KEY`"
            refusal = error_responses.problem(Request(scope), 401, None, message, {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
        elif mounted is None:
            message = "the MCP endpoint does not run; it starts with the server where `serve.mcp` is true"
            await error_responses.problem(Request(scope), 503, None, message)(scope, receive, send)
        else:
            await mounted(scope, receive, send)


def add_route(app: FastAPI) -> None:
    """Adds the endpoint to an application; it is not part of the OpenAPI document, as MCP describes itself.

    Calls are POST requests alone. Without sessions there is nothing to delete and nothing to send later, so that the
    stream of a GET request would stay open in vain: both are refused with 405, as the protocol provides.
    """
    app.state.mcp = None
    app.router.routes.append(Route(PATH, McpEndpoint(), methods=["POST"], include_in_schema=False))
