"""User sequences: one row per user with the lists of schema.SEQUENCES, built from flat columns and offsets."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from txrec import schema
from txrec.data.preparation.vocab import dense_idx

SESSION = pa.field("session", pa.list_(pa.int32()))
"""Written next to the columns of schema.SEQUENCES: the session of every event, from 0 for each user."""


def to_sequences(events: pa.Table, item_ids: pa.Array, queries: pa.Array) -> pa.Table:
    """Groups flat events by user.

    Args:
        events: `user_id`, `item_id`, `query` dictionary-encoded, `event`, `ts`, `value`, `split`, `session`; a user's
            events side by side, oldest first; circumstances as `context:NAME`.
        item_ids: item_ids[i] has item_idx i + 1.
        queries: queries[i] has query_idx i + 1.

    Returns:
        schema.SEQUENCES with SESSION and the circumstances as lists of texts, users in the order of `events`.
    """
    events = events.combine_chunks()
    columns = {name: _whole(events[name]) for name in events.column_names}
    user = np.asarray(columns["user_id"].indices)
    starts = np.flatnonzero(np.concatenate([[True], user[1:] != user[:-1]])) if len(user) else np.empty(0, np.int64)
    offsets = pa.array(np.append(starts, len(user)), pa.int32())
    flat = {
        "item_idx": dense_idx(columns["item_id"], item_ids),
        "query_idx": dense_idx(columns["query"], queries),
        "event": columns["event"].cast(pa.int8()),
        "ts": columns["ts"],
        "value": pc.fill_null(columns["value"], 0.0),
        "split": columns["split"].cast(pa.int8()),
        "session": columns["session"],
    }
    context = {name: columns[name].cast(pa.string()) for name in columns if name.startswith("context:")}
    user_ids = columns["user_id"].take(pa.array(starts)).cast(pa.string())
    lists = {name: pa.ListArray.from_arrays(offsets, values) for name, values in (flat | context).items()}
    fields = [*schema.SEQUENCES.append(SESSION), *(pa.field(name, pa.list_(pa.string())) for name in context)]
    return pa.table({"user_id": user_ids, **lists}, schema=pa.schema(fields))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
