"""A prepared data set small enough for unit tests: 60 items, 80 users, times, text and queries.

Items come in six kinds of ten; a user likes one kind and walks through it in order, so that the next item is
predictable from the last one, a query names the kind, and popularity alone says little.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from txrec import schema
from txrec.config import TextConfig
from txrec.data.prepared import Meta, PreparedData, write
from txrec.schema import DAY_US, EventKind, Split

KINDS = ("kettle", "lamp", "drill", "tent", "guitar", "blender")
NUM_PER_KIND = 10
NUM_COLD = 3
START_US = 1_700_000_000_000_000


Buys = Callable[[int, int], bool]
"""Whether a user of a kind buys on a day."""


def tiny_data(
    path: Path,
    num_users: int = 80,
    has_time: bool = True,
    split_kind: str = "global_time",
    buys: Buys = lambda kind, day: day % 3 == 0,
) -> PreparedData:
    """Writes and opens the tiny data set."""
    rng = np.random.default_rng(0)
    sequences = pa.Table.from_pylist([_user(u, rng, has_time, buys) for u in range(num_users)], schema=schema.SEQUENCES)
    items = _items(sequences)
    queries = pa.Table.from_pylist(
        [{"query": kind, "train_count": 40} for kind in KINDS], schema=schema.PREPARED_QUERIES
    )
    meta = Meta(
        fingerprint="tiny",
        num_users=num_users,
        num_items=items.num_rows,
        num_trained_items=items.num_rows - NUM_COLD,
        num_queries=queries.num_rows,
        num_events=sum(len(row) for row in sequences["item_idx"].to_pylist()),
        num_categories=len(KINDS),
        num_brands=2,
        num_price_buckets=4,
        has_time=has_time,
        split_kind=split_kind,
        validation_start_ts=START_US + 8 * DAY_US if has_time else 0,
        test_start_ts=START_US + 9 * DAY_US if has_time else 0,
        end_ts=START_US + 10 * DAY_US if has_time else 0,
    )
    return write(path, meta, items, queries, sequences, _tokenizer(items))


def _user(user: int, rng: np.random.Generator, has_time: bool, buys: Buys) -> dict[str, object]:
    kind = user % len(KINDS)
    start = int(rng.integers(NUM_PER_KIND))
    rows = []
    for day in range(10):  # one visit a day: a search, a click on its answer, sometimes a purchase
        item = kind * NUM_PER_KIND + (start + day) % NUM_PER_KIND + 1
        split = Split.TRAIN if day < 8 else Split.VALIDATION if day == 8 else Split.TEST
        ts = START_US + day * DAY_US + int(rng.integers(1, DAY_US // 2))
        searched = day % 2 == 0
        if searched:
            rows.append((schema.PAD, kind + 1, EventKind.SEARCH, ts, split))
        rows.append((item, kind + 1 if searched else schema.PAD, EventKind.CLICK, ts + 1_000_000, split))
        if buys(kind, day):
            rows.append((item, schema.PAD, EventKind.PURCHASE, ts + 60_000_000, split))
    item_idx, query_idx, events, times, splits = zip(*rows, strict=True)
    return {
        "user_id": f"user-{user:03d}",
        "item_idx": item_idx,
        "query_idx": query_idx,
        "event": [int(event) for event in events],
        "ts": times if has_time else [0] * len(times),
        "value": [0.0] * len(rows),
        "split": [int(split) for split in splits],
    }


def _items(sequences: pa.Table) -> pa.Table:
    counts: dict[int, int] = {}
    for row in sequences.to_pylist():
        for item, split in zip(row["item_idx"], row["split"], strict=True):
            if item and split == Split.TRAIN:
                counts[item] = counts.get(item, 0) + 1
    rows = []
    for index in range(len(KINDS) * NUM_PER_KIND + NUM_COLD):
        cold = index >= len(KINDS) * NUM_PER_KIND
        kind = index - len(KINDS) * NUM_PER_KIND if cold else index // NUM_PER_KIND
        brand = ("acme", "zenit")[index % 2]
        title = f"{brand} {KINDS[kind]} model {index % NUM_PER_KIND}{' new' if cold else ''}"
        rows.append(
            {
                "item_id": f"sku-{index + 1:03d}",
                "title": title,
                "description": f"A good {KINDS[kind]}.",
                "category": ["home", KINDS[kind]],
                "brand": brand,
                "price": 10.0 + index,
                "available": True,
                "attributes": [("colour", "red" if index % 3 else "blue")],
                "text": title,
                "category_idx": kind + 1,
                "brand_idx": index % 2 + 1,
                "price_bucket": min(index // 16, 3) + 1,
                "train_count": 0 if cold else counts.get(index + 1, 0),
            }
        )
    return pa.Table.from_pylist(rows, schema=schema.PREPARED_ITEMS)


def _tokenizer(items: pa.Table) -> str:
    from txrec.text import fit_tokenizer

    texts = [*items["text"].to_pylist(), *KINDS]
    return str(fit_tokenizer(texts, TextConfig(vocab_size=400)).to_str())
