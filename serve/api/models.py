"""HTTP bodies of models and their roles."""

from typing import Literal

from pydantic import ConfigDict, Field

from serve.api.base import Body, Reply
from txrec.json_numbers import Number


class ActivateRequest(Body):
    """The role that a version gets."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"role": "canary", "share": 0.1}]})

    role: Literal["production", "canary", "shadow"] = "production"
    """production answers; canary answers a share of the users; the answers of shadow go to the log only."""
    share: Number | None = Field(None, gt=0, le=1)
    """Share of the users that a canary answers; absent for other roles."""


class OverlapReply(Reply):
    """Agreement of a shadow's slates with those that were shown."""

    num_requests: int
    """Requests compared."""
    mean: float | None
    """Mean share of the slate that both hold, 0 to 1; null before the first comparison."""


class ModelReply(Reply):
    """A model that is served or could be."""

    version: str
    """Version of the bundle."""
    variant: str | None
    """Its role: `production`, `canary`, `shadow` or `experiment`; null = registered only."""
    share: float
    """Share of the users that it answers, 0 to 1."""
    overlap: OverlapReply | None
    """Agreement of a shadow with production; null for the other roles."""
    created: str | None
    """Time of creation, ISO 8601."""
    num_items: int
    """Products in its catalogue."""
    metrics: dict[str, float]
    """Metrics on its test events."""


class ModelsReply(Reply):
    """All models of the registry, oldest first; the only one where the server was started without a registry."""

    models: list[ModelReply]
    """One entry per model."""
