"""Experiments of a server: their documents, and which variants a request takes part in.

An experiment is a document: its specification (`ExperimentSpec`) and its state (`Standing`). `ExperimentBook` is
the compiled form of all running ones; the variant of a user is a function of it, the same in every process.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from txrec.config import DecisionConfig, ObjectiveConfig, RampConfig
from txrec.errors import ConfigError, ConflictError
from txrec.loop.experiments import assignment
from txrec.loop.experiments.assignment import Ramp

KIND = "experiments"
"""Kind of the documents that hold experiments."""
INTERLEAVED = "interleaved"
"""Recorded variant of a user whose slates are made of both rankings."""
State = Literal["running", "stopped", "decided"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_log = logging.getLogger(__name__)


class Closed(BaseModel):
    """A model without unknown fields, documented under its definition."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class VariantSettings(Closed):
    """Fields of requests that a variant sets, whatever the request says; absent ones stay as they are."""

    diversity: float | None = Field(None, ge=0, le=1)
    """0 = by relevance alone, 1 = by dissimilarity."""
    exclude_seen: bool | None = None
    """Leave out everything in the user's history."""
    max_showings: int | None = Field(None, ge=0, le=1_000)
    """Products that were shown this often since the user last engaged with them stand behind all others; 0 = none."""
    fatigue: bool | None = None
    """Lowers the scores of products that the user was shown in vain, as served slates in the training log taught."""
    objective: ObjectiveConfig | None = None
    """Worth of clicks, carts and purchases by which slates are ordered."""
    rules: bool | None = None
    """True where merchandising rules act."""


class ServedVariant(Closed):
    """One of the alternatives: a bundle, or the same bundle with other settings, placement or rules."""

    name: Name
    """Name in reports; unique within the experiment."""
    weight: float = Field(1.0, gt=0)
    """Share of the experiment's users, relative to the other weights."""
    version: str = ""
    """Version of the bundle that answers; empty = the one in production."""
    settings: VariantSettings = VariantSettings()
    """Fields of requests that it sets."""
    placement: str = ""
    """Placement whose defaults are used instead of those of the placement that a request names; empty = no other."""
    segments: tuple[Name, ...] = ()
    """Segments that its users belong to next to their own, so that merchandising rules with these act on them alone."""


class ExperimentSpec(Closed):
    """Specification of an experiment."""

    name: Name
    """Unique, for good: figures and impressions are recorded under it."""
    kind: Literal["split", "interleaving"] = "split"
    """split: each user gets one variant. interleaving: slates of two versions become one (team draft)."""
    variants: tuple[ServedVariant, ...] = Field(min_length=2, max_length=20)
    """The first one is the control."""
    layer: Name = "default"
    """Experiments of one layer exclude each other."""
    start: float = Field(0.0, ge=0, lt=1)
    """Beginning of the segment of the layer, 0 to 1."""
    share: float = Field(1.0, gt=0, le=1)
    """Length of the segment, 0 to 1."""
    ramp: tuple[RampConfig, ...] = ()
    """Ramp-up by hours after the start; empty = the whole segment at once."""
    decision: DecisionConfig = DecisionConfig()
    """Figures and error rates that decide."""
    activate: bool = False
    """True where a promoted variant's version goes into production by itself; else the decision waits for a person."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"variants: two of one name: {', '.join(names)}")
        if self.start + self.share > 1 + 1e-9:
            raise ValueError(f"start + share = {self.start + self.share:g}; a layer ends at 1")
        if self.kind == "interleaving":
            versions = [variant.version for variant in self.variants]
            if len(versions) != 2 or versions[0] == versions[1]:
                raise ValueError(f"variants: interleaving needs two of different versions; found {versions}")
        return self

    @property
    def versions(self) -> tuple[str, ...]:
        """Versions that replicas must hold for it."""
        return tuple(dict.fromkeys(variant.version for variant in self.variants if variant.version))

    @property
    def changes_model(self) -> bool:
        """True where it decides which version answers."""
        return bool(self.versions)

    def timed(self, start_us: int) -> assignment.Experiment:
        """Its assignment from a start on, microseconds since 1970 UTC."""
        return assignment.Experiment(
            name=self.name,
            variants=tuple(assignment.Variant(one.name, one.weight, one.version) for one in self.variants),
            layer=self.layer,
            start=self.start,
            share=self.share,
            start_us=start_us,
            ramp=tuple(Ramp(step.after_h, step.share) for step in self.ramp),
        )


class Standing(Closed):
    """State of an experiment."""

    state: State = "running"
    """running, stopped (by a person, a guard or a broken assignment) or decided."""
    started_us: int = 0
    """Start, microseconds since 1970 UTC."""
    ended_us: int | None = None
    """End, microseconds since 1970 UTC; None while it runs."""
    reason: str = ""
    """Reason of its end."""
    out: dict[str, str] = {}
    """Variants that were taken out, with the decision that did it; their users get what the control gets."""
    decisions: tuple[dict[str, Any], ...] = ()
    """Latest decision of every variant that is not the control, with its inequality."""
    looked_us: int = 0
    """Time of the last look, microseconds since 1970 UTC."""


class StoredExperiment(Closed):
    """An experiment and how it stands: the document that is stored."""

    spec: ExperimentSpec
    standing: Standing

    def document(self) -> dict[str, Any]:
        """JSON object of the store."""
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class Participation:
    """Part of a request in the running experiments.

    Attributes:
        labels: `experiment:variant` of every experiment that its user takes part in, as impressions record them.
        version: that answers; empty = production, None = as the rollout says.
        interleaved: versions of the two rankings of an interleaved slate, the control first; None = one ranking.
        settings: fields that its variants set.
        placement: whose defaults are used instead; empty = no other.
        segments: that its variants add.
    """

    labels: tuple[str, ...] = ()
    version: str | None = None
    interleaved: tuple[str, str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    placement: str = ""
    segments: tuple[str, ...] = ()


NO_PART = Participation()


class ExperimentBook:
    """All running experiments, compiled for requests.

    Args:
        stored: experiments; those that have ended are left out.
    """

    def __init__(self, stored: Iterable[StoredExperiment] = ()) -> None:
        running = [one for one in stored if one.standing.state == "running"]
        self.running = tuple(running)
        self._timed = [(one, one.spec.timed(one.standing.started_us)) for one in running]

    @property
    def versions(self) -> tuple[str, ...]:
        """Versions that replicas must hold."""
        return tuple(sorted({version for one in self.running for version in one.spec.versions}))

    def participation(self, user_id: str | None, now_us: int) -> Participation:
        """Experiments that a user takes part in; nobody anonymous takes part."""
        if user_id is None or not self._timed:
            return NO_PART
        labels: list[str] = []
        version: str | None = None
        interleaved: tuple[str, str] | None = None
        settings: dict[str, Any] = {}
        placement = ""
        segments: list[str] = []
        for one, timed in self._timed:
            drawn = timed.variant(user_id, now_us)
            if drawn is None:
                continue
            if one.spec.kind == "interleaving":
                labels.append(f"{one.spec.name}:{INTERLEAVED}")
                interleaved = (one.spec.variants[0].version, one.spec.variants[1].version)
                continue
            labels.append(f"{one.spec.name}:{drawn.name}")
            variant = _answering(one, drawn.name)
            if one.spec.changes_model:
                version = variant.version
            settings.update({name: value for name, value in variant.settings if value is not None})
            placement = variant.placement or placement
            segments += variant.segments
        return Participation(tuple(labels), version, interleaved, settings, placement, tuple(segments))


def read_all(by_name: Mapping[str, Mapping[str, Any]]) -> list[StoredExperiment]:
    """Every experiment of documents by name, by start; one that this version cannot read is left out and logged."""
    stored = []
    for name, document in by_name.items():
        try:
            stored.append(StoredExperiment.model_validate(document))
        except ValidationError as error:
            _log.warning("experiment %r is left out: %s", name, error.errors()[0]["msg"])
    return sorted(stored, key=lambda one: (one.standing.started_us, one.spec.name))


def check_beside(spec: ExperimentSpec, stored: Sequence[StoredExperiment]) -> None:
    """Refuses an experiment that cannot run next to the others.

    Raises:
        ConflictError: its name is taken, its segment overlaps another one's, or two layers would change the model.
    """
    if any(one.spec.name == spec.name for one in stored):
        raise ConflictError("name", f"there is an experiment {spec.name!r} already; a name is used once")
    running = [one.spec for one in stored if one.standing.state == "running"]
    try:
        assignment.check(tuple(one.timed(0) for one in (*running, spec)))
    except ConfigError as error:
        raise ConflictError("share", str(error)) from None
    for other in running:
        if spec.changes_model and other.changes_model and other.layer != spec.layer:
            raise ConflictError(
                "layer",
                f"{other.name!r} in layer {other.layer!r} changes the model too, so that a user could get two;"
                f" put both into one layer",
            )


def _answering(stored: StoredExperiment, name: str) -> ServedVariant:
    """The variant that answers users who drew one: the control where theirs was taken out."""
    variants = {variant.name: variant for variant in stored.spec.variants}
    return stored.spec.variants[0] if name in stored.standing.out else variants[name]
