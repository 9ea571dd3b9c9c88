"""HTTP bodies of the health checks."""

from pydantic import Field

from serve.api.base import Reply


class HealthReply(Reply):
    """State of the server."""

    status: str = Field(examples=["ready"])
    """`live` or `ready`."""
    model_version: str | None = None
    """Version of the bundle that answers."""
