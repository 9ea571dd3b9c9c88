"""Experiments in one request: what its variants set, and the log of those that could not be answered."""

from typing import Any

from txrec.loop.experiments.served_experiments import Participation
from txrec.loop.experiments.user_outcomes import ERROR
from txrec.online.history import Impression


def with_settings(body: Any, part: Participation) -> Any:
    """A request body with the fields that its variants set."""
    known = type(body).model_fields
    changes = {name: value for name, value in part.settings.items() if name in known}
    return body.model_copy(update=changes) if changes else body


def failure(request_id: str, ts: int, body: Any, part: Participation) -> Impression:
    """The impression of a slate that could not be answered: without items, so that guards see it."""
    return Impression(
        request_id=request_id,
        ts=ts,
        variant="production" if part.version is None else "experiment",
        model_version=part.version or "",
        item_ids=(),
        scores=(),
        user_id=body.user_id,
        query=getattr(body, "query", None),
        fallback=ERROR,
        placement=body.placement,
        experiments=part.labels,
    )
