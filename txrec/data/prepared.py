"""Prepared tables on disk: the output of `prepare` and the input of every later stage.

    data/
    ├── meta.json            `Meta`
    ├── items.parquet        schema.PREPARED_ITEMS; row i holds item_idx i + 1; trained items first
    ├── queries.parquet      schema.PREPARED_QUERIES; row i holds query_idx i + 1
    ├── sequences/*.parquet  schema.SEQUENCES, `session` (numbers from 0), `context:NAME` (texts); one row per
    │                        user, events oldest first
    ├── analyser.json        the text analyser: languages, the shop's words, its synonyms
    ├── tokenizer.json       fitted on training text (absent where there is no text)
    ├── profiles.parquet     schema.USERS: users that the shop describes (absent without a users table)
    ├── judgments.parquet    schema.JUDGMENTS and `split` (absent without judgments)
    └── rejected/*.parquet   schema.REJECTED

item_idx 1..num_trained_items have training events and so an id embedding; higher ones are cold: known by their
text and category only.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from txrec import schema
from txrec.config import TextConfig
from txrec.data.profiles import StoredProfiles
from txrec.errors import StageError
from txrec.text import Analyser
from txrec.text.analyser import FILE as ANALYSER_FILE


class Meta(BaseModel):
    """Sizes and cuts of a prepared data set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprint: str
    """Changes whenever source files or preparing settings change."""
    num_users: int
    num_items: int
    num_trained_items: int
    """Items 1..num_trained_items have training events."""
    num_queries: int
    num_events: int
    num_categories: int
    """Largest category_idx."""
    num_brands: int
    """Largest brand_idx."""
    num_price_buckets: int
    """Largest price_bucket."""
    has_time: bool
    """False where the log carries no times; ts is then 0 everywhere."""
    split_kind: str
    """global_time or leave_one_out."""
    validation_start_ts: int
    """global_time: first instant of the validation window, microseconds UTC; 0 otherwise."""
    test_start_ts: int
    """global_time: first instant of the test window, microseconds UTC; 0 otherwise."""
    end_ts: int
    """Last instant of the log, microseconds UTC; 0 without times."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """All users' events in flat arrays (ragged rows): user u owns [offsets[u], offsets[u + 1])."""

    user_id: NDArray[np.object_]  # (U,)
    offsets: NDArray[np.int64]  # (U + 1,)
    item_idx: NDArray[np.int32]  # (E,) dense, PAD for a bare search
    query_idx: NDArray[np.int32]  # (E,) dense, PAD for none
    event: NDArray[np.int8]  # (E,) EventKind
    ts: NDArray[np.int64]  # (E,) microseconds, 0 = unknown
    value: NDArray[np.float32]  # (E,)
    split: NDArray[np.int8]  # (E,) Split

    def __len__(self) -> int:
        return len(self.user_id)

    @classmethod
    def from_table(cls, table: pa.Table) -> "Sequences":
        """Reads a table of schema.SEQUENCES without a Python loop over users."""
        table = table.combine_chunks()
        lists = {name: table.column(name).combine_chunks() for name in table.column_names if name != "user_id"}
        first = lists["item_idx"]
        first = first.chunk(0) if isinstance(first, pa.ChunkedArray) else first
        lengths = np.asarray(first.value_lengths().fill_null(0))
        flat = {name: np.asarray(column.flatten()) for name, column in lists.items()}
        return cls(
            user_id=np.asarray(table.column("user_id").to_pandas(), dtype=object),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            **flat,
        )


@dataclass(frozen=True, eq=False)
class EventContext:
    """A circumstance of E events, such as the device."""

    code: NDArray[np.int32]  # (E,) index into `values`, -1 = not known
    values: tuple[str, ...]

    @classmethod
    def of(cls, lists: pa.ChunkedArray) -> "EventContext":
        """Reads lists of texts, one list per user."""
        texts = pc.list_flatten(lists.combine_chunks()).dictionary_encode()
        texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        return cls(np.asarray(pc.fill_null(texts.indices, -1), np.int32), tuple(texts.dictionary.to_pylist()))


@dataclass(frozen=True, eq=False)
class PreparedData:
    """A prepared data set on disk; tables are read on first use."""

    path: Path
    meta: Meta

    @classmethod
    def open(cls, path: Path) -> "PreparedData":
        """Opens a folder that `prepare` wrote.

        Raises:
            StageError: there is none; says which command makes it.
        """
        meta = path / "meta.json"
        if not meta.is_file():
            raise StageError(f"{path}: no prepared data here; run `txrec prepare CONFIG` first")
        return cls(path, Meta.model_validate_json(meta.read_text(encoding="utf-8")))

    @cached_property
    def items(self) -> pa.Table:
        """Catalogue, schema.PREPARED_ITEMS."""
        return pq.read_table(self.path / "items.parquet", schema=schema.PREPARED_ITEMS)

    @cached_property
    def queries(self) -> pa.Table:
        """Distinct normalised queries, schema.PREPARED_QUERIES."""
        return pq.read_table(self.path / "queries.parquet", schema=schema.PREPARED_QUERIES)

    @cached_property
    def sequences(self) -> Sequences:
        """Every user's events; for data that fits in memory. None where there is no log."""
        if not (self.path / "sequences").is_dir():
            return Sequences.from_table(schema.SEQUENCES.empty_table())
        return Sequences.from_table(pq.read_table(self.path / "sequences", schema=schema.SEQUENCES))

    def altered(self, meta: Meta | None = None, **tables: Any) -> "PreparedData":
        """The same with another `meta` and other tables (`items`, `queries`, `sequences`), not read from disk then."""
        other = PreparedData(self.path, meta or self.meta)
        other.__dict__.update(tables)
        return other

    @cached_property
    def profiles(self) -> StoredProfiles | None:
        """Properties and segments of users; None without a users table."""
        return StoredProfiles.read(self.path)

    @cached_property
    def contexts(self) -> dict[str, "EventContext"]:
        """Circumstances of the events of `sequences` by name; empty where the log has none."""
        folder = self.path / "sequences"
        files = sorted(folder.glob("*.parquet"))
        names = [name for name in pq.read_schema(files[0]).names if name.startswith("context:")] if files else []
        table = pq.read_table(folder, columns=names) if names else None
        return {name.removeprefix("context:"): EventContext.of(table[name]) for name in names if table is not None}

    @property
    def judged_only(self) -> bool:
        """True where there are judged pairs and no log."""
        return not self.meta.num_events and (self.path / "judgments.parquet").is_file()

    @cached_property
    def analyser(self) -> Analyser:
        """The shop's text analyser.

        Raises:
            BundleError: its file is missing or of another version.
        """
        return Analyser.open(self.path / ANALYSER_FILE)

    @property
    def tokenizer_path(self) -> Path:
        """The fitted tokenizer (`tokenizers` JSON); may be absent."""
        return self.path / "tokenizer.json"


def training_queries(queries: pa.Table) -> list[str]:
    """Queries of schema.PREPARED_QUERIES that the training part has."""
    texts: list[str] = queries.filter(pc.greater(queries.column("train_count"), 0)).column("query").to_pylist()
    return texts


def write(
    path: Path, meta: Meta, items: pa.Table, queries: pa.Table, sequences: pa.Table, tokenizer_json: str | None = None
) -> PreparedData:
    """Writes a prepared data set from tables in memory (tests, small shops; `prepare` streams its own)."""
    (path / "sequences").mkdir(parents=True, exist_ok=True)
    pq.write_table(items.cast(schema.PREPARED_ITEMS), path / "items.parquet")
    pq.write_table(queries.cast(schema.PREPARED_QUERIES), path / "queries.parquet")
    pq.write_table(sequences.cast(schema.SEQUENCES), path / "sequences" / "part-00000.parquet")
    Analyser.of_catalogue(TextConfig(), items, training_queries(queries)).save(path / ANALYSER_FILE)
    if tokenizer_json is not None:
        (path / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    (path / "meta.json").write_text(meta.model_dump_json(indent=2), encoding="utf-8")
    return PreparedData.open(path)
