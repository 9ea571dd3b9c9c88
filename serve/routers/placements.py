"""Endpoints of placements: list, read, put, remove."""

from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as PathParameter
from starlette.exceptions import HTTPException

from serve.api.placements import PlacementDeletedReply, PlacementsReply
from serve.documents.placements import Placement
from serve.http.authorization import requires
from serve.http.dependencies import ConfigDep, PlacementsDep, ServiceDep
from serve.http.openapi_errors import ERRORS, UNKNOWN_PLACEMENT
from serve.types import ServingRequest
from txrec.errors import RequestError, UnknownItemError
from txrec.recommender.page_types import PageRequest, Quota
from txrec.recommender.rules.rule_types import Products
from txrec.recommender.types import Request

router = APIRouter(prefix="/v1", tags=["placements"], responses=ERRORS, dependencies=[requires("admin")])
Name = Annotated[str, PathParameter(max_length=256)]


@router.get("/placements", summary="All placements")
async def placements(live: PlacementsDep) -> PlacementsReply:
    """Those of the file and those that were put, by name."""
    return PlacementsReply(placements=dict(sorted((await live.all()).items())))


@router.get("/placements/{name:id}", summary="A placement", responses=UNKNOWN_PLACEMENT)
async def placement(name: Name, live: PlacementsDep) -> Placement:
    """Its defaults."""
    stored = await live.find(name)
    if stored is None:
        raise HTTPException(404, f"there is no placement {name!r}", {"X-Field": "name"})
    return stored


@router.put("/placements/{name:id}", summary="Add or replace a placement", responses=UNKNOWN_PLACEMENT)
async def put_placement(
    name: Name, body: Placement, live: PlacementsDep, service: ServiceDep, config: ConfigDep
) -> Placement:
    """Durable before the answer, in effect within two seconds on every replica, through restarts and new models."""
    if body.top_k is not None and body.top_k > config.max_top_k:
        raise RequestError("top_k", f"{body.top_k} is more than the {config.max_top_k} items that a slate may have")
    await _try_fields(body, service)
    if body.filters is not None and body.filters != type(body.filters)():
        (check,) = await service.check_products([Products(filters=body.filters)])
        if check.error:
            raise RequestError("filters", check.error)
    if body.fallback_items:
        (check,) = await service.check_products([Products(items=body.fallback_items)])
        if check.unknown:
            raise UnknownItemError.of("fallback_items", check.unknown[0])
    await live.put(name, body)
    return body


async def _try_fields(body: Placement, service: ServiceDep) -> None:
    """Answers one request by a placement's sources and page, so that an unknown field is refused by its name now."""
    if not (body.sources or body.sort or body.facets or body.group_by or body.quotas):
        return
    quotas = tuple(Quota(quota.field, quota.max) for quota in body.quotas or ())
    page = PageRequest(body.facets or (), sort=body.sort or "relevance", group_by=body.group_by, quotas=quotas)
    request = Request(top_k=1, sources=body.sources or ())
    await service.recommend(ServingRequest(request, use_rules=False, page=None if page == PageRequest() else page))


@router.delete("/placements/{name:id}", summary="Remove a placement", responses=UNKNOWN_PLACEMENT)
async def delete_placement(name: Name, live: PlacementsDep) -> PlacementDeletedReply:
    """Removes a placement that was put over HTTP; one of the file is valid again."""
    if not await live.delete(name):
        raise HTTPException(404, f"there is no placement {name!r} that was put over HTTP", {"X-Field": "name"})
    return PlacementDeletedReply(name=name)
