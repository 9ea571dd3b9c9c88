"""The demonstration's example request: sent to the running server, its slate printed."""

import time
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from pipelines.command_line.display import Display
from txrec.client import Client
from txrec.config import Config, SampleConfig
from txrec.schema import Split

REQUEST_TIMEOUT_S = 60.0


def answer(config: Config, url: str, display: Display) -> None:
    """Sends the configured example request to a running server and prints the slate."""
    body = sample_request(config.sample, config.data_dir)
    with Client(url, timeout_s=REQUEST_TIMEOUT_S) as shop:
        path, send = ("/v1/search", shop.search) if "query" in body else ("/v1/recommend", shop.recommend)
        started = time.perf_counter()
        slate = send(**body)
    elapsed_ms = (time.perf_counter() - started) * 1000
    subject = f"query {body['query']!r}" if "query" in body else f"user {body['user_id']}"
    display.title(f"POST {path}  {subject}")
    display.console.print(_slate_table(slate))
    model, fallback = slate["model_version"], slate["fallback"]
    display.console.print(f"[dim]model {model}, {elapsed_ms:.0f} ms{f', fallback: {fallback}' if fallback else ''}")


def sample_request(sample: SampleConfig, data_dir: Path) -> dict[str, Any]:
    """The body of the example request; without a query or user the busiest user of the test part is taken."""
    body: dict[str, Any] = {"top_k": sample.top_k, "explain": True}
    if sample.query:
        body["query"] = sample.query
    if sample.user_id or not sample.query:
        body["user_id"] = sample.user_id or _busiest_test_user(data_dir)
    return body


def _busiest_test_user(data_dir: Path) -> str:
    users = pl.scan_parquet(data_dir / "sequences" / "*.parquet").select(
        "user_id", events=pl.col("split").list.len(), tested=pl.col("split").list.last() == int(Split.TEST)
    )
    busiest = users.sort("tested", "events", "user_id", descending=[True, True, False]).head(1).collect()
    return str(busiest["user_id"].item())


def _slate_table(slate: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("#", justify="right")
    table.add_column("product", overflow="fold", max_width=60)
    table.add_column("score", justify="right")
    table.add_column("source")
    table.add_column("reason", overflow="fold")
    for place, item in enumerate(slate["items"], start=1):
        product = f"{item['title'] or ''} [dim]{item['item_id']}".strip()
        table.add_row(str(place), product, f"{item['score']:.3f}", item["source"], "; ".join(item["reasons"]))
    return table
