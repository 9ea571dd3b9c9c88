"""Check of declared sources by their first rows: rows kept and rejected, with examples, in seconds and in one process.

Nothing is written. Cleaning, vocabulary and splits need the whole log and are left to `prepare`.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from txrec.config import Config
from txrec.data.formats.blocks import Block
from txrec.data.preparation import row_order
from txrec.data.preparation.canonical_reading import sql_blocks
from txrec.data.preparation.known_ids import Overlap, overlap
from txrec.data.sources import remarks, sources
from txrec.data.sources.canonical import Canonical, canonical
from txrec.data.sources.chunk_reading import read
from txrec.data.sources.sources import Chunk
from txrec.data.sources.sql import address_of
from txrec.schema import DAY_US, EventKind, parse_instant

NUM_ROWS = 20_000
"""Rows of a source that are looked at."""
_PLAIN_BYTES = 8 << 20
_EXAMPLE_WIDTH = 160
_HELD = {"products": "items", "users": "users"}
"""Kind of ids = where a check of a source holds them."""
_EXPECTED_REASONS = frozenset({"duplicate", "cancellation", "negative_quantity", "not_a_product", "excluded_by_rule"})
_MOST_FAULTY = 0.05
"""Share of rows rejected for other than these reasons from which on a source is warned of."""


@dataclass
class SourceCheck:
    """The first rows of one source."""

    table: str
    source: int
    """Index into the table's sources."""
    path: str
    num_read: int = 0
    num_kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    """Reason = the first row that was rejected for it, as it stands."""
    events: Counter[str] = field(default_factory=Counter)
    users: set[str] = field(default_factory=set)
    items: set[str] = field(default_factory=set)
    first_us: int = 2**62
    last_us: int = 0
    num_titles: int = 0
    num_item_pairs: int = 0
    num_sorted_pairs: int = 0
    matches: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    open_numbers: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    note_examples: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The source in the configuration."""
        return f"data.{self.table}.{self.source}"

    def add(self, done: Canonical) -> None:
        """Counts one block."""
        self.num_read += done.num_read
        self.num_kept += done.frame.height
        rejected = pl.DataFrame(pl.from_arrow(done.rejected))
        self.rejected.update(rejected["reason"].to_list())
        for reason, raw in rejected.select("reason", "raw").iter_rows():
            self.examples.setdefault(reason, raw)
        frame = done.frame
        if "event" in frame.columns:
            self.events.update(EventKind(code).label for code in frame["event"].to_list())
        if "user_id" in frame.columns:
            self.users.update(frame["user_id"].drop_nulls().unique().to_list())
        if "item_id" in frame.columns:
            self.items.update(frame["item_id"].drop_nulls().unique().to_list())
        if "title" in frame.columns:
            self.num_titles += frame.height - frame["title"].null_count()
        if "ts" in frame.columns and frame.height:
            low, high = frame.select(low=pl.col("ts").min(), high=pl.col("ts").max()).row(0)
            self.first_us, self.last_us = min(self.first_us, low), max(self.last_us, high)
            if self.table == "events" and not high:
                self._add_row_order(frame)
        remarks.Remarks.add_counts(self, done.remarks)

    def _add_row_order(self, frame: pl.DataFrame) -> None:
        of_users = frame.sort("user_id", maintain_order=True)
        num_pairs, num_sorted = row_order.count_pairs(of_users["user_id"], of_users["item_id"])
        self.num_item_pairs += num_pairs
        self.num_sorted_pairs += num_sorted

    def span(self) -> str:
        """First and last time of the rows; empty without times."""
        if not self.last_us:
            return ""
        days = [
            datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M") for us in (self.first_us, self.last_us)
        ]
        return f"{days[0]} to {days[1]}"

    def contents(self) -> str:
        """Contents of the kept rows."""
        parts = [f"{kind} {count:,}" for kind, count in self.events.most_common()]
        parts += [f"{len(self.users):,} users"] if self.users else []
        parts += [f"{len(self.items):,} items"] if self.items else []
        parts += [f"{self.num_titles:,} titles"] if self.table == "items" else []
        return ", ".join([*parts, *filter(None, [self.span()])]) or "nothing"


@dataclass(frozen=True)
class Check:
    """The first rows of all sources."""

    sources: Sequence[SourceCheck]
    seconds: float

    def headline(self) -> str:
        """One line: rows read and kept."""
        read_rows, kept = (sum(getattr(one, name) for one in self.sources) for name in ("num_read", "num_kept"))
        return f"{read_rows:,} first rows read, {kept:,} kept, in {self.seconds:.1f} s; nothing was written"

    def warnings(self) -> list[str]:
        """Likely mistakes in the declaration, each with its remedy."""
        made = remarks.warnings((one.name, one) for one in self.sources if one.num_read)
        pairs = [sum(getattr(one, name) for one in self.sources) for name in ("num_item_pairs", "num_sorted_pairs")]
        made += filter(None, [row_order.warning(*pairs)])
        for one in self.sources:
            faulty = sum(count for reason, count in one.rejected.items() if reason not in _EXPECTED_REASONS)
            if one.num_read and (one.num_kept < 0.5 * one.num_read or faulty > _MOST_FAULTY * one.num_read):
                top = ", ".join(f"{reason} {count:,}" for reason, count in one.rejected.most_common(3))
                made.append(
                    f"{one.name} ({one.path}): {1 - one.num_kept / one.num_read:.0%} of its rows rejected: {top}"
                )
        products, users = self._overlap("products", "items"), self._overlap("users", "users")
        made += [f"in the first rows, {products.warning()}"] if products.is_small else []
        made += [f"in the first rows, {users.warning()}"] if users.is_small and not users.num_common else []
        return made

    def _overlap(self, what: str, table: str) -> Overlap:
        """The overlap of the first events with the first rows of the catalogue or of the users table."""
        logged, described = (
            sorted({key for one in self.sources if one.table == name for key in getattr(one, _HELD[what])})
            for name in ("events", table)
        )
        return overlap(what, pl.Series(logged, dtype=pl.String), pl.Series(described, dtype=pl.String))

    def render(self) -> RenderableType:
        """The check for a terminal."""
        table = Table(title="First rows", title_justify="left", header_style="bold")
        for name in ("source", "read", "kept", "rejected", "holds"):
            table.add_column(name, justify="right" if name in ("read", "kept") else "left", overflow="fold")
        for one in self.sources:
            reasons = "\n".join(f"{reason} {count:,}" for reason, count in one.rejected.most_common())
            table.add_row(f"{one.table}: {one.path}", f"{one.num_read:,}", f"{one.num_kept:,}", reasons or "none",
                          one.contents())  # fmt: skip
        parts: list[RenderableType] = [table]
        for one in self.sources:
            for reason, raw in one.examples.items():
                parts.append(Text(f"{reason} in {one.path}: {raw[:_EXAMPLE_WIDTH]}", style="dim"))
        parts += [Text(f"warning: {warning}", style="yellow") for warning in self.warnings()]
        return Group(*parts, Text(self.headline()))


def check(config: Config, num_rows: int = NUM_ROWS) -> Check:
    """Reads the first rows of every source.

    Args:
        config: of the run.
        num_rows: about how many rows of each source are read.

    Raises:
        ConfigError: a time of the configuration that is not ISO 8601.
        DataError: a source cannot be used.
    """
    began = time.perf_counter()
    plan = sources.plan(config.data)
    latest = config.prepare.latest_time
    latest_us = (parse_instant(latest, "prepare.latest_time") if latest else int(time.time() * 1e6)) + DAY_US
    made: dict[tuple[str, int], SourceCheck] = {}
    for chunk in plan.chunks:
        source = sources.sources_of(config.data, chunk.table)[chunk.source]
        one = made.setdefault(
            (chunk.table, chunk.source), SourceCheck(chunk.table, chunk.source, source.path or source.sql)
        )
        if one.num_read >= num_rows:
            continue
        for block in _blocks(config, chunk):
            one.add(canonical(config.data, chunk, _first(block, num_rows - one.num_read), plan.has_time, latest_us))
            if one.num_read >= num_rows:
                break
    return Check(list(made.values()), time.perf_counter() - began)


def _blocks(config: Config, chunk: Chunk) -> Iterator[Block]:
    if not chunk.path:
        source = sources.sources_of(config.data, chunk.table)[chunk.source]
        return sql_blocks(source.sql, address_of(source))
    if chunk.parts:  # a long table, by the beginning of its first file
        first = chunk.parts[0]
        chunk = replace(chunk, parts=(_beginning(config, first),))
    return read(config.data, _beginning(config, chunk))


def _beginning(config: Config, chunk: Chunk) -> Chunk:
    """The first bytes of a plain text file; other chunks as they are."""
    if chunk.end is None or sources.sources_of(config.data, chunk.table)[chunk.source].format == "parquet":
        return chunk
    return replace(chunk, end=min(chunk.end, chunk.start + _PLAIN_BYTES))


def _first(block: Block, num_rows: int) -> Block:
    """The first rows of a block, and the rows up to there that could not be read."""
    if block.frame.height <= num_rows:
        return block
    last = int(block.row[num_rows - 1])
    bad = [place for place, row in enumerate(block.bad_row) if row <= last]
    return replace(
        block,
        frame=block.frame.head(num_rows),
        row=block.row[:num_rows],
        bad_row=[block.bad_row[place] for place in bad],
        bad_raw=[block.bad_raw[place] for place in bad],
        bad_reason=[block.bad_reason[place] for place in bad],
    )
