"""HTTP bodies of live figures."""

from pydantic import Field

from serve.api.common import Reply


class RateReply(Reply):
    """A live figure with its 95 % interval, users as clusters; null where it is not known."""

    value: float | None
    low: float | None
    high: float | None
    users: int = Field(description="Users, or anonymous requests.")
    count: float = Field(description="Denominator of the figure: number of slates, searches or places.")


class MonitorReply(Reply):
    """Live figures of the last hours."""

    hours: float = Field(description="Hours covered.")
    computed: float = Field(description="When they were computed, seconds since 1970 UTC.")
    figures: dict[str, dict[str, dict[str, RateReply]]] = Field(
        description="Slice (`all`, `variant`, `hour` ...) -> part -> figure."
    )
