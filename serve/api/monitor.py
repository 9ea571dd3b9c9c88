"""HTTP bodies of live figures."""

from typing import Literal

from pydantic import Field

from serve.api.base import Reply


class RateReply(Reply):
    """A live figure with its 95 % interval, users as clusters; null where it is not known."""

    value: float | None
    low: float | None
    high: float | None
    users: int = Field(description="Users, or anonymous requests.")
    count: float = Field(description="Denominator of the figure: number of slates, searches or places.")


class DriftFigure(Reply):
    """A figure of the last day, compared with the days of the training log."""

    figure: str
    value: float | None = Field(description="A share, a mean, or a population stability index of a mix.")
    usual: float | None = Field(description="Its median over the days of the training log.")
    deviation: float | None = Field(description="In units of the usual deviation.")
    threshold: float = Field(description="That quiet days exceed as rarely as `serve.monitor.drift_alpha` says.")
    unusual: bool
    taste: bool = Field(description="Of what people want; otherwise of the data's integrity.")


class DriftReply(Reply):
    """The last day of traffic compared with the training log of the version in production."""

    outcome: Literal["quiet", "drift", "fault", "not judged"] = Field(
        description="`drift`: train again. `fault`: the data is broken. `not judged`: see `reason`."
    )
    reason: str
    version: str
    events: int
    since_us: int = Field(description="Microseconds since 1970 UTC.")
    until_us: int
    figures: list[DriftFigure] = Field(description="Most unusual first.")
    decision: str = Field(description="In one line, with the inequalities.")


class MonitorReply(Reply):
    """Live figures of the last hours."""

    hours: float = Field(description="Hours covered.")
    computed: float = Field(description="When they were computed, seconds since 1970 UTC.")
    figures: dict[str, dict[str, dict[str, RateReply]]] = Field(
        description="Slice (`all`, `variant`, `hour` ...) -> part -> figure."
    )
    drift: DriftReply = Field(description="Compared once an hour.")
