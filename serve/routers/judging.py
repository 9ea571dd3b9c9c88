"""Endpoints of relevance judgments: the next task of a judge, grades, their state, removal of a judge."""

from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter

from serve.api.judging import (
    GradesRequest,
    GradesStoredReply,
    JudgeForgottenReply,
    JudgingReply,
    JudgingTaskReply,
    ProductToGrade,
)
from serve.http.authorization import requires
from serve.http.dependencies import ServiceDep, of_app
from serve.http.openapi_errors import ERRORS, UNKNOWN_ITEM
from serve.judging import Judging
from serve.types import Product
from txrec.errors import RequestError, UnknownItemError
from txrec.loop.judging import GRADES, agreement, export, num_shared
from txrec.recommender.rules.rule_types import Products

router = APIRouter(prefix="/v1/judging", tags=["judging"], responses=ERRORS, dependencies=[requires("admin")])
JudgingDep = Annotated[Judging, of_app("judging")]
Judge = Annotated[str, Query(min_length=1, max_length=256, description="Name of the judge.", examples=["anna"])]


@router.get("", summary="State of the judgments")
async def judgments(judging: JudgingDep) -> JudgingReply:
    """Counts, and the agreement between judges."""
    stored = await judging.all()
    table = export(stored)
    return JudgingReply(
        num_queries=len(set(table["query"].to_pylist())),
        num_pairs=table.num_rows,
        num_shared=num_shared(stored),
        agreement=agreement(stored),
        judges=dict(Counter(one.judge for one in stored)),
    )


@router.get("/task", summary="The next query to grade")
async def task(judge: Judge, judging: JudgingDep) -> JudgingTaskReply:
    """A query where a grade tells most, with products pooled from all rankings, in an order that says nothing."""
    query, products = await judging.task(judge) or (None, [])
    return JudgingTaskReply(query=query, products=[_to_grade(one) for one in products], grades=dict(GRADES))


@router.post("/grades", summary="Grades of a judge", responses=UNKNOWN_ITEM)
async def grade(body: GradesRequest, judging: JudgingDep, service: ServiceDep) -> GradesStoredReply:
    """Durable before the answer; a grade of the same judge, query and product replaces the one before."""
    for item_id, value in body.grades.items():
        if value is not None and value not in GRADES:
            raise RequestError(f"grades.{item_id}", f"{value} is no grade; expected 0 to {max(GRADES)} or null")
    if not body.query.strip():
        raise RequestError("query", "is blank; expected the search text of the task")
    (check,) = await service.check_products([Products(items=tuple(body.grades))])
    if check.unknown:
        raise UnknownItemError.of(f"grades.{check.unknown[0]}", check.unknown[0])
    await judging.grade(body.judge, body.query, body.grades)
    return GradesStoredReply(stored=len(body.grades))


@router.delete("/judges/{judge:id}", summary="Remove a judge")
async def forget(judge: Annotated[str, PathParameter(max_length=256)], judging: JudgingDep) -> JudgeForgottenReply:
    """Removes everything that the judge graded."""
    return JudgeForgottenReply(judge=judge, removed=await judging.forget(judge))


def _to_grade(product: Product) -> ProductToGrade:
    fields = product.fields
    return ProductToGrade(
        item_id=fields["item_id"],
        title=fields["title"],
        description=fields["description"],
        category=list(fields["category"] or ()),
        brand=fields["brand"],
        price=fields["price"],
    )
