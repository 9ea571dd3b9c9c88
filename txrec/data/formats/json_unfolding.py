"""JSON inside JSON: texts that hold an object, and lists of key and value pairs, as fields of their record.

Message queues wrap a record as text, so that `value` holds `'{"user": 1}'`; analytics list parameters as pairs, so that
`event_params` holds `[{"key": "search_term", "value": {"string_value": "lamp"}}]`. They become `value.user` and
`event_params.search_term`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from txrec.data.formats.text_tables import Lines

_KEYS, _VALUES = ("key", "name"), ("value",)


def unfolded(lines: Lines, embedded: Sequence[str], pairs: Sequence[str]) -> Lines:
    """Lines whose records have objects instead of texts and of lists of pairs; what is neither stays as it is.

    Args:
        lines: one record per line; a line that is no object stays as it is.
        embedded: fields (`outer.inner`) with JSON texts, outer ones first.
        pairs: fields with lists of pairs.
    """
    if not embedded and not pairs:
        return lines
    made = (_unfolded_line(lines.at(index), embedded, pairs) for index in range(len(lines)))
    return Lines.of(b"".join(line + b"\n" for line in made))


def _unfolded_line(line: bytes, embedded: Sequence[str], pairs: Sequence[str]) -> bytes:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(record, dict):
        return line
    unfold(record, embedded, pairs)
    return json.dumps(record, ensure_ascii=False).encode(errors="replace")


def unfold(record: dict[str, Any], embedded: Iterable[str], pairs: Iterable[str]) -> None:
    """Replaces texts and lists of pairs of a record by objects, in place."""
    for names, change in ((embedded, object_of_text), (pairs, object_of_pairs)):
        for name in names:
            holder, last = _holder(record, name)
            if holder is not None and last in holder:
                holder[last] = change(holder[last])


def _holder(record: dict[str, Any], name: str) -> tuple[dict[str, Any] | None, str]:
    *outer, last = name.split(".")
    holder: Any = record
    for part in outer:
        holder = holder.get(part) if isinstance(holder, dict) else None
    return (holder if isinstance(holder, dict) else None), last


def object_of_text(value: Any) -> Any:
    """The object or list that a text holds; the value itself where it is none."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def object_of_pairs(value: Any) -> Any:
    """The object of a list of pairs; of a key that comes again the first value counts."""
    if not is_pairs(value):
        return value
    made: dict[str, Any] = {}
    for pair in value:
        key = next(pair[name] for name in _KEYS if name in pair)
        made.setdefault(str(key), _value_of(next(pair[name] for name in _VALUES if name in pair)))
    return made


def is_pairs(value: Any) -> bool:
    """True for a list of objects of a key and a value."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and len(one) <= 3 and _has(one, _KEYS) and _has(one, _VALUES) for one in value)
    )


def _has(pair: Mapping[str, Any], names: Iterable[str]) -> bool:
    return sum(name in pair for name in names) == 1


def _value_of(value: Any) -> Any:
    """A value, or the one that is there of those by type (`string_value`, `int_value`)."""
    if isinstance(value, dict) and value and all(name.endswith(("_value", "Value")) for name in value):
        return next((one for one in value.values() if one is not None), None)
    return value


def unfolded_columns(frame: pl.DataFrame, fields: Sequence[str], names: Iterable[str]) -> pl.DataFrame:
    """A frame with the inner fields of columns of JSON texts, or of lists of pairs, as columns of text.

    Args:
        frame: N rows.
        fields: columns of JSON texts or lists of pairs.
        names: inner fields that are wanted (`outer.inner`); those that a row lacks are null.
    """
    made = []
    for name in names:
        outer = next((one for one in fields if name.startswith(f"{one}.") and one in frame.columns), None)
        objects = [None] * frame.height if outer is None else frame[outer].to_list()
        path = name[len(outer or "") + 1 :].split(".")
        made.append(pl.Series(name, [_inner(one, path) for one in objects], dtype=pl.String))
    return frame.with_columns(made)


def _inner(value: Any, path: Sequence[str]) -> str | None:
    value = object_of_pairs(object_of_text(value))
    for name in path:
        value = object_of_pairs(object_of_text(value.get(name))) if isinstance(value, dict) else None
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def inner_names(values: Iterable[Any], field: str) -> list[str]:
    """Names of the inner fields (`field.inner`) of JSON texts or lists of pairs."""
    objects = [one for value in values if isinstance(one := object_of_pairs(object_of_text(value)), dict)]
    return list(dict.fromkeys(f"{field}.{name}" for one in objects for name, _ in leaves(one)))


def embedded_fields(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Fields that hold an object as text in most records that have them."""
    return [
        name
        for name, values in _fields(records).items()
        if sum(isinstance(object_of_text(one), dict) and isinstance(one, str) for one in values) > len(values) / 2
    ]


def pair_fields(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Fields that hold lists of pairs wherever they hold anything."""
    return [
        name
        for name, values in _fields(records).items()
        if any(is_pairs(one) for one in values) and all(is_pairs(one) or one == [] for one in values)
    ]


def _fields(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {}
    for record in records:
        for name, value in leaves(record):
            if value is not None:
                made.setdefault(name, []).append(value)
    return made


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields of a record that hold no object, by their whole names (`outer.inner`)."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
