"""The same preparation as `pipelines.prepare`, written by hand in polars for one process: the yardstick of the bench.

Reads the log and the catalogue, quarantines bad rows with their reason, drops exact duplicates, normalises queries,
splits by time, numbers items and queries from the training part, and writes one row per user, events in order.
"""

import json
import sys
import time
from pathlib import Path

import polars as pl

KINDS = {"search": 1, "impression": 2, "view": 3, "click": 4, "cart": 5, "purchase": 6, "rate": 7}
DAY_MS = 86_400_000


def main() -> None:
    folder, form = Path(sys.argv[1]), sys.argv[2]
    started = time.perf_counter()
    kept = prepare(folder / "raw", form, folder / "polars")
    print(json.dumps({"seconds": time.perf_counter() - started, "kept": kept}))


def prepare(raw: Path, form: str, out: Path) -> int:
    out.mkdir()
    judged = _read(raw, form).with_columns(reason=_reason())
    judged.filter(pl.col("reason").is_not_null()).write_parquet(out / "rejected.parquet")
    events = judged.filter(pl.col("reason").is_null()).drop("reason")
    del judged
    events = events.filter(pl.struct("user_id", "ts", "event", "item_id", "query").is_first_distinct())
    events = _normalised(events)
    end = events.select(pl.col("ts").max()).item()
    test, validation = end - 7 * DAY_MS, end - 14 * DAY_MS
    events = events.with_columns(
        split=(pl.col("ts") >= validation).cast(pl.Int8) + (pl.col("ts") >= test).cast(pl.Int8),
        code=pl.col("event").replace_strict(KINDS, return_dtype=pl.Int8),
    )
    items = _numbered(events, "item_id", "item")
    queries = _numbered(events, "query", "query_number")
    _write_tables(raw, out, items, queries)
    _sequences(events, items, queries).write_parquet(out / "sequences.parquet")
    return len(events)


def _read(raw: Path, form: str) -> pl.DataFrame:
    pattern = str(raw / f"events-*.{form}")
    if form == "csv":
        types = {"user_id": pl.String, "ts": pl.Int64, "value": pl.Float32}
        return pl.read_csv(pattern, schema_overrides=types)
    return pl.read_parquet(pattern)


def _reason() -> pl.Expr:
    """Reason that makes a row no event; null where it is one."""
    now_ms = int(time.time() * 1000)
    return (
        pl.when(pl.col("user_id").is_null() | (pl.col("user_id") == ""))
        .then(pl.lit("missing_user"))
        .when(~pl.col("event").is_in(list(KINDS)))
        .then(pl.lit("unknown_event"))
        .when(pl.col("ts").is_null())
        .then(pl.lit("bad_time"))
        .when(pl.col("ts") > now_ms)
        .then(pl.lit("future_time"))
        .when((pl.col("event") != "search") & pl.col("item_id").is_null())
        .then(pl.lit("missing_item"))
        .when((pl.col("event") == "search") & pl.col("query").is_null())
        .then(pl.lit("missing_query"))
    )


def _normalised(events: pl.DataFrame) -> pl.DataFrame:
    """Normalises each distinct query once."""
    distinct = events.select(pl.col("query").unique()).drop_nulls()
    clean = pl.col("query").str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    table = distinct.with_columns(clean=clean)
    return events.join(table, on="query", how="left", maintain_order="left").drop("query").rename({"clean": "query"})


def _numbered(events: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
    """Distinct values with their number from 1, the most frequent in training first."""
    counts = events.group_by(column).agg(train_count=(pl.col("split") == 0).sum()).drop_nulls(column)
    return counts.sort("train_count", column, descending=[True, False]).with_row_index(name, offset=1)


def _write_tables(raw: Path, out: Path, items: pl.DataFrame, queries: pl.DataFrame) -> None:
    catalogue = pl.read_ndjson(raw / "catalogue.jsonl")
    items.join(catalogue, on="item_id", how="left").sort("item").write_parquet(out / "items.parquet")
    queries.write_parquet(out / "queries.parquet")


def _sequences(events: pl.DataFrame, items: pl.DataFrame, queries: pl.DataFrame) -> pl.DataFrame:
    dense = (
        events.join(items.select("item_id", pl.col("item").cast(pl.Int32)), on="item_id", how="left")
        .join(queries.select("query", pl.col("query_number").cast(pl.Int32)), on="query", how="left")
        .select(
            "user_id", pl.col("item").fill_null(0), pl.col("query_number").fill_null(0).alias("query"),
            pl.col("code").alias("event"), pl.col("ts") * 1000, "value", "split",
        )
    )  # fmt: skip
    return dense.sort("ts", maintain_order=True).group_by("user_id").agg(pl.all())  # keeps the order inside a group


if __name__ == "__main__":
    main()
