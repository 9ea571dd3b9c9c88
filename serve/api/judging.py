"""HTTP bodies of relevance judgments: tasks for judges, their grades, and the agreement between them."""

from pydantic import ConfigDict, Field

from serve.api.base import ITEMS, QUERY, Body, Id, Reply
from txrec.json_numbers import Integer
from txrec.loop.judging import GRADES

MAX_GRADED = 100


class ProductToGrade(Reply):
    """A product as a judge sees it: without rank, score or source."""

    item_id: str
    """Raw id."""
    title: str | None
    """As the catalogue has it."""
    description: str | None
    """As the catalogue has it."""
    category: list[str]
    """Path of its category."""
    brand: str | None
    """Brand."""
    price: float | None
    """Price."""


class JudgingTaskReply(Reply):
    """A query and the products to grade for it, in an order that says nothing."""

    query: str | None
    """Search text; null where this judge has graded every query."""
    products: list[ProductToGrade]
    """Products to grade."""
    grades: dict[int, str]
    """Meaning of each grade."""


class GradesRequest(Body):
    """A judge's grades of products for a query."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"judge": "anna", "query": QUERY, "grades": {ITEMS[0]: 3, ITEMS[1]: 0, ITEMS[2]: None}}]
        }
    )

    judge: Id
    """Name of the judge."""
    query: str = Field(min_length=1, max_length=10_000)
    """As the task gave it."""
    grades: dict[Id, Integer | None] = Field(min_length=1, max_length=MAX_GRADED)
    """item_id = grade, 0 to 3; null = cannot tell."""


class GradesStoredReply(Reply):
    """Grades are on disk."""

    stored: int
    """Grades of this call."""


class JudgingReply(Reply):
    """State of the judgments."""

    num_queries: int
    """Queries with a grade."""
    num_pairs: int
    """Query-product pairs with a grade."""
    num_shared: int
    """Pairs that several judges graded."""
    agreement: float | None
    """Krippendorff's alpha of the shared pairs, ordinal: 1 = perfect, 0 = chance; null without shared pairs."""
    judges: dict[str, int]
    """Judge = graded queries."""
    grades: dict[int, str] = Field(default_factory=lambda: dict(GRADES))
    """Meaning of each grade."""


class JudgeForgottenReply(Reply):
    """The judgments of a judge are removed."""

    judge: str
    """Name of the judge."""
    removed: int
    """Graded queries that were removed."""
