"""Requests per second and latency of the served application, next to what the machine and Ray Serve allow at most.

Three things answer the same requests (user with 50 events, 500 candidates retrieved, 100 ranked, 25 returned) for the
same closed-loop client on the same cores, in one run:

- served: ingress, retriever and ranker as `txrec serve` starts them;
- noop: the same composition with bodies that return a ready slate, i.e. the price of Ray Serve and HTTP alone;
- in process: `Recommender.recommend()` without any server, one request per call and 16 per call.

The bundle is generated and trained for a minute or two, so that its vectors lie in clusters as those of a shop do.

    python bench/serve.py            100,000 products
    python bench/serve.py --small    5,000 products, seconds

The `ms_` figures say where the milliseconds of a lone request go, as the means that `/metrics` tells. The `live_` ones
say after how many seconds a product that is put is in an answer, alone and after 1,000 others. Searches name its brand:
after random clicks the fitted weights trust popularity alone, and no search finds a product by its name.
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # as in a replica, for all that runs in this process; NumPy reads it when imported

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipelines.distributed import cluster  # noqa: E402

cluster.set_environment()  # as `txrec serve` does, before anything imports Ray

from ray import serve as ray_serve  # noqa: E402

from bench.serve_bundle import ITEMS_PER_USER, make_bundle  # noqa: E402
from serve.types import Model  # noqa: E402
from txrec.config import ServeConfig  # noqa: E402
from txrec.recommender.recommender import Recommender, Request  # noqa: E402
from txrec.recommender.resumable import Resumable  # noqa: E402
from txrec.recommender.types import Candidates, Slate, SlateItem  # noqa: E402


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--small", action="store_true", help="5,000 products and short runs")
    options.add_argument("--items", type=int, default=100_000, help="products")
    options.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    options.add_argument("--bundle", type=Path, help="a folder that keeps the generated bundle from run to run")
    args = options.parse_args()
    items, seconds = (5_000, 3.0) if args.small else (args.items, args.seconds)
    with tempfile.TemporaryDirectory(prefix="txrec-bench-") as name:
        folder = args.bundle or Path(name)
        bundle = folder / "candidate" if (folder / "candidate").is_dir() else make_bundle(folder, items)
        figures = {"items": items, **in_process(bundle, seconds), **over_http(bundle, items // ITEMS_PER_USER, seconds)}
    figures["ratio"] = round(figures["rps_16"] / figures["noop_rps_16"], 3)
    for key, value in figures.items():
        print(f"{key:32} {value:>12,.2f}")
    print(json.dumps(figures))


def in_process(bundle: Path, seconds: float) -> dict[str, float]:
    """The recommender alone, on one thread as in a replica."""
    import torch

    torch.set_num_threads(1)
    started = time.perf_counter()
    recommender = Recommender.open(bundle)
    figures = {"open_s": time.perf_counter() - started}
    users = recommender.known_users()
    for size in (1, 16):
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds / 2:
            recommender.recommend([Request(user_id=users[(done + n) % len(users)]) for n in range(size)])
            done += size
        figures[f"in_process_rps_{size}"] = round(done / (time.perf_counter() - began), 1)
    return figures


class NoProducts:
    """Catalogue without products."""

    def at(self, *_: Any) -> "NoProducts":
        """The same everywhere at any time."""
        return self


class Noop:
    """Answers without work, with a slate of the usual size."""

    catalogue: Any = NoProducts()
    num_encoded_queries = 0

    def __init__(self) -> None:
        self._slates = [Slate(tuple(self._item(25 * slate + place) for place in range(25))) for slate in range(64)]

    @staticmethod
    def _item(number: int) -> SlateItem:
        scores = {"dense": number / 7.0, "popularity": number / 3.0}
        return SlateItem(f"p{number:07d}", number / 9.0, f"five words in title {number}", "dense", scores)

    def retrieve_in_steps(self, requests: list[Request]) -> Resumable[list[Candidates]]:
        """No candidates, in a single step."""
        yield from ()
        empty: Any = np.zeros(0, np.int32)
        return [Candidates(r, empty, "", empty, empty, empty, empty, empty, empty, 0) for r in requests]

    def shortlist(self, candidates: list[Candidates]) -> list[Candidates]:
        """All of them."""
        return candidates

    def with_changes(self, changes: Any) -> "Noop":  # noqa: ARG002 - there are none
        """The same."""
        return self

    def rank(self, candidates: list[Candidates], **_: Any) -> list[Slate]:
        """A slate of its own for everybody: what is the same twice would travel once."""
        return [self._slates[place % len(self._slates)] for place in range(len(candidates))]


def open_noop() -> tuple[Any, Model]:
    return Noop(), Model("noop")


def over_http(bundle: Path, num_users: int, seconds: float) -> dict[str, float]:
    """The deployed application and the same composition without work."""
    from pipelines.distributed import cluster
    from serve import app
    from serve.models.opening import open_bundle

    users = [f"u{user:06d}" for user in range(num_users)]
    figures: dict[str, float] = {}
    with cluster.connect():
        for prefix, opener in (("noop_", open_noop), ("", partial(open_bundle, str(bundle)))):
            started = time.perf_counter()
            with served(app, opener) as port:
                figures[f"{prefix}start_s"] = round(time.perf_counter() - started, 1)
                asyncio.run(load(port, users, 16, seconds / 4))  # warm
                for clients in (1, 16):
                    before = stages(port)
                    times = asyncio.run(load(port, users, clients, seconds))
                    if clients == 1:
                        figures |= {f"{prefix}ms_{k}": v for k, v in where(before, stages(port), times).items()}
                    figures[f"{prefix}rps_{clients}"] = round(len(times) / seconds, 1)
                    for share in (50, 99):
                        figures[f"{prefix}p{share}_ms_{clients}"] = round(float(np.percentile(times, share)), 2)
                if not prefix:
                    for others in (0, 1_000):
                        put(port, [product(f"other{number}") for number in range(others)])
                        waits = [until_found(port, f"live{others}x{number}") for number in range(10)]
                        figures[f"live_p50_s_{others}"] = round(float(np.median(waits)), 2)
                        figures[f"live_max_s_{others}"] = round(max(waits), 2)
    figures["p50_ms"], figures["p99_ms"] = figures["p50_ms_1"], figures["p99_ms_1"]
    return figures


def product(item_id: str) -> dict[str, Any]:
    """A product with a name and a brand of its own."""
    return {"item_id": item_id, "title": f"{item_id} bakel dimon", "brand": f"of {item_id}", "price": 9.0}


def put(port: int, items: list[dict[str, Any]]) -> None:
    for start in range(0, len(items), 100):
        reply = httpx.put(f"http://127.0.0.1:{port}/v1/items", json=items[start : start + 100], timeout=30)
        reply.raise_for_status()


def until_found(port: int, item_id: str) -> float:
    """Seconds from putting a product to the end of the first answer that has it."""
    time.sleep(float(np.random.default_rng().uniform(0.0, 0.5)))  # replicas look every half second
    item = product(item_id)
    search = {"query": item["title"], "filters": {"brand": [item["brand"]]}}
    started = time.perf_counter()
    put(port, [item])
    while time.perf_counter() - started < 60:
        reply = httpx.post(f"http://127.0.0.1:{port}/v1/search", json=search, timeout=30)
        if item_id in [item["item_id"] for item in reply.raise_for_status().json()["items"]]:
            return time.perf_counter() - started
        time.sleep(0.02)
    raise RuntimeError(f"{item_id} is in no answer after a minute")


def stages(port: int) -> dict[str, tuple[float, float]]:
    """Total seconds and number of every stage so far, as the server counts them; `server` = the whole request there."""
    totals: dict[str, tuple[float, float]] = {}
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    for family in text_string_to_metric_families(text):
        if family.name not in ("txrec_stage_seconds", "txrec_request_seconds"):
            continue
        for sample in family.samples:
            stage = sample.labels.get("stage", "server" if sample.labels.get("route") == "/v1/recommend" else "")
            total, count = totals.get(stage, (0.0, 0.0))
            total += sample.value * sample.name.endswith("_sum")
            count += sample.value * sample.name.endswith("_count")
            totals[stage] = (total, count)
    return totals


def where(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]], times: list[float]) -> Any:
    """Milliseconds of a mean request by what they were spent on."""
    ms = {}
    for stage, (total, count) in after.items():
        earlier, number = before.get(stage, (0.0, 0.0))
        ms[stage] = 1e3 * (total - earlier) / max(count - number, 1.0)
    own = {stage: ms.get(stage, 0.0) for stage in ("encode", "search", "rank", "decorate")}
    retriever, ranker = ms.get("retriever_call", 0.0), ms.get("ranker_call", 0.0)
    spent = {
        "client_and_proxy": float(np.mean(times)) - ms["server"],
        "ingress": ms["server"] - retriever,
        "hop_to_retriever": retriever - ranker - own["encode"] - own["search"],
        "hop_to_ranker": ranker - own["rank"] - own["decorate"],
        **own,
    }
    return {stage: round(value, 2) for stage, value in spent.items()}


@contextlib.contextmanager
def served(app: Any, opener: Any) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="txrec-bench-state-") as state:
        config = ServeConfig(port=port, console=False, state=f"{state}/history.sqlite")
        try:
            app.launch(app.bind(opener, config), config)
            yield port
        finally:
            ray_serve.shutdown()


async def load(port: int, users: list[str], clients: int, seconds: float) -> list[float]:
    """Closed loop: every client sends its next request when the last one is answered. Milliseconds of each."""
    end = time.perf_counter() + seconds
    taken = await asyncio.gather(*(_client(port, users[place::clients], end) for place in range(clients)))
    return [ms for one in taken for ms in one]


async def _client(port: int, users: list[str], end: float) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken: list[float] = []
    while time.perf_counter() < end:
        body = json.dumps({"user_id": users[len(taken) % len(users)]}).encode()
        started = time.perf_counter()
        writer.write(
            b"POST /v1/recommend HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"the server answered {head.splitlines()[0].decode()}")
        await _skip_body(reader, head)
        taken.append(1000 * (time.perf_counter() - started))
    writer.close()
    return taken


async def _skip_body(reader: asyncio.StreamReader, head: bytes) -> None:
    for line in head.splitlines():
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))
            return
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):  # chunked
        await reader.readexactly(size + 2)
    await reader.readexactly(2)


if __name__ == "__main__":
    main()
