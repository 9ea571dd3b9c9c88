"""Speed and memory of `prepare`, next to a hand-written polars script.

    python bench/prepare.py --events 10000000 [--format parquet|csv] [--cores 2] [--skip-peer]

A generated log is streamed to disk, then prepared twice: by `pipelines.prepare` on a local Ray cluster and by
`bench/peers/polars_prepare.py` in one process; both read the same files and validate, deduplicate, normalise, split
and build user sequences. Times are those of the work itself; starting Ray and drawing the report's page, which the
script has no counterpart of, are stated apart. Peak memory is the sum of the proportional set sizes (PSS) of all
processes, Ray's object store included: its shared memory counts once.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 1_000_000
EVENTS_PER_USER = 25
NUM_ITEMS, NUM_QUERIES = 50_000, 100_000
DAYS = 60
START_MS = 1_740_787_200_000  # 2025-03-01
KINDS = np.array(["view", "search", "click", "cart", "purchase", "heartbeat"])  # the last one is no event of a user
SHARES = (0.5, 0.2, 0.2, 0.06, 0.038, 0.002)
WORDS = (
    "red", "blue", "steel", "Wireless", "lamp", "tent", "shoe", "cable", "phone",
    "case", "table", "Große", "kettle", "耳机", "手机", "pan", "drill", "camera",
)  # fmt: skip


def main() -> None:
    args = _arguments()
    if args.stage:
        _prepare_here(Path(args.stage), args.cores)
        return
    with tempfile.TemporaryDirectory(prefix="txrec-bench-", dir=args.folder) as name:
        folder = Path(name)
        started = time.perf_counter()
        rows = write_log(folder / "raw", args.events, args.format)
        print(f"wrote {rows:,} rows ({args.format}) in {time.perf_counter() - started:.1f} s")
        _write_config(folder, args.format)
        figures = _compare(folder, rows, args)
    print(json.dumps(figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="rows of the generated log")
    parser.add_argument("--format", choices=("parquet", "csv"), default="parquet", help="file format of the log")
    parser.add_argument("--small", action="store_true", help="200,000 rows: a quick look")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="cores that either side may use")
    parser.add_argument("--skip-peer", action="store_true", help="measure txrec only")
    parser.add_argument("--folder", help="where the temporary folder goes; it needs about 60 bytes per row")
    parser.add_argument("--stats", action="store_true", help="print Ray Data's statistics of its operators")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.small:
        args.events = 200_000
    return args


# -- the log -----------------------------------------------------------------------------------------------------------


def write_log(folder: Path, num_events: int, form: str) -> int:
    """Streams a log of `num_events` rows into one file a million rows, and a catalogue; memory stays bounded."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    _write_catalogue(folder / "catalogue.jsonl", rng)
    queries = _queries(rng)
    rows = 0
    for number, table in enumerate(_chunks(num_events, queries, rng)):
        path = folder / f"events-{number:05d}.{form}"
        if form == "csv":
            pyarrow.csv.write_csv(table, path)
        else:
            pq.write_table(table, path)
        rows += table.num_rows
    return rows


def _write_catalogue(path: Path, rng: np.random.Generator) -> None:
    words = rng.integers(len(WORDS), size=(NUM_ITEMS, 4))
    prices = rng.lognormal(3, 1, NUM_ITEMS).round(2)
    with path.open("w", encoding="utf-8") as file:
        for item in range(NUM_ITEMS):
            title = " ".join(WORDS[word] for word in words[item])
            row = {"item_id": f"sku-{item}", "title": title, "category": WORDS[words[item, 0]], "price": prices[item]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _queries(rng: np.random.Generator) -> np.ndarray:
    words = rng.integers(len(WORDS), size=(NUM_QUERIES, 3))
    return np.array([" ".join(WORDS[word] for word in row) + f" {number}" for number, row in enumerate(words)])


def _chunks(num_events: int, queries: np.ndarray, rng: np.random.Generator) -> Iterator[pa.Table]:
    """Tables in time order; users and items are skewed, and about 1 % of the rows are dirty."""
    num_users = max(100, num_events // EVENTS_PER_USER)
    for first in range(0, num_events, CHUNK):
        size = min(CHUNK, num_events - first)
        span = DAYS * 86_400_000 / num_events
        ts = START_MS + ((first + np.sort(rng.random(size)) * size) * span).astype(np.int64)
        user = (num_users * rng.random(size) ** 1.5).astype(np.int64)
        item = (NUM_ITEMS * rng.random(size) ** 2).astype(np.int64)
        query = (NUM_QUERIES * rng.random(size) ** 3).astype(np.int64)
        kind = rng.choice(len(KINDS), size, p=SHARES)
        search = kind == 1
        table = pa.table(
            {
                "user_id": pa.array(np.char.add("u", user.astype(str)), mask=rng.random(size) < 0.004),
                "ts": pa.array(ts, mask=rng.random(size) < 0.002),
                "event": pa.array(KINDS[kind]),
                "item_id": pa.array(np.char.add("sku-", item.astype(str)), mask=search),
                "query": pa.array(queries[query], mask=~search),
                "value": pa.array(rng.random(size).astype(np.float32) * 100, mask=kind != 4),
            }
        )
        repeated = np.sort(np.concatenate([np.arange(size), rng.choice(size, size // 500)]))[:size]
        yield table.take(pa.array(repeated))


def _write_config(folder: Path, form: str) -> None:
    (folder / "bench.toml").write_text(
        f"""
name = "bench"
runs_root = "{folder / "runs"}"
[data]
root = "{folder / "raw"}"
[[data.items]]
path = "catalogue.jsonl"
format = "jsonl"
[[data.events]]
path = "events-*.{form}"
format = "{form}"
time = {{ format = "ms" }}
[text]
encoder = "none"
""",
        encoding="utf-8",
    )


# -- measuring ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One finished child process: what it reported and how much memory it and its children held at most."""

    report: dict[str, Any]
    peak_bytes: int


def _compare(folder: Path, rows: int, args: argparse.Namespace) -> dict[str, float]:
    own = _run([sys.executable, __file__, "--stage", str(folder), "--cores", str(args.cores)], {})
    figures = {
        "events": rows,
        "events_per_s": rows / own.report["seconds"],
        "seconds": own.report["seconds"],
        "startup_s": own.report["startup_s"],
        "page_s": own.report["page_s"],
        "peak_bytes": own.peak_bytes,
        "kept": own.report["kept"],
        "us_per_event": own.report["seconds"] / rows * 1e6,
    }
    if not args.skip_peer:
        script = str(ROOT / "bench" / "peers" / "polars_prepare.py")
        peer = _run([sys.executable, script, str(folder), args.format], {"POLARS_MAX_THREADS": str(args.cores)})
        figures |= {
            "polars_events_per_s": rows / peer.report["seconds"],
            "polars_peak_bytes": peer.peak_bytes,
            "polars_kept": peer.report["kept"],
            "ratio": peer.report["seconds"] / own.report["seconds"],
        }
    for name, value in figures.items():
        print(f"{name:>24}  {value:>18,.2f}")
    for step, seconds in own.report["timing"]["steps"].items():
        print(f"{step:>40}  {seconds:>8,.2f} s, {seconds / own.report['seconds']:.0%} of the time")
    if args.stats:
        for step, text in own.report["timing"]["operators"].items():
            print(f"\n== {step}\n{text}")
    return {name: round(value, 4) for name, value in figures.items()}


def _run(command: list[str], environment: dict[str, str]) -> Run:
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
    peak = _Peak(child.pid)
    peak.start()
    output, _ = child.communicate()
    peak.stop()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}:\n{output}")
    return Run(json.loads(output.strip().splitlines()[-1]), peak.bytes)


class _Peak(threading.Thread):
    """Samples the proportional set size of a process and all its descendants until stopped."""

    def __init__(self, pid: int, every_s: float = 0.5) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._root = psutil.Process(pid)
        self._every_s = every_s
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(self._every_s):
            try:
                family = [self._root, *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            self.bytes = max(self.bytes, sum(_pss(process) for process in family))

    def stop(self) -> None:
        self._done.set()
        self.join()


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0  # it ended between listing and reading


def _prepare_here(folder: Path, cores: int) -> None:
    """The child's part: runs the job and prints what it took as JSON."""
    sys.path.insert(0, str(ROOT))
    os.environ["POLARS_MAX_THREADS"] = str(cores)
    from pipelines import prepare
    from pipelines.distributed import cluster
    from txrec.config_loader import load
    from txrec.data.preparation import preparation
    from txrec.data.preparation.data_report import write_html
    from txrec.data.prepared import PreparedData

    config = load(folder / "bench.toml")
    started = time.perf_counter()
    with cluster.connect():
        connected = time.perf_counter()
        report = preparation.run(config, prepare.RayData())
        done = time.perf_counter()
        write_html(report, config.reports_dir / "data.html")
        page_s = time.perf_counter() - done
    kept = PreparedData.open(config.data_dir).meta.num_events
    seconds, startup_s = done - connected, connected - started
    times = {"seconds": seconds, "startup_s": startup_s, "page_s": page_s}
    print(json.dumps({**times, "kept": kept, "timing": vars(report.timing)}))


if __name__ == "__main__":
    main()
