"""Endpoints of query suggestions, and of the words that they must not hold."""

from typing import Annotated

from fastapi import APIRouter, Query

from serve.api.base import USER
from serve.api.suggest import BlockedWords, SuggestionReply, SuggestReply
from serve.http.authorization import requires
from serve.http.dependencies import of_app
from serve.http.openapi_errors import ERRORS
from serve.suggester import Suggester

router = APIRouter(prefix="/v1", tags=["suggestions"], responses=ERRORS)
SuggesterDep = Annotated[Suggester, of_app("suggester")]


@router.get("/suggest", summary="Completions of a search", dependencies=[requires("read")])
async def suggest(
    suggester: SuggesterDep,
    q: Annotated[str, Query(max_length=256, description="Text typed so far.", examples=["blu"])] = "",
    user_id: Annotated[str | None, Query(min_length=1, max_length=256, examples=[USER])] = None,
    limit: Annotated[int, Query(ge=1, le=50, description="Longest list.")] = 10,
) -> SuggestReply:
    """Queries that have results, categories and products; the user's own searches first, typing errors forgiven."""
    suggestions = await suggester.suggest(q, user_id, limit)
    return SuggestReply(
        suggestions=[SuggestionReply(text=one.text, kind=one.kind, item_id=one.item_id) for one in suggestions]
    )


@router.get("/suggest/blocked", summary="Blocked words", dependencies=[requires("admin")])
async def blocked_words(suggester: SuggesterDep) -> BlockedWords:
    """Words that no suggestion holds."""
    return BlockedWords(words=tuple(await suggester.blocked()))


@router.put("/suggest/blocked", summary="Replace the blocked words", dependencies=[requires("admin")])
async def block_words(body: BlockedWords, suggester: SuggesterDep) -> BlockedWords:
    """Durable before the answer, and in effect within two seconds on every replica."""
    await suggester.block(list(body.words))
    return body
