"""Configuration of experiments and of the loop that retrains."""

from typing import Literal

from pydantic import Field

from txrec.config.section import Section

FigureName = Literal[
    "clicks", "carts", "purchases", "revenue", "slates", "errors", "fallbacks", "empty_slates", "latency_ms"
]
"""Figures of one user that an experiment can be judged by."""


class FigureConfig(Section):
    """A figure per user that an experiment is judged by."""

    name: FigureName = "clicks"
    """Sum per user within the window; `latency_ms` is the user's mean."""
    window_h: float = Field(24.0, gt=0)
    """Hours after a user first took part in which the figure is counted."""
    higher_is_better: bool = True
    """Direction."""
    margin: float = Field(0.0, ge=0)
    """Primary figure: least gain for a promotion. Guard: largest loss that is allowed. In the figure's unit."""


class VariantConfig(Section):
    """One of the alternatives of an experiment."""

    name: str
    """Name in reports; unique within the experiment."""
    weight: float = Field(1.0, gt=0)
    """Share of the experiment's users, relative to the other weights."""
    version: str = ""
    """Version of the bundle that answers; empty = the one in production."""


class RampConfig(Section):
    """A step of a ramp-up."""

    after_h: float = Field(0.0, ge=0)
    """Hours after the start."""
    share: float = Field(1.0, gt=0, le=1)
    """Share of the experiment's segment that takes part from then on."""


class ExperimentConfig(Section):
    """An experiment: its share of the users, its variants, and the figures that decide."""

    name: str
    """Unique name."""
    variants: tuple[VariantConfig, ...] = Field(min_length=2)
    """The first one is the control."""
    layer: str = "default"
    """Experiments of one layer exclude each other."""
    start: float = Field(0.0, ge=0, lt=1)
    """Beginning of the segment of the layer, 0 to 1."""
    share: float = Field(1.0, gt=0, le=1)
    """Length of the segment, 0 to 1."""
    begins: str = ""
    """Instant of the beginning, ISO 8601; empty = always."""
    ramp: tuple[RampConfig, ...] = ()
    """Ramp-up; empty = the whole segment at once."""


class DecisionConfig(Section):
    """Figures and error rates that decide an experiment by always-valid tests."""

    primary: FigureConfig = FigureConfig()
    """The figure that decides."""
    guards: tuple[FigureConfig, ...] = (
        FigureConfig(name="errors", window_h=0.1, higher_is_better=False, margin=0.05),
        FigureConfig(name="fallbacks", window_h=0.1, higher_is_better=False, margin=0.05),
        FigureConfig(name="empty_slates", window_h=0.1, higher_is_better=False, margin=0.05),
        FigureConfig(name="latency_ms", window_h=0.1, higher_is_better=False, margin=100.0),
    )
    """Figures that must not become worse than their margins; a short window stops a bad variant early."""
    alpha: float = Field(0.05, gt=0, lt=1)
    """Chance of a false decision on the primary figure, over all looks."""
    guard_alpha: float = Field(0.01, gt=0, lt=1)
    """Chance of a false stop per guard, over all looks."""
    min_users: int = Field(100, ge=2)
    """Users per variant before anything decides."""
    max_users: int = Field(0, ge=0)
    """Users of control and variant together at which an experiment ends without a difference; 0 = never."""
    expected_users: float = Field(10_000.0, gt=0)
    """Users of both at which the intervals are narrowest."""
    past_h: float = Field(168.0, ge=0)
    """Hours of each user's past that take noise out of the primary figure; 0 = none."""


class ExperimentsConfig(DecisionConfig):
    """Experiments that decide themselves."""

    running: tuple[ExperimentConfig, ...] = ()
    """Experiments that the shop's own code serves; a canary and those of /v1/experiments need no entry."""


class LoopConfig(Section):
    """`txrec loop`: retraining of a served shop, from export to decision."""

    every_h: float = Field(24.0, ge=0)
    """A round starts this long after the start of the last one, hours; 0 = not by time."""
    min_events: int = Field(0, ge=0)
    """A round starts when the server has kept this many events since the last export; 0 = not by number."""
    drift: bool = True
    """A round starts when live traffic has drifted from the training log of production (a fault of the data starts
    none)."""
    min_h: float = Field(6.0, ge=0)
    """Least time between the starts of two rounds that new events or drift ask for, hours; two that drift asks for are
    at least a day apart, which is what it compares."""
    poll_s: float = Field(60.0, gt=0)
    """Time between two looks at triggers and at a running canary, seconds."""
    url: str = ""
    """Address of the served application, e.g. http://127.0.0.1:8000; empty = the gate promotes, without a canary.
    Its key comes from the environment variable TXREC_API_KEY, and the webhook's address from TXREC_LOOP_WEBHOOK."""
    training: Literal["auto", "full"] = "auto"
    """auto = continue from the production bundle (`train.warm_start`) where that is possible and reaches the quality of
    the last full training; the journal says why not. full = always from random weights."""
    canary_share: float = Field(0.1, gt=0, lt=1)
    """Share of the users that the canary answers."""
    canary_max_h: float = Field(72.0, gt=0)
    """A canary that has not been decided by then is taken back, hours; but see `canary_max_loss`."""
    canary_max_loss: float = Field(0.0, ge=0)
    """A canary that has not been decided by `canary_max_h` is promoted if its loss of the primary figure is surely at
    most this, per user in the figure's unit: it has learned from newer data. 0 = only what is surely better is."""
    late_h: float = Field(48.0, ge=0)
    """Events that arrive this late are still exported: exports overlap by as much, and preparation drops duplicates."""
    keep_versions: int = Field(5, ge=2)
    """Registered versions that are kept, the latest ones; served ones and the one before production always are."""
    export_days: int = Field(0, ge=0)
    """Exports of the server's log whose rows are all older than this are removed, days; 0 = they are kept for good.
    Training then forgets what only they held."""
