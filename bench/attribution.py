"""Speed of attribution: exported slates joined with the events that followed, on Ray, next to one process.

    python bench/attribution.py [--slates 1000000] [--users 200000] [--compare 1] [--small]

Makes an export (ten products per slate, 0.6 events per slate, half of them without a request id) below a temporary
folder, runs what `txrec monitor` runs on it, and prints one JSON object as its last line. `--compare 1` attributes the
same rows in one process too and checks that the sums agree.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.closed_loop import monitor
from pipelines.distributed import cluster
from txrec.loop.attribution.attribution import Windows
from txrec.loop.attribution.live_attribution import table_of
from txrec.loop.attribution.slate_figures import SUMS

CHUNK = 500_000
DAY_US = 86_400_000_000
ITEMS, K = 20_000, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("slates", 1_000_000), ("users", 200_000), ("compare", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--small", action="store_true", help="20,000 slates")
    arguments = parser.parse_args()
    if arguments.small:
        arguments = argparse.Namespace(slates=20_000, users=4_000, compare=1)
    with tempfile.TemporaryDirectory() as folder:
        shown, happened = export(Path(folder), arguments.slates, arguments.users)
        attribute = partial(table_of, windows=Windows())
        parts = max(arguments.slates // monitor.ROWS_PER_PARTITION, 2)
        with cluster.connect():
            started = time.perf_counter()
            table = monitor.on_ray(shown, happened, parts, attribute)
            seconds = time.perf_counter() - started
        figures = {"slates": arguments.slates, "seconds": seconds, "slates_per_s": arguments.slates / seconds}
        if arguments.compare:
            started = time.perf_counter()
            whole = attribute(pl.read_parquet(shown), pl.read_parquet(happened))
            figures["one_process_seconds"] = time.perf_counter() - started
            order = ["slice", "part", "figure"]
            same = [frame.sort(order).select(SUMS).to_numpy() for frame in (table, whole)]
            figures["equal"] = bool(np.allclose(same[0], same[1]))
    for name, value in figures.items():
        print(f"{name:24}{value:>16,.1f}")
    print(json.dumps(figures))


def export(folder: Path, slates: int, users: int) -> tuple[Path, Path]:
    """Writes an export in files of CHUNK slates; returns the folders of slates and events."""
    rng = np.random.default_rng(0)
    folders = folder / "slates", folder / "events"
    for path in folders:
        path.mkdir()
    names = np.array([f"p{number}" for number in range(ITEMS)])
    for first in range(0, slates, CHUNK):
        num = min(CHUNK, slates - first)
        ts = np.sort(rng.integers(14 * DAY_US, size=num))
        user = np.array([f"u{number}" for number in rng.integers(users, size=num)])
        items = (rng.integers(ITEMS, size=(num, 1)) + np.arange(K) * rng.integers(1, ITEMS // K, size=(num, 1))) % ITEMS
        request = np.array([f"r{first + number}" for number in range(num)])
        frame = pl.DataFrame(
            {
                "request_id": request,
                "variant": np.where(rng.random(num) < 0.1, "canary", "production"),
                "ts": ts,
                "user_id": user,
                "model_version": "v1",
                "query": nullable(names[items[:, 0] % 500], rng.random(num) < 0.4),
                "fallback": pl.Series([None] * num, dtype=pl.String),
                "item_ids": names[items].tolist(),
            }
        )
        frame.write_parquet(folders[0] / f"{first}.parquet")
        row = np.sort(rng.integers(num, size=int(0.6 * num)))
        pl.DataFrame(
            {
                "user_id": user[row],
                "ts": ts[row] + rng.integers(3_600_000_000, size=len(row)),
                "event": rng.choice(["click", "cart", "purchase"], len(row), p=[0.8, 0.15, 0.05]),
                "item_id": names[items[row, rng.integers(K, size=len(row))]],
                "request_id": nullable(request[row], rng.random(len(row)) < 0.5),
                "value": rng.random(len(row)),
            }
        ).write_parquet(folders[1] / f"{first}.parquet")
    return folders


def nullable(values: np.ndarray, present: np.ndarray) -> pl.Series:
    """Strings, null where they are not present."""
    return pl.select(pl.when(pl.Series(present)).then(pl.Series(values))).to_series()


if __name__ == "__main__":
    main()
