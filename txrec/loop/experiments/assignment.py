"""Experiment assignment: layers, ramp-up and variants as pure functions of a user id, the same in every process.

A *layer* divides the users into segments; experiments of one layer take disjoint segments, so that nobody is in two of
them. Layers are independent of each other. Within an experiment's segment a user takes part once the ramp-up has
reached them, and their variant is drawn by a third hash: a growing share adds users and never moves one.
"""

import hashlib
from dataclasses import dataclass
from itertools import pairwise

from txrec.errors import ConfigError

HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class Variant:
    """One of the alternatives of an experiment.

    Attributes:
        name: e.g. `control`, `v7`.
        weight: share of the experiment's users, relative to the other weights.
        version: of the bundle that answers; empty = the one in production.
    """

    name: str
    weight: float = 1.0
    version: str = ""


@dataclass(frozen=True)
class Ramp:
    """A step of a ramp-up: from `after_h` hours after the start on, `share` of the segment takes part."""

    after_h: float
    share: float


@dataclass(frozen=True)
class Experiment:
    """Assignment of users to an experiment and its variants.

    Attributes:
        name: unique.
        variants: the first one is the control.
        layer: experiments of one layer exclude each other.
        start: of the segment of the layer that this experiment takes, 0 to 1.
        share: length of that segment, 0 to 1.
        start_us: beginning, microseconds since 1970 UTC.
        ramp: steps of the ramp-up by time; empty = the whole segment at once.
    """

    name: str
    variants: tuple[Variant, ...]
    layer: str = "default"
    start: float = 0.0
    share: float = 1.0
    start_us: int = 0
    ramp: tuple[Ramp, ...] = ()

    @property
    def control(self) -> Variant:
        """The variant that the others are compared with."""
        return self.variants[0]

    def exposed_share(self, now_us: int) -> float:
        """Share of the segment that takes part at a time, 0 to 1."""
        if now_us < self.start_us:
            return 0.0
        hours = (now_us - self.start_us) / HOUR_US
        return max((step.share for step in self.ramp if step.after_h <= hours), default=0.0 if self.ramp else 1.0)

    def variant(self, user_id: str, now_us: int) -> Variant | None:
        """The user's variant; None where they do not take part (yet)."""
        place = unit_hash(f"layer:{self.layer}", user_id) - self.start
        if not 0 <= place < self.share:
            return None
        if unit_hash(f"ramp:{self.name}", user_id) >= self.exposed_share(now_us):
            return None
        rest = unit_hash(f"variant:{self.name}", user_id) * sum(variant.weight for variant in self.variants)
        for variant in self.variants:
            rest -= variant.weight
            if rest < 0:
                return variant
        return self.variants[-1]


def unit_hash(salt: str, user_id: str) -> float:
    """A number in [0, 1) that depends on salt and user alone; numbers of different salts are independent."""
    text = f"{salt}\x00{user_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big") / 2.0**56


def assign(experiments: tuple[Experiment, ...], user_id: str, now_us: int) -> dict[str, Variant]:
    """The variants of all experiments that a user takes part in, by experiment name."""
    variants = ((experiment.name, experiment.variant(user_id, now_us)) for experiment in experiments)
    return {name: variant for name, variant in variants if variant is not None}


def check(experiments: tuple[Experiment, ...]) -> None:
    """Refuses experiments that share a name, overlap within a layer or leave it.

    Raises:
        ConfigError: names the experiments and their segments.
    """
    names = [experiment.name for experiment in experiments]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"experiments: {name!r} is there {names.count(name)} times; give each its own name")
    for layer in sorted({experiment.layer for experiment in experiments}):
        inside = sorted((one for one in experiments if one.layer == layer), key=lambda one: one.start)
        for first, second in pairwise(inside):
            if first.start + first.share > second.start + 1e-9:
                raise ConfigError(
                    f"experiments: {first.name!r} takes {_segment(first)} of layer {layer!r}, {second.name!r} takes"
                    f" {_segment(second)}; segments of one layer must not overlap: change start, share or layer"
                )
        if inside[-1].start + inside[-1].share > 1 + 1e-9:
            raise ConfigError(f"experiments: {inside[-1].name!r} takes {_segment(inside[-1])}; a layer ends at 1")


def _segment(experiment: Experiment) -> str:
    return f"{experiment.start:g} to {experiment.start + experiment.share:g}"
