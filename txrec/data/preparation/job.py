"""The settings of one preparation that every one of its functions reads: configuration, plan, partitions, cuts."""

from dataclasses import dataclass, field
from functools import cached_property

from txrec.config import Config, DataConfig
from txrec.data.sources.canonical import EVENT_COLUMNS
from txrec.data.sources.sources import Chunk, Plan, mapping

CONTEXT = "context:"
"""Before the name of a circumstance, in columns of events and of sequences."""
_PARTITION_BYTES = 96 << 20
"""Text of the log per partition of users."""
_MOST_PARTITIONS = 4_096
_ALWAYS = ("user_id", "ts", "event", "item_id", "query", "origin")


def context_names(data: DataConfig) -> list[str]:
    """Names of the circumstances that any source of events declares."""
    return list(dict.fromkeys(name for source in data.events for name in source.context))


def num_partitions(config: Config, plan: Plan) -> int:
    """The configured number of partitions of users, or one that follows from the size of the log."""
    by_size = max(1, min(_MOST_PARTITIONS, plan.num_event_bytes // _PARTITION_BYTES))
    return config.prepare.num_partitions or by_size


@dataclass(frozen=True)
class Job:
    """One preparation. It travels to the workers with every function."""

    config: Config
    plan: Plan
    num_partitions: int
    """Partitions of users; they follow from the data alone, so that every cluster writes the same files."""
    latest_us: int
    """Later times are in the future, microseconds since 1970."""
    addresses: dict[int, str] = field(default_factory=dict, repr=False)
    """Chunk number = address of its database, secrets included: workers need not have the environment variable."""
    windows: tuple[int, int] = (0, 0)
    """global_time: starts of validation and test, microseconds since 1970."""

    def chunks(self, *tables: str) -> list[Chunk]:
        """Chunks of some tables, in order."""
        return [chunk for chunk in self.plan.chunks if chunk.table in tables]

    @property
    def has_core(self) -> bool:
        """True where k-core is on: rounds over all partitions between cleaning and splitting."""
        cfg = self.config.prepare
        return cfg.min_user_events > 1 or cfg.min_item_events > 1

    @cached_property
    def event_columns(self) -> tuple[str, ...]:
        """Columns of EVENT_COLUMNS that any event source fills; the others are null everywhere and do not travel."""
        filled = set(_ALWAYS)
        for chunk in self.chunks("events"):
            source = self.config.data.events[chunk.source]
            filled |= {*mapping(source, "events", [*chunk.columns, *chunk.joined]), *source.constants}
        return tuple(name for name in EVENT_COLUMNS if name in filled)

    @cached_property
    def carried_columns(self) -> tuple[str, ...]:
        """Product fields that event and judgment rows carry, as `item:NAME`, and the context of events."""
        fields = [f"item:{name}" for name in self.config.data.items_from_events]
        return (*fields, *(CONTEXT + name for name in context_names(self.config.data)))
