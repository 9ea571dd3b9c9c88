"""Filter expressions: conditions on product fields joined by AND, OR and NOT, as JSON or as text.

    {"and": [{"field": "price", "lt": 50}, {"not": {"field": "colour", "in": ["red", "blue"]}}]}
    price < 50 AND NOT colour IN ("red", "blue")

Fields are `category`, `brand`, `price`, `available`, and every attribute of the catalogue by its name. Texts compare
after normalisation; numbers and ISO 8601 dates compare by value. A product without the field fulfils no condition on
it. Text form: `=`, `!=`, `<`, `<=`, `>`, `>=`, `IN (...)`, `AND`, `OR`, `NOT`, parentheses; NOT binds strongest, then
AND. Names and texts with spaces or signs are quoted, by " or '; quotes within them stand behind a backslash.
"""

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

MAX_NODES = 200
MAX_DEPTH = 16
MAX_TEXT_CHARS = 100_000
"""Longest text form."""
Value = str | float | bool


class _Node(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class Condition(_Node):
    """A condition on one field; of several comparisons all must hold."""

    field: str = Field(min_length=1, max_length=256)
    """`category`, `brand`, `price`, `available`, or the name of an attribute."""
    equals: Value | None = None
    """The field has this value."""
    any_of: tuple[Value, ...] = Field((), alias="in", max_length=1_000)
    """The field has any of these values."""
    lt: float | str | None = None
    """Below this number or date."""
    lte: float | str | None = None
    """Upper bound, a number or date, included."""
    gt: float | str | None = None
    """Above this number or date."""
    gte: float | str | None = None
    """Lower bound, a number or date, included."""

    @field_validator("lt", "lte", "gt", "gte", mode="before")
    @classmethod
    def _is_no_truth_value(cls, bound: Any) -> Any:
        if isinstance(bound, bool):
            raise ValueError(f"is {str(bound).lower()}; expected a number or an ISO 8601 date")
        return bound

    @model_validator(mode="after")
    def _compares(self) -> Self:
        bounds = {name: getattr(self, name) for name in ("lt", "lte", "gt", "gte") if getattr(self, name) is not None}
        if self.equals is None and not self.any_of and not bounds:
            raise ValueError(
                f"the condition on {self.field!r} compares with nothing; expected equals, in, lt, lte, gt, gte"
            )
        for name, bound in bounds.items():
            if as_number(bound) is None:
                raise ValueError(f"{name} of {self.field!r} is {bound!r}; expected a number or an ISO 8601 date")
        return self


class And(_Node):
    """All of several expressions."""

    parts: tuple["Expression", ...] = Field(alias="and", min_length=1)


class Or(_Node):
    """Any of several expressions."""

    parts: tuple["Expression", ...] = Field(alias="or", min_length=1)


class Not(_Node):
    """The opposite of an expression; products without its fields included."""

    part: "Expression" = Field(alias="not")


def _parsed(value: Any) -> Any:
    """Text form to node; everything else is left to pydantic."""
    return parse(value) if isinstance(value, str) else value


def _kind(value: Any) -> str:
    """Tag of the node that a value stands for, so that errors are those of this node alone."""
    if not isinstance(value, dict):
        tags: dict[type, str] = {And: "[and]", Or: "[or]", Not: "[not]"}
        return tags.get(type(value), "[condition]")
    return next((f"[{name}]" for name in ("and", "or", "not") if name in value), "[condition]")


Expression = Annotated[
    Annotated[Condition, Tag("[condition]")]
    | Annotated[And, Tag("[and]")]
    | Annotated[Or, Tag("[or]")]
    | Annotated[Not, Tag("[not]")],
    Discriminator(_kind),
    BeforeValidator(_parsed, json_schema_input_type=Condition | And | Or | Not | str),
]
And.model_rebuild()
Or.model_rebuild()
Not.model_rebuild()


def check_size(expression: Condition | And | Or | Not) -> None:
    """Raises ValueError for an expression that is too deep or has too many nodes."""
    level, depth, count = [expression], 0, 0
    while level:
        depth, count = depth + 1, count + len(level)
        if depth > MAX_DEPTH or count > MAX_NODES:
            raise ValueError(f"the expression is too large; expected at most {MAX_NODES} nodes, {MAX_DEPTH} deep")
        level = [part for node in level for part in parts_of(node)]


def parts_of(node: Condition | And | Or | Not) -> tuple[Condition | And | Or | Not, ...]:
    """The expressions that a node joins; none for a condition."""
    if isinstance(node, And | Or):
        return node.parts
    return (node.part,) if isinstance(node, Not) else ()


def as_number(value: Value | None) -> float | None:
    """A number, or an ISO 8601 date as seconds since 1970 UTC; None for anything else."""
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
        return number if math.isfinite(number) else None
    except ValueError:
        pass
    try:
        instant = datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<op><=|>=|!=|=|<|>)|(?P<sign>[(),])"""
    r"""|(?P<word>[^\s()<>=!,"]+)""",
    re.DOTALL,
)
_BLANK = re.compile(r"\s*")
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?", re.ASCII)
"""Number in text form; others, such as 007 and 1_000, are texts."""
_BOUNDS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


def parse(text: str) -> Condition | And | Or | Not:
    """Parses the text form.

    Raises:
        ValueError: the text is not an expression; says where.
    """
    parser = _Parser(text)
    expression = parser.disjunction(0)
    parser.expect_end()
    return expression


class _Token(NamedTuple):
    """Token of an expression: its kind, its text and the place of its first character."""

    kind: str
    text: str
    offset: int


def _end_of_blank(text: str, start: int) -> int:
    """Place of the first character from `start` on that is not blank."""
    match = _BLANK.match(text, start)
    return start if match is None else match.end()


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        if len(text) > MAX_TEXT_CHARS:
            raise ValueError(f"has {len(text)} characters; expected at most {MAX_TEXT_CHARS}")
        self._tokens: list[_Token] = []
        place = _end_of_blank(text, 0)
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None or match.lastgroup is None:
                raise ValueError(f"cannot be read at character {place + 1}: {text[place : place + 20]!r}")
            self._tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start()))
            place = _end_of_blank(text, match.end())
        self._next = 0

    def disjunction(self, depth: int) -> Condition | And | Or | Not:
        parts = [self._conjunction(depth)]
        while self._take_word("OR"):
            parts.append(self._conjunction(depth))
        return parts[0] if len(parts) == 1 else Or(parts=tuple(parts))

    def expect_end(self) -> None:
        if self._next < len(self._tokens):
            raise self._error("AND, OR or the end")

    def _conjunction(self, depth: int) -> Condition | And | Or | Not:
        parts = [self._factor(depth)]
        while self._take_word("AND"):
            parts.append(self._factor(depth))
        return parts[0] if len(parts) == 1 else And(parts=tuple(parts))

    def _factor(self, depth: int) -> Condition | And | Or | Not:
        if depth > MAX_DEPTH:
            raise ValueError(f"the expression is nested deeper than {MAX_DEPTH}")
        if self._take_word("NOT"):
            return Not(part=self._factor(depth + 1))
        if self._take("sign", "("):
            inner = self.disjunction(depth + 1)
            if not self._take("sign", ")"):
                raise self._error("a closing parenthesis")
            return inner
        return self._condition()

    def _condition(self) -> Condition | Not:
        field = self._text_of_value("the name of a field")[0]
        if self._take_word("IN"):
            return Condition(field=field, any_of=tuple(self._list()))
        kind, operator, _ = self._peek()
        if kind != "op":
            raise self._error("one of = != < <= > >= IN")
        self._next += 1
        value = self._value("a value")
        if operator in _BOUNDS:
            return Condition.model_validate({"field": field, _BOUNDS[operator]: value})
        equal = Condition(field=field, equals=value)
        return equal if operator == "=" else Not(part=equal)

    def _list(self) -> list[Value]:
        if not self._take("sign", "("):
            raise self._error("an opening parenthesis")
        values = [self._value("a value")]
        while self._take("sign", ","):
            values.append(self._value("a value"))
        if not self._take("sign", ")"):
            raise self._error("a comma or a closing parenthesis")
        return values

    def _value(self, expected: str) -> Value:
        text, is_quoted = self._text_of_value(expected)
        if not is_quoted and text.lower() in {"true", "false"}:
            return text.lower() == "true"
        if not is_quoted and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        return text

    def _text_of_value(self, expected: str) -> tuple[str, bool]:
        """The next text or word without its quotes, and whether it had some."""
        kind, text, _ = self._peek()
        if kind not in {"text", "word"}:
            raise self._error(expected)
        self._next += 1
        return (re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL), True) if kind == "text" else (text, False)

    def _peek(self) -> _Token:
        return self._tokens[self._next] if self._next < len(self._tokens) else _Token("end", "", len(self._text))

    def _take(self, kind: str, text: str) -> bool:
        matches = self._peek()[:2] == (kind, text)
        self._next += matches
        return matches

    def _take_word(self, word: str) -> bool:
        token = self._peek()
        matches = token.kind == "word" and token.text.upper() == word
        self._next += matches
        return matches

    def _error(self, expected: str) -> ValueError:
        token = self._peek()
        place_text = f"at character {token.offset + 1}: found {token.text!r}, " if token.text else "ends early; "
        return ValueError(f"{place_text}expected {expected}")
