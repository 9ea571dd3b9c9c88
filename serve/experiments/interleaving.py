"""Interleaved slates: a request becomes one per version, and their answers become one slate by team draft."""

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from serve.types import Answer, ServingRequest
from txrec.errors import RequestError
from txrec.loop.experiments.interleaving import team_draft

VERSION_UNAVAILABLE = "version_unavailable"
"""Fallback of a slate whose replica does not hold the version that an experiment gave it."""


def split(request: ServingRequest) -> tuple[ServingRequest, ...]:
    """The request of each ranking; the request itself where it asks for one."""
    if request.interleaved is None:
        return (request,)
    return tuple(replace(request, version=version, interleaved=None) for version in request.interleaved)


def joined(batch: Sequence[ServingRequest], answers: Sequence[Answer | RequestError]) -> list[Answer | RequestError]:
    """One answer per request of a batch.

    Args:
        batch: requests.
        answers: to everything that `split` made of them, in order.
    """
    waiting = iter(answers)
    complete: list[Answer | RequestError] = []
    for request in batch:
        first = next(waiting)
        complete.append(first if request.interleaved is None else _drafted(request, first, next(waiting)))
    return complete


def marked(answer: Answer, request: ServingRequest) -> Answer:
    """The answer with a fallback where another version made it than an experiment gave it."""
    if not request.version or answer.model_version == request.version or answer.slate.fallback:
        return answer
    return replace(answer, slate=replace(answer.slate, fallback=VERSION_UNAVAILABLE))


def _drafted(
    request: ServingRequest, first: Answer | RequestError, second: Answer | RequestError
) -> Answer | RequestError:
    if isinstance(first, RequestError):
        return first
    if isinstance(second, RequestError):
        return second
    for answer in (first, second):
        if answer.slate.fallback:  # one of the rankings is not what it should be
            return answer
    rng = np.random.default_rng(zlib.crc32(request.request_id.encode()))
    sides = [{item.item_id: item for item in answer.slate.items} for answer in (first, second)]
    slate = team_draft(tuple(sides[0]), tuple(sides[1]), request.request.top_k, rng)
    items = tuple(sides[max(team, 0)][item_id] for item_id, team in zip(slate.items, slate.team, strict=True))
    version = f"{first.model_version}+{second.model_version}"
    drafted = replace(first.slate, items=items, rules={**first.slate.rules, **second.slate.rules})
    return replace(first, slate=drafted, model_version=version, variant="experiment", teams=slate.team)
