"""Access control of endpoints: a FastAPI dependency that lets only keys of a role in."""

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from serve.http.api_keys import Key, Role

_BEARER = HTTPBearer(auto_error=False, description="API key; needed where the server knows any")


def requires(role: Role) -> Any:
    """A dependency that refuses keys without a role; the middleware has looked up the key."""

    async def check(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        key: Key | None = request.state.key
        if key is None:
            raise HTTPException(
                401, "send a known API key: `Authorization: Bearer KEY`", {"WWW-Authenticate": "Bearer"}
            )
        if not key.may(role):
            raise HTTPException(403, f"this key has not the role {role}")

    return Depends(check)
