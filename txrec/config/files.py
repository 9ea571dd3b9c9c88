"""Configuration of a shop's files: sources, columns, times, joins and rules."""

import codecs
import difflib
import zoneinfo
from functools import cache
from typing import Literal, Self

import polars as pl
from pydantic import Field, model_validator

from txrec.config.section import Section
from txrec.schema import ITEMS, MARKET_COLUMNS, EventKind


@cache
def _time_zones() -> frozenset[str]:
    """IANA names; listing them reads hundreds of files."""
    return frozenset(zoneinfo.available_timezones())


class TimeConfig(Section):
    """Format of a source's times."""

    format: str = "iso"
    """`iso`, `s`, `ms`, `us`, `ns` (numbers since 1970 UTC), `d` (days since 1970), `excel` (days since 1899-12-30, as
    spreadsheets count them), or a strptime pattern such as `%d/%m/%Y %H:%M`."""
    zone: str = "UTC"
    """Time zone of times that carry none (IANA name)."""
    clock: str = ""
    """Source column of the time of day, where the column of `ts` holds the day alone (`14:05:09`, or a number of
    `clock_unit` since midnight)."""
    clock_unit: Literal["s", "ms"] = "s"
    """Unit of a `clock` of numbers."""

    @model_validator(mode="after")
    def _known_zone(self) -> Self:
        if self.zone not in _time_zones():
            near = difflib.get_close_matches(self.zone, _time_zones(), 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"time.zone = {self.zone!r} is no IANA time zone such as Europe/Berlin or Etc/GMT-1{hint}")
        return self


def _check_text(delimiter: str, encoding: str) -> None:
    """Refuses delimiters and encodings that no text file can have."""
    if not delimiter or set(delimiter) & {"\n", "\r", '"'} or (len(delimiter) == 1 and not delimiter.isascii()):
        raise ValueError(
            f"delimiter = {delimiter!r}: expected one ASCII character such as ',' or '\\t', or several characters, "
            "without quotes and line breaks"
        )
    try:
        codecs.lookup(encoding)
        b"\xff".decode(encoding, errors="replace")
    except (LookupError, ValueError):
        raise ValueError(f"encoding = {encoding!r} is no text encoding; try utf-8, latin-1 or cp1252") from None


class JoinConfig(Section):
    """A second file whose columns are added to a source's rows by an equal key.

    A column that the source's own file has too is called `NAME:joined`. The file may be that of the source itself.
    """

    path: str
    """File, relative to `data.root`."""
    format: Literal["csv", "jsonl", "parquet"] = "csv"
    """csv covers TSV and any delimiter; fields of objects of the others are `outer.inner`."""
    delimiter: str = ","
    """csv: column delimiter; several characters are allowed."""
    header: bool = True
    """csv: true where the first line names the columns."""
    names: tuple[str, ...] = ()
    """csv: column names where there is no header."""
    encoding: str = "utf-8"
    """Text encoding."""
    ragged: bool = False
    """csv: true where rows may lack fields at their end, which are then empty."""
    multiline: bool = False
    """csv: true where quoted fields may hold line breaks."""
    on: tuple[str, str]
    """(column of the source, column of this file)."""
    required: bool = True
    """Rows without a match are rejected; otherwise their joined columns stay empty."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        _check_text(self.delimiter, self.encoding)
        return self


class LongConfig(Section):
    """Long rows: a product or a user, a property and its value. A property is then a column of its own name."""

    property: str
    """Source column of the property's name."""
    value: str
    """Source column of its value."""
    time: str = ""
    """Source column of the time from which on a value holds (format: `time` of the source); the latest value counts.
    Empty = the first one does."""
    until: str = ""
    """Later values are passed over, ISO 8601 UTC; empty = none. Set it to the beginning of a test window that must know
    nothing of later changes."""


class SplitTextConfig(Section):
    """Lists inside a text (`P1,P2`, `;P1;1;9.99,;P2;2;3.50`, `["P1", "P2"]`), whose elements become rows."""

    column: str
    """Source column of the lists."""
    separator: str = Field(",", min_length=1)
    """Between elements; a text that is a JSON array is read as such."""
    fields: str = ""
    """Between the fields of an element; empty = an element is one value."""
    names: tuple[str, ...] = ()
    """Names of the fields, or keys of JSON objects: with column `list` the field `sku` is the column `list.sku`.
    Empty = an element is one value, in the column itself."""


class RuleConfig(Section):
    """A row that matches is rejected."""

    column: str
    """Source column."""
    matches: str = ""
    """Regular expression that is searched in the value."""
    below: float | None = None
    """Or: least allowed number."""
    reason: Literal["cancellation", "negative_quantity", "not_a_product", "excluded_by_rule"] = "excluded_by_rule"
    """Reason in the quarantine and the report."""

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if bool(self.matches) == (self.below is not None):
            raise ValueError(f"the rule on column {self.column!r} needs either matches or below")
        if self.matches:
            try:
                pl.Series([""]).str.contains(self.matches)
            except pl.exceptions.PolarsError as error:
                why = next(
                    (line for line in str(error).splitlines() if line.startswith("error: ")), "it cannot be read"
                )
                raise ValueError(
                    f"matches = {self.matches!r} of the rule on column {self.column!r} is no regular expression: {why}"
                ) from None
        return self


class SourceConfig(Section):
    """One raw table and how its columns become canonical ones. No code is needed to read a shop's log."""

    path: str = ""
    """File, directory or glob relative to `data.root`, or an absolute or `s3://` URI.
    .gz, .zip, .zst and .tgz are read as they lie."""
    sql: str = ""
    """Instead of a path: a SELECT statement. One worker holds its whole result: read a table of many millions of rows
    through several sources, e.g. one a month."""
    connection_env: str = ""
    """Environment variable that holds the connection string of `sql` (`postgresql://...`,
    `sqlite:///file`)."""
    format: Literal["csv", "jsonl", "parquet", "sequence_text", "json_map"] = "csv"
    """csv covers TSV and any delimiter. sequence_text: a line is a user and their items in order, by spaces.
    json_map: one JSON object, key to list of values."""
    delimiter: str = ","
    """csv: column delimiter; several characters are allowed (`::`)."""
    quoting: bool = True
    """csv: whether `"` quotes fields."""
    escape: str = Field("", max_length=1)
    """csv: character that escapes a quote inside quotes, where that is not a doubled quote, e.g. a backslash."""
    multiline: bool = False
    """csv: whether quoted fields may hold line breaks; a file is then read as one stream, not in ranges."""
    header: bool = True
    """csv: whether the first line names the columns."""
    names: tuple[str, ...] = ()
    """csv: the column names where there is no header."""
    skip_lines: int = Field(0, ge=0)
    """csv: lines before the header (titles, dates of the export)."""
    comment: str = ""
    """csv: lines that begin with this are no rows, e.g. `#`."""
    ragged: bool = False
    """csv: whether rows may lack fields at their end, which are then empty; otherwise such rows are rejected."""
    rows: tuple[str, ...] = ()
    """jsonl, parquet: lists of a record whose elements become rows (`order.lines`); several lists stand side by
    side. jsonl: a list within the elements of another one is named after it (`["visits", "visits.products"]`)."""
    embedded: tuple[str, ...] = ()
    """Fields that hold a JSON object as text, outer ones first: `value` makes `value.user` a column."""
    pairs: tuple[str, ...] = ()
    """jsonl, parquet: lists of keys with values: with `params` the term of `[{"key": "term", "value": "lamp"}]` is the
    column `params.term`."""
    split: SplitTextConfig | None = None
    """csv, parquet: a column of texts that hold lists, e.g. of the products of an order."""
    long: LongConfig | None = None
    """items, users: rows of a product or user, a property and its value, which become one row per product or user."""
    encoding: str = "utf-8"
    """Text encoding of the file."""
    columns: dict[str, str] = {}
    """Canonical column = source column. Columns not named here that already have a canonical name map to themselves."""
    missing: dict[str, tuple[str, ...]] = {}
    """Canonical column = words that stand for no value in it, whatever their case (`user_id = ["0", "guest"]`).
    They replace the usual ones (`NA`, `null`, `-1` and the like for users, `N/A` and the like elsewhere)."""
    decimal: Literal["", ".", ","] = ""
    """Decimal mark of prices and values; empty = detected from those that can be read in one way only (`19,90`)."""
    constants: dict[str, str] = {}
    """Canonical column = one value for all rows."""
    values: dict[str, dict[str, str]] = {}
    """Canonical column = {raw value = canonical value}, e.g. event names."""
    time: TimeConfig = TimeConfig()
    """Format of `ts`."""
    category_separator: str = ""
    """Splits one category string into a path, e.g. `|` or ` > `."""
    categories_separator: str = ""
    """items: stands between several category paths in one field, e.g. `, ` in `Home > Lamps, New`. The longest path
    counts, of equals the first."""
    attributes: tuple[str, ...] = ()
    """items: source columns kept as attributes; lists are joined by `|`."""
    prices: dict[str, str] = {}
    """items: store or country = source column of the price there, where prices differ (`{ vienna = "price_vie" }`)."""
    stock: dict[str, str] = {}
    """items: store or country = source column of the stock there: a number of pieces, or a word of availability."""
    context: tuple[str, ...] = ()
    """events: source columns kept as circumstances of the event, e.g. device, store, country."""
    properties: tuple[str, ...] = ()
    """users: source columns kept as properties, e.g. country, tier."""
    segment_separator: str = "|"
    """users: splits one string of segments."""
    join: tuple[JoinConfig, ...] = ()
    """Files joined to the rows before mapping."""
    reject: tuple[RuleConfig, ...] = ()
    """Rules for rows that are no events; the first that applies gives the reason."""

    @model_validator(mode="after")
    def _has_lists(self) -> Self:
        if self.rows and self.format not in ("jsonl", "parquet"):
            raise ValueError(f"rows = {list(self.rows)} names lists, which format = {self.format!r} cannot hold")
        inner = [name for name in self.rows if any(name.startswith(f"{outer}.") for outer in self.rows)]
        if inner and self.format != "jsonl":
            raise ValueError(f"rows: {inner[0]!r} is a list within a list, which needs format = 'jsonl'")
        for key, formats in (("embedded", ("csv", "jsonl", "parquet")), ("pairs", ("jsonl", "parquet"))):
            if getattr(self, key) and (self.format not in formats or self.sql):
                listed = " or ".join(formats)
                raise ValueError(f"{key} = {list(getattr(self, key))} needs a file of format {listed}")
        if self.split is not None and (self.format not in ("csv", "parquet") or self.sql or self.long is not None):
            raise ValueError(
                "split needs a file of format csv or parquet without long; lists of jsonl are named in rows"
            )
        if self.long is not None and (self.sql or self.format in ("sequence_text", "json_map")):
            raise ValueError("long needs rows of a file of format csv, jsonl or parquet")
        return self

    @model_validator(mode="after")
    def _known_events(self) -> Self:
        known = [kind.name.lower() for kind in EventKind]
        words = {f"values.event.{word}": kind for word, kind in self.values.get("event", {}).items()}
        words |= {"constants.event": self.constants["event"]} if "event" in self.constants else {}
        for key, kind in words.items():
            mapped = self.values.get("event", {}).get(kind, kind) if key == "constants.event" else kind
            if mapped not in known:
                near = difflib.get_close_matches(mapped, known, 1, 0.6)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{key} = {kind!r} is no kind of event; allowed are {', '.join(known)}{hint}")
        return self

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.path) == bool(self.sql):
            raise ValueError("a source needs either path or sql")
        if self.sql and not self.connection_env:
            raise ValueError(
                "a source with sql needs connection_env, the name of a variable with the connection string"
            )
        if self.format == "csv" and not self.sql and not self.header and not self.names:
            raise ValueError("a source without header needs names")
        _check_text(self.delimiter, self.encoding)
        if self.escape in ('"', "\n", "\r") or "\n" in self.comment:
            raise ValueError("escape cannot be a quote, and neither escape nor comment can hold a line break")
        if self.multiline and not (self.format == "csv" and self.quoting):
            raise ValueError(
                "multiline needs format csv with quoting: a line break inside a field must stand in quotes"
            )
        return self


class ShopConfig(Section):
    """The built-in generated shop: raw files with a known true preference, written under `data.root`."""

    seed: int = 7
    """Seed of the shop; everything about it follows from this number."""
    num_items: int = Field(2_400, ge=50)
    """Products."""
    num_users: int = Field(5_000, ge=10)
    """Users with stable tastes."""
    num_events: int = Field(200_000, ge=500)
    """Least number of events (views, searches, clicks, carts, purchases)."""
    days: int = Field(60, ge=10)
    """Time span of the log, days."""
    taste_groups: int = Field(0, ge=0, le=50)
    """Groups of users whose tastes are alike; `users.csv` declares them as the property `style`. 0 = every user has
    tastes of their own, and there is no such file."""
    taste_share: float = Field(0.7, ge=0, le=1)
    """With groups: share of a user's tastes that are those of the group."""


class DataConfig(Section):
    """Places of the raw tables."""

    root: str = "data"
    """The folder above the data sets; relative source paths start here. Local or s3://."""
    shop: ShopConfig | None = None
    """Set: `prepare` first writes the generated shop's raw files under `data.root`."""
    events: tuple[SourceConfig, ...] = ()
    """Event sources."""
    items: tuple[SourceConfig, ...] = ()
    """Catalogue sources."""
    users: tuple[SourceConfig, ...] = ()
    """Sources of users: properties and segments that the shop knows next to the log."""
    items_from_events: dict[str, str] = {}
    """Canonical item column = source column of the event or judgment rows, where the log carries product fields.
    An item gets the value most frequent in training."""
    judgments: tuple[SourceConfig, ...] = ()
    """Graded (query, item) sources."""
    slates: str = ""
    """Served slates as `txrec export-events --impressions` writes them: file, folder or glob, relative to `data.root`.
    With them the ranker's clicks are weighted against position bias; empty = none."""

    @model_validator(mode="after")
    def _known_item_columns(self) -> Self:
        known = [name for name in ITEMS.names if name not in ("item_id", "attributes", *MARKET_COLUMNS)]
        for name in self.items_from_events:
            if name not in known:
                raise ValueError(f"items_from_events: {name!r} is no column of items; known are {', '.join(known)}")
        return self
