"""Vocabularies of items and queries with their dense indices, categories, brands, price buckets, tokenizer.

All of it follows from the training part only. Items and queries that training never saw keep a row of their own
(`train_count` 0): a cold item is known by its text, an unseen query by its words. Categories and brands that training
never saw are PAD.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from txrec import schema
from txrec.config import Config
from txrec.data.sources.canonical import CATEGORY_JOINT
from txrec.errors import InvariantError
from txrec.text import fit_tokenizer, normalise_column

_FILLED = ("title", "description", "brand", "category", "price", "sale_start", "sale_end")
_MAPS = ("attributes", "prices", "stock")
_TEXT_FIELDS = ("title", "brand", "category", "description")


@dataclass(frozen=True, eq=False)
class ItemVocabulary:
    """Items in the order of their dense indices."""

    table: pa.Table
    """schema.PREPARED_ITEMS; row i holds item_idx i + 1."""
    num_trained_items: int
    num_categories: int
    num_brands: int


def dense_idx(column: pa.DictionaryArray, vocabulary: pa.Array) -> pa.Array:
    """int32 indices, 1 for vocabulary[0], PAD for null.

    Raises:
        InvariantError: a value outside the vocabulary.
    """
    ids = pc.index_in(column.dictionary, value_set=vocabulary)
    used = ids.take(column.indices)
    if used.null_count != column.null_count:
        raise InvariantError(f"{used.null_count - column.null_count:,} values of events are not in the vocabulary")
    return pc.fill_null(pc.add(used, pa.scalar(1, pa.int32())), schema.PAD)


def catalogue(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of every item_id as one row, and the rows after its first.

    Later rows of a product, its variants for example, fill fields that the first leaves empty; a product is available
    if any of its rows is.
    """
    first = rows["item_id"].is_first_distinct()
    repeated = rows.filter(~first)
    if not repeated.height:
        return rows, repeated
    maps = [pl.col(name).filter(pl.col(name).list.len() > 0).first() for name in _MAPS]
    merged = (
        rows.filter(pl.col("item_id").is_in(repeated["item_id"].implode()))
        .group_by("item_id", maintain_order=True)
        .agg(*(pl.col(name).drop_nulls().first() for name in _FILLED), *maps, pl.col("available").max())
    )
    whole = rows.filter(first).join(merged, on="item_id", how="left", maintain_order="left", suffix=":merged")
    names = (*_FILLED, *_MAPS, "available")
    whole = whole.with_columns(pl.coalesce(f"{name}:merged", name).alias(name) for name in names)
    return whole.select(rows.columns), repeated


def build_items(
    rows: pl.DataFrame, counts: pl.DataFrame, fields: pl.DataFrame, num_price_buckets: int
) -> ItemVocabulary:
    """The item table in dense order: trained items by falling count, then cold ones by key.

    Args:
        rows: catalogue, one row per item_id.
        counts: `item_id`, `train`: every item of the log or of judgments.
        fields: `item_id`, `field`, `value`, `train`, `total`: product fields as event rows carry them.
        num_price_buckets: price quantiles.
    """
    keys = pl.concat([rows.select("item_id"), counts.select("item_id")]).unique(maintain_order=True)
    items = keys.join(rows, on="item_id", how="left").join(counts, on="item_id", how="left")
    items = items.with_columns(train_count=pl.col("train").fill_null(0).cast(pl.Int64))
    items = _fill_fields(items, fields).sort("train_count", "item_id", descending=[True, False])
    items = items.with_columns(pl.col("available").fill_null(value=True))
    is_trained = items["train_count"] > 0
    if not is_trained.any():
        is_trained = pl.repeat(True, len(items), eager=True)
    path = items["category"].list.join(" > ")
    category, num_categories = _codes(path.set(path == "", None), is_trained, items["train_count"])
    brand, num_brands = _codes(items["brand"], is_trained, items["train_count"])
    table = items.select(
        pl.col("item_id").alias("item_id"),
        *[pl.col(name) for name in schema.ITEMS.names if name not in ("item_id", *_MAPS)],
        "train_count",
    ).to_arrow(compat_level=pl.CompatLevel.oldest())
    for name in _MAPS:
        table = table.append_column(name, as_map(items[name]))
    table = table.append_column("text", _encoder_text(items))
    table = table.append_column("category_idx", category).append_column("brand_idx", brand)
    table = table.append_column("price_bucket", _price_buckets(items["price"], is_trained, num_price_buckets))
    num_trained = int((items["train_count"] > 0).sum())
    table = table.select(schema.PREPARED_ITEMS.names).cast(schema.PREPARED_ITEMS)
    return ItemVocabulary(table, num_trained, num_categories, num_brands)


def build_queries(counts: pl.DataFrame) -> pa.Table:
    """The query table in dense order: by falling training count, then by text."""
    table = counts.select("query", train_count=pl.col("train").cast(pl.Int64))
    table = table.sort("train_count", "query", descending=[True, False])
    return table.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema.PREPARED_QUERIES)


def _fill_fields(items: pl.DataFrame, fields: pl.DataFrame) -> pl.DataFrame:
    """Fills gaps of the catalogue from event rows: with the value most frequent in training, else the most frequent."""
    best = fields.sort("train", "total", "value", descending=[True, True, False])
    best = best.unique(["item_id", "field"], keep="first", maintain_order=True)
    for name in best["field"].unique(maintain_order=True).to_list():
        values = best.filter(pl.col("field") == name).select("item_id", pl.col("value").alias(":value"))
        items = items.join(values, on="item_id", how="left", maintain_order="left")
        value = pl.col(":value")
        if name == "category":
            value = value.str.split(CATEGORY_JOINT)
        elif name == "available":
            value = value == "true"
        else:
            value = value.cast(items.schema[name], strict=False)
        items = items.with_columns(pl.coalesce(name, value).alias(name)).drop(":value")
    return items


def _codes(values: pl.Series, is_trained: pl.Series, weight: pl.Series) -> tuple[pa.Array, int]:
    """Ids 1.. of the values that training saw, most frequent first; PAD for the others."""
    frame = pl.DataFrame({"value": values, "weight": weight})
    weights = frame.filter(is_trained & values.is_not_null()).group_by("value").agg(pl.col("weight").sum())
    weights = weights.sort("weight", "value", descending=[True, False])
    rank = pc.index_in(_strings(values), value_set=_strings(weights["value"]))
    return pc.fill_null(pc.add(rank, pa.scalar(1, pa.int32())), schema.PAD), len(weights)


def _strings(column: pl.Series) -> pa.Array:
    array = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    return array.cast(pa.string())


def _price_buckets(prices: pl.Series, is_trained: pl.Series, num_buckets: int) -> pa.Array:
    price = prices.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    fitted = price[is_trained.to_numpy() & np.isfinite(price)]
    if not len(fitted):
        return pa.array(np.zeros(len(price), np.int32))
    edges = np.unique(np.quantile(fitted, np.linspace(0, 1, num_buckets + 1)[1:-1]))
    bucket = np.searchsorted(edges, price, side="right") + 1
    return pa.array(np.where(np.isfinite(price), bucket, schema.PAD).astype(np.int32))


def _encoder_text(items: pl.DataFrame) -> pa.Array:
    joined = items.select(
        pl.concat_str(
            [pl.col(name).list.join(" ") if name == "category" else pl.col(name) for name in _TEXT_FIELDS],
            separator=" ",
            ignore_nulls=True,
        )
    ).to_series()
    return pc.fill_null(normalise_column(joined.to_arrow(compat_level=pl.CompatLevel.oldest())), "")


def as_map(column: pl.Series) -> pa.Array:
    """Lists of {key, value} as maps; an empty map for null."""
    pairs = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    pairs = pairs.combine_chunks() if isinstance(pairs, pa.ChunkedArray) else pairs
    lengths = pc.fill_null(pc.list_value_length(pairs), 0)
    starts = np.concatenate([[0], np.cumsum(np.asarray(lengths))]).astype(np.int32)
    entries = pairs.flatten()
    return pa.MapArray.from_arrays(pa.array(starts), entries.field("key"), entries.field("value"))


def training_texts(items: pa.Table, queries: pa.Table) -> Iterator[str]:
    """Texts that the tokenizer is fitted on: trained items and training queries, each distinct text once.

    Without a log it is the whole catalogue.
    """
    trained = items.filter(pc.greater(items["train_count"], 0))
    for column in ((trained if trained.num_rows else items)["text"], _trained_queries(queries)):
        for batch in column.chunks:
            yield from (text for text in batch.to_pylist() if text)


def _trained_queries(queries: pa.Table) -> pa.ChunkedArray:
    return queries.filter(pc.greater(queries["train_count"], 0))["query"]


def build_tokenizer(items: pa.Table, queries: pa.Table, config: Config) -> Tokenizer | None:
    """The tokenizer of the training text; None where there is no text."""
    texts = training_texts(items, queries)
    first = next(texts, None)
    if first is None:
        return None

    def all_texts() -> Iterator[str]:
        yield first
        yield from texts

    return fit_tokenizer(all_texts(), config.text)
