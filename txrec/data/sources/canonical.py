"""Canonical events, items, judgments and users from raw columns; a row that cannot become one gets its `Reason`.

Events come out with the columns of `EVENT_COLUMNS`: times as int64 microseconds (0 = the log has none), kinds as
`EventKind` codes, queries in their normal form, and `origin`, the row's place in the input, which breaks ties of time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa

from txrec.config import DataConfig, RuleConfig, SourceConfig
from txrec.data.formats import values
from txrec.data.formats.blocks import Block
from txrec.data.formats.times import times
from txrec.data.sources.raw_columns import (
    column_of,
    known_text,
    normalised,
    number_of,
    refuse_objects,
    text_of,
    with_constants,
    with_values,
    without_missing,
)
from txrec.data.sources.remarks import Remarks
from txrec.data.sources.sources import Chunk, file_columns, mapping, sources_of
from txrec.schema import EVENT_CODES, EventKind, Reason

ORIGIN_SHIFT = 40
"""origin = chunk number << 40 | row within the chunk."""
EVENT_COLUMNS: dict[str, pl.DataType] = {
    "user_id": pl.String(),
    "ts": pl.Int64(),
    "event": pl.Int8(),
    "item_id": pl.String(),
    "query": pl.String(),
    "session_id": pl.String(),
    "request_id": pl.String(),
    "value": pl.Float32(),
    "origin": pl.Int64(),
}
QUARANTINE = pa.schema([("origin", pa.int64()), ("raw", pa.string()), ("reason", pa.string())])
"""A rejected row while row numbers are still counted within chunks."""
_REASONS = list(Reason)


@dataclass(frozen=True, eq=False)
class Canonical:
    """A block in canonical columns."""

    frame: pl.DataFrame
    rejected: pa.Table
    """QUARANTINE."""
    num_read: int
    """Rows in = frame.height + rejected.num_rows."""
    remarks: Remarks
    """Matches between the declaration and the values."""


def canonical(data: DataConfig, chunk: Chunk, block: Block, has_time: bool, latest_us: int) -> Canonical:
    """Turns a block of any table into its canonical columns.

    Args:
        data: the configured sources.
        chunk: where the block comes from.
        block: raw columns.
        has_time: whether events of this log have times.
        latest_us: later times are in the future, microseconds since 1970.
    """
    source = sources_of(data, chunk.table)[chunk.source]
    columns = mapping(source, chunk.table, [*chunk.columns, *block.frame.columns])  # a JSON block may lack fields
    carried_names = data.items_from_events if chunk.table in ("events", "judgments") else {}
    remarks = Remarks.of(block, source, {**carried_names, **source.columns})
    raw = without_missing(with_values(with_constants(block.frame, source, columns), source, columns), source, columns)
    if chunk.table == "events":
        frame, checks = _events(raw, source, columns, has_time, latest_us)
    elif chunk.table == "items":
        frame, checks = _items(raw, source, columns)
        remarks.add_availability(known_text(raw, "available", source, columns))
        for name in source.stock.values():
            text = values.without(text_of(raw, name), values.NOTHING)
            remarks.add_availability(text.filter(text.cast(pl.Float64, strict=False).is_null()))
    elif chunk.table == "users":
        frame, checks = _users(raw, source, columns)
    else:
        frame, checks = _judgments(raw, source, columns)
    if chunk.table in ("events", "judgments"):
        carried = {
            f"item:{name}": _carried(raw, name, column, source) for name, column in data.items_from_events.items()
        }
        if chunk.table == "events":
            names = dict.fromkeys(name for one in data.events for name in one.context)
            carried |= {f"context:{name}": _context(raw, name if name in source.context else None) for name in names}
        frame = frame.with_columns(**carried)
        if chunk.table == "events" and has_time:
            late = [hit for reason, hit in checks if reason in (Reason.UNPARSABLE_TIME, Reason.FUTURE_TIME)]
            remarks.add_times(column_of(raw, columns["ts"]).filter(late[0] | late[1]), source.time)
    rules = _rules(raw, source.reject)
    remarks.add_rules(source, rules)
    missing = [check for check in checks if _is_missing(check)]  # they are named before configured rules
    checks = [
        *_repeated_header(block.frame, chunk, source),
        *missing,
        *rules,
        *(check for check in checks if not _is_missing(check)),
    ]
    frame = frame.with_columns(origin=pl.Series(block.row + (chunk.number << ORIGIN_SHIFT), dtype=pl.Int64))
    return _split_valid_rejected(frame, checks, chunk, block, remarks)


CATEGORY_JOINT = "\x1f"
"""Separator of the parts of a category path that an event row carries."""


def _carried(raw: pl.DataFrame, name: str, column: str, source: SourceConfig) -> pl.Series:
    """A product field of event rows in one form of text: numbers and booleans as polars casts them back."""
    if name == "category":
        path = _category(raw, column, source.category_separator, source.categories_separator).list.join(CATEGORY_JOINT)
        return path.set((path == "").fill_null(value=False), None)
    if name == "price":
        return number_of(raw, column)[0].cast(pl.String)
    text = values.plain_text(values.without(text_of(raw, column), values.NOTHING))
    if name == "available":
        known, unknown = values.availability(text)
        return known.cast(pl.String).set(unknown | text.is_null(), None)
    return text


def _context(raw: pl.DataFrame, name: str | None) -> pl.Series:
    """A circumstance of events as text, null where a row does not tell it."""
    return values.whole_ids(values.without(text_of(raw, name), values.NOTHING))


_Check = tuple[Reason, pl.Series]


def _repeated_header(raw: pl.DataFrame, chunk: Chunk, source: SourceConfig) -> list[_Check]:
    """Mask of rows that hold the names of the columns, in files put under one another; nothing where there are none."""
    names = [name for name in file_columns(chunk) if name in raw.columns and raw.schema[name] == pl.String]
    if source.format != "csv" or not source.header or source.long is not None or len(names) < 2:
        return []
    first = (raw[names[0]].str.strip_chars() == names[0]).fill_null(value=False)
    if not first.any():
        return []
    every = raw.select(
        pl.all_horizontal((pl.col(name).str.strip_chars() == name).fill_null(value=False) for name in names)
    )
    return [(Reason.REPEATED_HEADER, every.to_series())]


def _is_missing(check: _Check) -> bool:
    """True where a check is that of a missing id."""
    return check[0].value.startswith("missing_")


def _events(
    raw: pl.DataFrame, source: SourceConfig, columns: Mapping[str, str], has_time: bool, latest_us: int
) -> tuple[pl.DataFrame, list[_Check]]:
    kind = _kinds(raw, columns["event"], source.values.get("event", {}))
    known = partial(known_text, raw, source=source, columns=columns)
    session = known("session_id")
    user = known("user_id").fill_null(session)
    item, query = known("item_id"), normalised(known("query"))
    value, no_number = number_of(raw, columns.get("value"), source.decimal)
    frame = pl.DataFrame(
        {
            "user_id": user,
            "ts": pl.Series([0], dtype=pl.Int64).new_from_index(0, raw.height),
            "event": kind,
            "item_id": item,
            "query": query,
            "session_id": session,
            "request_id": known("request_id"),
            "value": value,
        }
    )
    search = kind == int(EventKind.SEARCH)
    checks = [
        (Reason.MISSING_USER, frame["user_id"].is_null()),
        (Reason.MISSING_ITEM, item.is_null() & ~search & kind.is_not_null()),
        (Reason.MISSING_QUERY, query.is_null() & search),
        (Reason.UNKNOWN_EVENT, kind.is_null()),
    ]
    if has_time:
        refuse_objects(raw, columns["ts"], "times")
        clock = column_of(raw, source.time.clock) if source.time.clock else None
        ts = times(column_of(raw, columns["ts"]), source.time, clock)
        frame = frame.with_columns(ts=ts)
        checks += [(Reason.UNPARSABLE_TIME, ts.is_null() | (ts <= 0)), (Reason.FUTURE_TIME, ts > latest_us)]
    checks.append((Reason.UNPARSABLE_VALUE, no_number))
    # a bare search has no item
    return frame.with_columns(item_id=item.set(search.fill_null(value=False), None)), checks


def _kinds(raw: pl.DataFrame, name: str, values: Mapping[str, str]) -> pl.Series:
    codes: dict[str, int] = dict(EVENT_CODES)
    codes.update({word: EVENT_CODES[label] for word, label in values.items() if label in EVENT_CODES})
    words = text_of(raw, name)
    lower = {word.lower(): code for word, code in codes.items()}
    code_of = {word: codes.get(word, lower.get(word.lower())) for word in words.unique().drop_nulls()}
    return words.replace_strict(code_of, default=None, return_dtype=pl.Int8)


def _items(raw: pl.DataFrame, source: SourceConfig, columns: Mapping[str, str]) -> tuple[pl.DataFrame, list[_Check]]:
    known = partial(known_text, raw, source=source, columns=columns)
    price, no_number = number_of(raw, columns.get("price"), source.decimal)
    frame = pl.DataFrame(
        {
            "item_id": known("item_id"),
            "title": values.plain_text(known("title")),
            "description": values.plain_text(known("description")),
            "brand": values.plain_text(known("brand")),
            "category": _category(raw, columns.get("category"), source.category_separator, source.categories_separator),
            "price": price,
            "available": _availability(known("available")),
            "attributes": _pairs(raw, source.attributes),
            "stock": _by_store({store: _stock(raw, name) for store, name in source.stock.items()}, raw.height),
        }
    )
    checks = [(Reason.MISSING_ITEM, frame["item_id"].is_null()), (Reason.UNPARSABLE_VALUE, no_number)]
    prices = {store: number_of(raw, name, source.decimal) for store, name in source.prices.items()}
    checks += [(Reason.UNPARSABLE_VALUE, bad) for _, bad in prices.values()]
    for name in ("sale_start", "sale_end"):
        text = known(name)
        instant = times(text, source.time) if text.null_count() < len(text) else text.cast(pl.Int64)
        checks.append((Reason.UNPARSABLE_TIME, instant.is_null() & text.is_not_null()))
        frame = frame.with_columns(instant.alias(name))
    by_store = _by_store({store: price for store, (price, _) in prices.items()}, raw.height)
    return frame.with_columns(prices=by_store), checks


def _availability(text: pl.Series) -> pl.Series:
    """Mask of products that can be ordered, null where a row says nothing."""
    return values.availability(text)[0].set(text.is_null(), None)


def _stock(raw: pl.DataFrame, name: str) -> pl.Series:
    """Pieces of a product; words of availability as 1 and 0, null where nothing is said."""
    text = values.without(text_of(raw, name), values.NOTHING)
    number = values.finite(text.cast(pl.Float64, strict=False))
    words = values.availability(text)[0].cast(pl.Float64).set(text.is_null(), None)
    return number.fill_null(words)


def _by_store(columns: Mapping[str, pl.Series], height: int) -> pl.Series:
    """List of {key, value}, a number per store, those without one left out; null where no store is declared."""
    kind = pl.List(pl.Struct({"key": pl.String, "value": pl.Float64}))
    if not columns:
        return pl.Series([None], dtype=kind).new_from_index(0, height)
    fields = [
        pl.struct(key=pl.lit(store), value=pl.lit(number.cast(pl.Float64).round(4)))
        for store, number in columns.items()
    ]
    pairs = pl.select(pl.concat_list(fields).alias("pairs"))["pairs"].cast(kind)
    return pairs.list.eval(pl.element().filter(pl.element().struct.field("value").is_not_null()))


def _category(raw: pl.DataFrame, name: str | None, separator: str, between: str = "") -> pl.Series:
    refuse_objects(raw, name, "names of categories or segments")
    column = column_of(raw, name)
    if isinstance(column.dtype, pl.List):
        path = values.list_of_texts(column)
    else:
        text = text_of(raw, name)
        if between:
            text = _longest_path(text, separator, between)
        path = text.str.split(separator or "\0")  # no text holds NUL
    if path.null_count() == len(path):
        return path.cast(pl.List(pl.String))
    parts = path.list.eval(pl.element().str.strip_chars())
    return parts.list.eval(pl.element().filter((pl.element() != "") & pl.element().is_not_null()))


def _longest_path(text: pl.Series, separator: str, between: str) -> pl.Series:
    """The longest of several category paths in one field, of equals the first."""
    path = pl.element().str.strip_chars()
    parts = path.str.count_matches(separator or "\0", literal=True)
    filled, paths = (path != "").fill_null(value=False), text.str.split(between)
    return paths.list.eval(
        path.filter(filled).sort_by(parts.filter(filled), descending=True, maintain_order=True)
    ).list.first()


def _pairs(raw: pl.DataFrame, names: Sequence[str]) -> pl.Series:
    """List of {key, value}, empty values left out; null where there is none."""
    kind = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
    if not names:
        return pl.Series([None], dtype=kind).new_from_index(0, raw.height)
    fields = []
    for name in names:
        column = column_of(raw, name)
        text = values.list_of_texts(column).list.join("|") if isinstance(column.dtype, pl.List) else text_of(raw, name)
        fields.append(pl.struct(key=pl.lit(name), value=text))
    pairs = raw.select(pl.concat_list(fields).alias("pairs"))["pairs"].cast(kind)
    return pairs.list.eval(pl.element().filter(pl.element().struct.field("value").is_not_null()))


def _users(raw: pl.DataFrame, source: SourceConfig, columns: Mapping[str, str]) -> tuple[pl.DataFrame, list[_Check]]:
    user = known_text(raw, "user_id", source, columns)
    frame = pl.DataFrame(
        {
            "user_id": user,
            "properties": _pairs(raw, source.properties),
            "segments": _category(raw, columns.get("segments"), source.segment_separator),
        }
    )
    return frame, [(Reason.MISSING_USER, user.is_null())]


def _judgments(
    raw: pl.DataFrame, source: SourceConfig, columns: Mapping[str, str]
) -> tuple[pl.DataFrame, list[_Check]]:
    grade, no_number = number_of(raw, columns["grade"])
    item, query = (known_text(raw, name, source, columns) for name in ("item_id", "query"))
    query = normalised(query)
    checks = [
        (Reason.MISSING_ITEM, item.is_null()),
        (Reason.MISSING_QUERY, query.is_null()),
        (Reason.UNPARSABLE_VALUE, no_number | grade.is_null()),
    ]
    return pl.DataFrame({"query": query, "item_id": item, "grade": grade}), checks


def _rules(raw: pl.DataFrame, rules: Sequence[RuleConfig]) -> list[_Check]:
    checks: list[_Check] = []
    for rule in rules:
        if rule.below is None:
            hit = text_of(raw, rule.column).str.contains(rule.matches).fill_null(value=False)
            checks.append((Reason(rule.reason), hit))
        else:
            number, no_number = number_of(raw, rule.column)
            no_number |= values.infinite(column_of(raw, rule.column))
            checks.append((Reason(rule.reason), (number < rule.below).fill_null(value=False)))
            checks.append((Reason.UNPARSABLE_VALUE, no_number))
    return checks


def _split_valid_rejected(
    frame: pl.DataFrame, checks: Sequence[_Check], chunk: Chunk, block: Block, remarks: Remarks
) -> Canonical:
    """Kept rows, and a quarantine entry for every other one."""
    code = pl.Series([None], dtype=pl.Int8).new_from_index(0, frame.height)
    for reason, hit in reversed(checks):  # the first that applies is written last
        code = code.set(hit.fill_null(value=False), _REASONS.index(reason)) if hit.any() else code
    lost = code.is_not_null().arg_true().to_list() if code.null_count() < len(code) else []
    place = np.concatenate([np.asarray(block.bad_row, dtype=np.int64), block.row[lost]])
    words = pa.array([reason.value for reason in _REASONS]).take(code.drop_nulls().cast(pl.Int32).to_arrow())
    rejected = pa.table(
        {
            "origin": pa.array(place + (chunk.number << ORIGIN_SHIFT), pa.int64()),
            "raw": pa.array([*block.bad_raw, *block.raw(lost)], pa.string()),
            "reason": pa.concat_arrays([pa.array(block.bad_reason, pa.string()), words]),
        },
        schema=QUARANTINE,
    )
    kept = frame.filter(code.is_null()) if lost else frame
    return Canonical(kept, rejected, frame.height + len(block.bad_row), remarks)
