"""Time of completions: of the index alone, and of `GET /v1/suggest` in a running server.

    python bench/suggest.py [--items 1000000] [--queries 200000] [--seconds 10]

The catalogue is that of `bench/pages.py`; queries are made of its words. The server is the HTTP application in a
process of its own, over the completions alone: no model is loaded. Prefixes are beginnings of queries from the first
letter on, a tenth of them with a typing error. One client, then eight at once, each asking again when it is answered.
Times of the server are those that `/metrics` tells, from the first byte of a request to its answer: the share below
5 ms, from the bounds of the histogram. Prints a table, and one JSON object as its last line.
"""

import argparse
import asyncio
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # before this folder, which has a `serve` too

from bench.pages import NUM_COMMON, NUM_RARE, items
from serve.ingress import create_app
from serve.types import HistoryItem, Model, Service
from txrec.config import ServeConfig
from txrec.index.suggestions import Suggestion, SuggestionIndex
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.search.suggestion_entries import entries

ROUTE, BOUND_S = "/v1/suggest", "0.005"
TYPO_SHARE = 0.1
NUM_PREFIXES = 5_000


class Completions:
    """The part of `serve.types.Service` that suggestions use."""

    def __init__(self, suggestions: list[Suggestion]) -> None:
        self._suggestions = suggestions

    async def suggestions(self, live: bool = False) -> list[Suggestion]:
        """All of them; none is live."""
        return [] if live else self._suggestions

    async def model(self) -> Model:
        """Never changes."""
        return Model("bench")

    async def history(self, user_id: str | None, live: Any) -> tuple[HistoryItem, ...]:  # noqa: ARG002 - of nobody
        """Of nobody."""
        return ()

    async def live_counts(self) -> None:
        """None are kept."""


def completions(num_items: int, num_queries: int, rng: np.random.Generator) -> list[Suggestion]:
    """Products and categories of a generated catalogue, and queries of its words, few of them frequent."""
    rare, common = rng.integers(0, NUM_RARE, num_queries), rng.integers(0, NUM_COMMON, (num_queries, 2))
    words = zip(rare.tolist(), common.tolist(), strict=True)
    texts = dict.fromkeys(f"thing{one} common{first} common{second}" for one, (first, second) in words)
    weights = rng.zipf(1.5, len(texts)).tolist()
    queries = [Suggestion(text, "query", float(weight)) for text, weight in zip(texts, weights, strict=True)]
    return [*queries, *entries(Catalogue(items(num_items, rng)), {})]


def prefixes(suggestions: list[Suggestion], rng: np.random.Generator) -> list[str]:
    """Beginnings of texts, some with two letters exchanged."""
    chosen = rng.integers(0, len(suggestions), NUM_PREFIXES).tolist()
    texts = []
    for place in chosen:
        text = suggestions[place].text
        prefix = text[: int(rng.integers(1, min(len(text), 18) + 1))]
        if len(prefix) > 4 and rng.random() < TYPO_SHARE:
            cut = int(rng.integers(1, len(prefix) - 1))
            prefix = prefix[:cut] + prefix[cut + 1] + prefix[cut] + prefix[cut + 2 :]
        texts.append(prefix)
    return texts


def index_figures(suggestions: list[Suggestion], texts: list[str]) -> dict[str, float]:
    """Times of the index in this process, milliseconds."""
    started = time.perf_counter()
    index = SuggestionIndex(suggestions)
    build_s = time.perf_counter() - started
    times = [_timed(lambda text=text: index.complete(text, 50)) for text in texts]  # type: ignore[misc]
    return {
        "build_s": round(build_s, 2),
        "index_p50_ms": round(float(np.percentile(times, 50)), 3),
        "index_p99_ms": round(float(np.percentile(times, 99)), 3),
    }


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - started)


def _run(suggestions: list[Suggestion], port: int) -> None:
    service = cast(Service, Completions(suggestions))
    app = create_app(service, ServeConfig(console=False, mcp=False, live_count_days=0))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


@contextmanager
def server(suggestions: list[Suggestion], port: int) -> Iterator[str]:
    """URL of the application in a process of its own, which has answered once."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(suggestions, port), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(f"{url}{ROUTE}", params={"q": "t"}, timeout=120).raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.join()


async def load(url: str, texts: list[str], num_clients: int, seconds: float) -> list[float]:
    """Times that clients saw, milliseconds."""
    times: list[float] = []
    ends = time.perf_counter() + seconds

    async def ask(client: httpx.AsyncClient, first: int) -> None:
        place = first
        while time.perf_counter() < ends:
            started = time.perf_counter()
            (await client.get(ROUTE, params={"q": texts[place % len(texts)]})).raise_for_status()
            times.append(1e3 * (time.perf_counter() - started))
            place += 1

    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        await asyncio.gather(*(ask(client, number * 617) for number in range(num_clients)))
    return times


def below_bound(url: str) -> tuple[float, float]:
    """Suggestions so far that took less than `BOUND_S` in the server, and all of them."""
    counts = {"below": 0.0, "all": 0.0}
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=30).text):
        for sample in family.samples:
            if sample.labels.get("route") != ROUTE:
                continue
            if sample.name == "txrec_request_seconds_bucket" and sample.labels["le"] == BOUND_S:
                counts["below"] = sample.value
            if sample.name == "txrec_request_seconds_count":
                counts["all"] = sample.value
    return counts["below"], counts["all"]


def main() -> None:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--port", type=int, default=8_765)
    parser.add_argument("--small", action="store_true", help="two thousand products, a second per measurement")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.items, arguments.queries, arguments.seconds = 2_000, 1_000, 1.0
    rng = np.random.default_rng(1)
    suggestions = completions(arguments.items, arguments.queries, rng)
    texts = prefixes(suggestions, rng)
    figures: dict[str, float] = {"items": arguments.items, "completions": len(suggestions)}
    figures |= index_figures(suggestions, texts)
    with server(suggestions, arguments.port) as url:
        for num_clients in (1, 8):
            before = below_bound(url)
            times = asyncio.run(load(url, texts, num_clients, arguments.seconds))
            below, count = (now - then for now, then in zip(below_bound(url), before, strict=True))
            figures[f"clients_{num_clients}_rps"] = round(len(times) / arguments.seconds, 1)
            figures[f"clients_{num_clients}_p50_ms"] = round(float(np.percentile(times, 50)), 3)
            figures[f"clients_{num_clients}_p99_ms"] = round(float(np.percentile(times, 99)), 3)
            figures[f"clients_{num_clients}_server_below_5ms"] = round(below / max(count, 1), 4)
    for name, value in figures.items():
        print(f"{name:>28}  {value:>12,}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
