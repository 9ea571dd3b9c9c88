"""HTTP bodies of completions and of the words that they may not hold."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from serve.api.common import Body, Reply


class BlockedWords(Body):
    """Words that no suggestion may hold."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"words": ["adult"]}]})

    words: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field((), max_length=10_000)
    """The words; spelling compares after normalisation."""


class SuggestionReply(Reply):
    """A completion."""

    text: str
    """The completion."""
    kind: Literal["query", "category", "product"]
    """Kind of the text."""
    item_id: str | None
    """Id of a suggested product."""


class SuggestReply(Reply):
    """Completions, best first."""

    suggestions: list[SuggestionReply]
    """Completions."""
