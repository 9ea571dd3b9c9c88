"""`txrec monitor`: served slates joined with the events that followed; writes reports/monitor.html and monitor.json.

The rows come from the server's store or from exported Parquet files. A large export streams through Ray Data: rows are
dealt by user, each part is attributed on its own, and only sums come back to this process.
"""

import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.closed_loop.live_drift import live_drift
from pipelines.closed_loop.served_log import ServedLog, served_log
from pipelines.distributed import cluster
from txrec import object_storage
from txrec.config import Config
from txrec.data.prepared import PreparedData
from txrec.data.profiles import FILE as PROFILES_FILE
from txrec.loop import settings
from txrec.loop.attribution.attribution import NO_PLACEMENT, credit, events_of, slates_of
from txrec.loop.attribution.live_attribution import TABLE, table_of
from txrec.loop.attribution.slate_figures import SliceTables, add, place_discount, rates
from txrec.loop.decisions import decisions
from txrec.loop.experiments.experiments import ExperimentDecision
from txrec.loop.experiments.served_experiments import KIND, StoredExperiment, read_all
from txrec.loop.exploration.exploration_cost import cost, placement_costs
from txrec.loop.exposure import DEPTH, ProductGroups, alarms, report_rows
from txrec.loop.monitor_report import Monitor
from txrec.online.stores import open_documents
from txrec.progress import Progress, silent
from txrec.registry.registry import state_file
from txrec.registry.rollout import FILE

LOCAL_ROWS = 500_000
"""Rows up to which one process does it."""
HEAD_ITEMS = 0.2
"""Share of the products that makes up the head, the most popular ones in training."""
ROWS_PER_PARTITION = 200_000
MAX_SHUFFLE_PARTITIONS = 64
"""Partitions of Ray Data's shuffle; each holds several parts of a larger export."""
_SLATES = {
    "request_id": pl.String,
    "variant": pl.String,
    "ts": pl.Int64,
    "user_id": pl.String,
    "model_version": pl.String,
    "query": pl.String,
    "fallback": pl.String,
    "item_ids": pl.List(pl.String),
    "sources": pl.List(pl.String),
    "placement": pl.String,
    "took_ms": pl.Float64,
    "experiments": pl.List(pl.String),
    "rules": pl.List(pl.String),
}
_EVENTS = {
    "user_id": pl.String,
    "ts": pl.Int64,
    "event": pl.String,
    "item_id": pl.String,
    "request_id": pl.String,
    "value": pl.Float64,
}
Attribute = Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]


def run(
    config: Config,
    impressions: Path | None = None,
    events: Path | None = None,
    progress: Progress = silent,
    clock: Callable[[], float] = time.time,
) -> Monitor:
    """Attributes, counts and writes the report.

    Args:
        config: of the run.
        impressions: exported slates, a Parquet file or folder; None = from the server's store.
        events: exported events; both or none.
        progress: receives the current phase.
        clock: seconds since 1970 UTC; users whose window is not over by then are left out of experiments.

    Raises:
        StageError: no server of this configuration has kept any state yet.
        DataError: a file is missing or is not an export.
    """
    progress("reading slates and events", 0, None)
    log = served_log(config, impressions, events)
    known = _slice_tables(config, _head_queries(log.slates, config.serve.monitor.head_share))
    attribute = partial(table_of, windows=settings.windows(config.serve.monitor), known=known)
    rows = sum(int(frame.select(pl.len()).collect().item()) for frame in log)
    progress("attributing events to slates", 0, None)
    if rows <= LOCAL_ROWS or impressions is None or events is None:
        table = attribute(log.slates.collect(), log.events.collect())
    else:
        parts = config.serve.monitor.partitions or math.ceil(rows / ROWS_PER_PARTITION)
        table = on_ray(impressions, events, parts, attribute)
    span = log.slates.select(first=pl.col("ts").min(), last=pl.col("ts").max()).collect().row(0)
    monitor = Monitor(
        name=config.name,
        figures=rates(table),
        decisions=_decisions(config, log, round(clock() * 1e6)),
        since_us=int(span[0] or 0),
        until_us=int(span[1] or 0),
        folder=config.reports_dir,
        **_exposure(config, log),
        **_exploration(config, log),
        drift=live_drift(config, log, round(clock() * 1e6)),
    )
    monitor.write()
    object_storage.share(config.reports_dir)
    return monitor


def on_ray(impressions: Path, events: Path, parts: int, attribute: Attribute) -> pl.DataFrame:
    """Sums of a large export: rows stream through Ray Data, dealt by user into parts that are attributed apart."""
    with cluster.connect():
        import ray.data

        from pipelines.training import workers

        dealt = [
            ray.data.read_parquet(place, filesystem=filesystem).map_batches(
                partial(deal, slates=slates, parts=parts), batch_format="pyarrow", zero_copy_batch=True
            )
            for (filesystem, place), slates in ((workers.storage(impressions), True), (workers.storage(events), False))
        ]
        tables = (
            dealt[0]
            .union(dealt[1])
            .groupby("part", num_partitions=min(parts, MAX_SHUFFLE_PARTITIONS))
            .map_groups(partial(attribute_parts, attribute=attribute), batch_format="pyarrow")
        )
        return add([pl.DataFrame(pl.from_arrow(batch)) for batch in tables.iter_batches(batch_format="pyarrow")])


def deal(batch: pa.Table, slates: bool, parts: int) -> pa.Table:
    """Rows of both tables with the columns of both and the part that they belong to.

    All rows of a user are in one part, a slate of somebody anonymous in that of its request. An event with a request id
    is in the parts of its user and of its request, which are two unless the hashes agree: only one holds its slate.
    """
    frame = _shaped(pl.DataFrame(pl.from_arrow(batch)), _SLATES if slates else _EVENTS)
    user, request = (
        pl.when(pl.col(name).is_not_null()).then((mark + pl.col(name)).hash(0) % parts)
        for mark, name in (("u:", "user_id"), ("r:", "request_id"))
    )
    rows = frame.with_columns(part=pl.coalesce(user, request).cast(pl.Int64), is_slate=pl.lit(slates))
    if not slates:
        answered = frame.with_columns(part=request.cast(pl.Int64), is_slate=pl.lit(value=False))
        elsewhere = answered.filter(request.is_not_null() & (request != user))
        rows = pl.concat([rows, elsewhere])
    whole = {"part": pl.Int64, "is_slate": pl.Boolean, **_SLATES, **_EVENTS}
    return _shaped(rows, whole).to_arrow()


def attribute_parts(batch: pa.Table, attribute: Attribute) -> pa.Table:
    """Sums of whole parts."""
    rows = pl.DataFrame(pl.from_arrow(batch))
    parts = [
        attribute(one.filter("is_slate").select(*_SLATES), one.filter(~pl.col("is_slate")).select(*_EVENTS))
        for one in rows.partition_by("part")
    ]
    return (add(parts) if parts else pl.DataFrame(schema=TABLE)).to_arrow()


def _shaped(frame: pl.DataFrame, schema: dict[str, Any]) -> pl.DataFrame:
    """The columns of a schema, missing ones as nulls, times as microseconds."""
    if "ts" in frame.columns and not frame.schema["ts"].is_integer():
        frame = frame.with_columns(pl.col("ts").dt.epoch("us"))
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in schema.items()
    )


def _head_queries(slates: pl.LazyFrame, share: float) -> tuple[str, ...]:
    """The most frequent share of the distinct queries, as the figures compare them."""
    text = pl.col("query").str.strip_chars().str.to_lowercase()
    counts = (
        slates.select(query=text).filter(pl.col("query") != "").group_by("query").len().sort("len", "query").collect()
    )
    return tuple(counts["query"].reverse().head(math.ceil(share * counts.height)))


def _slice_tables(config: Config, head_queries: tuple[str, ...]) -> SliceTables:
    """Products, queries and users of the prepared data; only head queries before the first preparation."""
    if not (config.data_dir / "items.parquet").is_file():
        return SliceTables(head_queries=head_queries)
    data = PreparedData.open(config.data_dir)
    count = pl.col("train_count")
    items = pl.DataFrame(pl.from_arrow(data.items.select(["item_id", "category", "brand", "train_count"])))
    head = items.filter(count > 0).sort("train_count", descending=True).head(math.ceil(HEAD_ITEMS * items.height))
    kind = pl.when(pl.col("item_id").is_in(head["item_id"].implode())).then(pl.lit("head"))
    items = items.with_columns(
        category=pl.col("category").list.first(),
        popularity=kind.when(count > 0).then(pl.lit("tail")).otherwise(pl.lit("new")),
    )
    queries = pl.Series(data.queries["query"].to_pylist(), dtype=pl.String).str.strip_chars().str.to_lowercase()
    profiles = config.data_dir / PROFILES_FILE
    users = pl.read_parquet(profiles, columns=["user_id", "segments"]) if profiles.is_file() else None
    return SliceTables(items, head_queries, queries.unique(), users)


def _exposure(config: Config, log: ServedLog) -> dict[str, Any]:
    """Exposure of product groups in served slates, in all and by placement; nothing before the first preparation.

    Clicks stand next to the whole: those of a placement are among its figures.
    """
    if not (config.data_dir / "items.parquet").is_file():
        return {}
    groups = ProductGroups.of(PreparedData.open(config.data_dir), config.exposure.attributes)
    named = "placement" in log.slates.collect_schema().names()
    placement = pl.col("placement").fill_null(NO_PLACEMENT) if named else pl.lit(NO_PLACEMENT)
    place = pl.int_ranges(pl.col("item_ids").list.len())
    places = log.slates.select(placement=placement, item_id="item_ids", place=place)
    places = places.explode("item_id", "place", empty_as_null=False).filter(pl.col("place") < DEPTH)
    seen = places.group_by("placement", "item_id").agg(weight=place_discount(pl.col("place")).sum()).collect()
    clicks = log.events.filter(pl.col("event") == "click").group_by("item_id").agg(amount=pl.len()).collect()
    clicked = _by_item(groups, clicks)
    whole = _by_item(groups, seen.group_by("item_id").agg(amount=pl.col("weight").sum()))
    shares = groups.shares(whole, clicked)
    parts = {
        str(name): _by_item(groups, part.select("item_id", amount="weight"))
        for (name,), part in seen.group_by("placement")
    }
    return {
        "exposure": tuple(report_rows(shares, config.exposure)),
        "exposure_alarms": tuple(alarms(shares, config.exposure)),
        "exposure_placements": {
            name: tuple(report_rows(groups.shares(parts[name], clicked), config.exposure)) for name in sorted(parts)
        }
        if set(parts) - {NO_PLACEMENT}
        else {},
    }


def _by_item(groups: ProductGroups, amounts: pl.DataFrame) -> NDArray[np.float64]:
    """(N,) amounts in the order of the groups' products, 0 for those without."""
    ids = pl.DataFrame({"item_id": groups.item_ids}, schema={"item_id": pl.String})
    joined = ids.join(amounts, on="item_id", how="left", maintain_order="left")
    return joined["amount"].cast(pl.Float64).fill_null(0.0).to_numpy()


def _decisions(config: Config, log: ServedLog, now_us: int) -> tuple[ExperimentDecision, ...]:
    """Decisions of experiments and of the canary; nothing is read where there are none."""
    trials = object_storage.fetch(config.registry_dir / FILE)
    canary = json.loads(trials.read_text(encoding="utf-8")) if trials.is_file() else {}
    share = float(canary.get("share") or 0.0) if canary.get("canary") else 0.0
    served = [one for one in _served(config) if one.standing.state == "running"]
    if not config.experiments.running and not share and not served:
        return ()
    frames = slates_of(log.slates.collect()), events_of(log.events.collect())
    return decisions(config.experiments, frames, now_us, share or None, served)


def _exploration(config: Config, log: ServedLog) -> dict[str, Any]:
    """Costs and gains of exploration, in all and by placement; nothing is read where no slate could be drawn."""
    if "exploration" not in log.slates.collect_schema().names():
        return {}
    if not log.slates.select(pl.col("exploration").is_not_null().any()).collect().item():
        return {}
    slates, events = slates_of(log.slates.collect()), events_of(log.events.collect())
    credits_ = credit(slates, events, settings.windows(config.serve.monitor))
    return {
        "exploration": cost(slates, credits_),
        "exploration_placements": placement_costs(slates, credits_),
    }


def _served(config: Config) -> list[StoredExperiment]:
    """Experiments of the server of this configuration."""
    state = config.serve.state or str(state_file(config.registry_dir))
    if "://" not in state and not Path(state).is_file():
        return []
    store = open_documents(state, KIND)
    try:
        return read_all(store.all().by_name)
    finally:
        store.close()
