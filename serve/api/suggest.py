"""HTTP bodies of completions and of the words that they may not hold."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator

from serve.api.base import Body, Reply


class BlockedWords(Body):
    """Words that no suggestion may hold."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"words": ["adult"]}]})

    words: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(max_length=10_000)
    """All of them, in place of those before; [] = none. Words, and phrases whose words are blocked next to each other
    only; accents and case do not count. Words of scripts that write no blanks between words are blocked inside longer
    ones too."""

    @field_validator("words")
    @classmethod
    def _not_blank(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        blank = next((place for place, word in enumerate(words) if not word.strip()), None)
        if blank is not None:
            raise ValueError(f"number {blank} is blank; expected words")
        return words


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
