"""Configuration of evaluation, exposure and the promotion gate."""

from typing import Self

from pydantic import Field, model_validator

from txrec.config.section import Section


class EvaluateConfig(Section):
    """Measuring. The whole catalogue is ranked, always."""

    ks: tuple[int, ...] = (1, 5, 10, 20, 100)
    """Cut-offs."""
    filter_seen: bool = False
    """Leave out items of the user's history (published leave-one-out tables do)."""
    target_events: tuple[str, ...] = ()
    """Event kinds that count as relevant; empty = every kind that has an item."""
    each_click: bool = False
    """Ask before each click of a search, with its earlier clicks in the history; else once, for all of its clicks."""
    fold_in: bool | None = None
    """global_time, without a query: ask for users new in the window a second time, with the first half of their events
    there as history; none = where they are most of the users of a log without queries."""
    bootstrap: int = Field(1_000, ge=0)
    """Resamples for the intervals; 0 = none."""
    max_cases: int = Field(0, ge=0)
    """Evaluate a seeded sample of this many cases; 0 = all. Reports say so."""
    relevant_grade: float = 0.0
    """Judged pairs count as right for ROC-AUC from this grade on."""


class ExposureLimit(Section):
    """Bounds of the share of attention that one part of a product group gets."""

    group: str
    """`brand`, `category` (the broadest), `price`, `age`, `popularity`, or one of `exposure.attributes`."""
    part: str
    """Value, e.g. a brand."""
    floor: float = Field(0.0, ge=0, le=1)
    """Least share."""
    ceiling: float = Field(1.0, ge=0, le=1)
    """Largest share."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.floor > self.ceiling:
            raise ValueError(f"floor {self.floor} is above ceiling {self.ceiling}")
        return self


class ExposureConfig(Section):
    """Exposure of product groups in slates, in the reports of `evaluate` and `monitor`."""

    attributes: tuple[str, ...] = ()
    """Attributes of products that are groups too, e.g. `seller`."""
    limits: tuple[ExposureLimit, ...] = ()
    """Bounds; a share outside is an alarm, and `evaluate` states what keeping to them costs."""


class PublishConfig(Section):
    """The promotion gate."""

    metric: str = "ndcg@10"
    """Compared metric. Where there are judged pairs and no log, NDCG@10 within them is compared instead."""
    margin: float = Field(0.01, ge=0)
    """A new bundle may be worse by this share and still be promoted."""
    served_margin: float = Field(0.2, ge=0, le=1)
    """The metric may be worse by this share where the bundle's order of served slates would have earned at most
    `margin` less (`txrec loop` estimates that): clicks on production's own slates favour production."""
    smoke_queries: tuple[str, ...] = ()
    """Queries that must be answered by at least one item."""
