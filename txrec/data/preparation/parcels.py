"""Parcels: small numbers of rows that each carry a whole Arrow table, so that tables of many kinds share one schema.

    kind      number                      payload
    events    place of its first row      a partition's cleaned events, oldest first per user     (`histories`)
    rejected  place of its first row      rejected rows, canonical.QUARANTINE
    items, judgments, users   likewise    canonical rows of a block
    counts:*  0                           rows per item, query or product field                    (`histories`)
    figures:* 0                           one JSON object

A payload is an Arrow IPC stream: dictionary-encoded columns keep their dictionaries, and reading it copies nothing.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc

PARCELS = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("payload", pa.large_binary(), nullable=False),
    ]
)
FIGURES = "figures:"


def pack(kind: str, number: int, table: pa.Table) -> pa.Table:
    """A table as one parcel."""
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return _parcel(kind, number, sink.getvalue())


def pack_figures(name: str, figures: dict[str, Any]) -> pa.Table:
    """Plain figures as one parcel of kind `figures:NAME`."""
    return _parcel(FIGURES + name, 0, pa.py_buffer(json.dumps(figures).encode()))


def _parcel(kind: str, number: int, payload: pa.Buffer) -> pa.Table:
    offsets = pa.array([0, payload.size], pa.int64()).buffers()[1]
    column = pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, payload])
    return pa.table([pa.array([kind]), pa.array([number], pa.int64()), column], schema=PARCELS)


def together(parcels: Iterable[pa.Table]) -> pa.Table:
    """Parcels under one another; an empty table for none."""
    return pa.concat_tables([PARCELS.empty_table(), *parcels])


def tables(parcels: pa.Table, kind: str) -> list[tuple[int, pa.Table]]:
    """(number, table) of every parcel of a kind, by number: the order does not depend on who made them when."""
    rows = parcels.filter(pc.equal(parcels["kind"], kind)) if parcels.num_rows else parcels
    loaded = [
        (number.as_py(), ipc.open_stream(payload.as_buffer()).read_all())
        for number, payload in zip(rows["number"], rows["payload"], strict=True)
    ]
    return sorted(loaded, key=lambda pair: pair[0])


def unpack(parcels: pa.Table, kind: str) -> pa.Table | None:
    """All tables of a kind under one another, by number; None where there is none."""
    loaded = [table for _, table in tables(parcels, kind)]
    return pa.concat_tables(loaded) if loaded else None


def figures(parcels: pa.Table, name: str) -> list[dict[str, Any]]:
    """The figures of a name, one entry per parcel."""
    rows = parcels.filter(pc.equal(parcels["kind"], FIGURES + name))
    return [json.loads(payload.as_py()) for payload in rows["payload"]]


def only(parcels: pa.Table, *prefixes: str) -> pa.Table:
    """The parcels whose kind begins with one of the prefixes."""
    kinds = parcels["kind"].to_pylist()
    return parcels.filter(pa.array([kind.startswith(prefixes) for kind in kinds], pa.bool_()))


def each(parcels: pa.Table, kind: str, function: Callable[[int, pa.Table], Sequence[pa.Table]]) -> pa.Table:
    """The parcels with those of one kind replaced by whatever the function makes of each."""

    def replaced() -> Iterator[pa.Table]:
        yield parcels.filter(pc.not_equal(parcels["kind"], kind))
        for number, table in tables(parcels, kind):
            yield from function(number, table)

    return together(replaced())
