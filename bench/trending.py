"""Trending products on the generated shop: how many rising ones are found, after how many minutes.

    python bench/trending.py configs/demo.toml [--rising 20] [--small]

The test part of the generated shop's log is the live stream, the training part the usual. In the middle of the stream
some products begin to get further users, as many per hour as the table's first column says. Every ten minutes for six
hours the list of trending products is made. Recall is the share of the rising products that were listed that long after
their rise began, precision the share of rising ones among all listed, minutes the median until a found one was
first listed. Prints a table, and one JSON object as its last line.
"""

import argparse
import json

import numpy as np

from bench.search import SMALL, prepared
from txrec.config_loader import load
from txrec.data.prepared import PreparedData
from txrec.index.live_log import LiveEvent, LiveLog
from txrec.index.sources.popularity import Popularity
from txrec.index.sources.trends import Trends
from txrec.index.training_log import EventLog
from txrec.schema import PAD, EventKind, Split, is_engagement

STEP_MIN, HOURS = 10, 6
MINUTE_US = 60_000_000
RATES = (2, 4, 8, 16)
"""Further users per hour."""
LISTED = 20


def stream(data: PreparedData, ids: list[str]) -> list[LiveEvent]:
    """Events of the test part, in order of time."""
    sequences = data.sequences
    user = np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))
    kept = np.flatnonzero(
        (sequences.split == Split.TEST) & (sequences.item_idx != PAD) & is_engagement(sequences.event)
    )
    events = [
        LiveEvent(str(user[at]), ids[sequences.item_idx[at]], "", int(sequences.event[at]), int(sequences.ts[at]))
        for at in kept
    ]
    return sorted(events, key=lambda event: event.ts)


def run(config_path: str, overrides: list[str], num_rising: int) -> dict[str, object]:
    """All figures."""
    config = load(config_path, overrides)
    data = prepared(config)
    ids = ["", *data.items.column("item_id").to_pylist()]
    idx_of = {item_id: idx for idx, item_id in enumerate(ids) if idx}
    log, half_life = EventLog.before(data, Split.TEST), config.retrieval.half_life_days
    popularity = Popularity.fit(log, data.meta.num_items, half_life).counts
    usual, rng = stream(data, ids), np.random.default_rng(0)
    start = usual[len(usual) // 2].ts
    rising = rng.choice(np.arange(1, len(ids)), num_rising, replace=False).tolist()
    figures: dict[str, object] = {
        "events_per_hour": round(len(usual) / max(1, (usual[-1].ts - usual[0].ts) / 3.6e9), 1)
    }
    print(f"{'users/h':>8}{'recall 1 h':>12}{'recall 3 h':>12}{'recall 6 h':>12}{'precision':>11}{'minutes':>9}")
    for rate in RATES:
        more = []
        for item in rising:
            for number in range(rng.poisson(rate * HOURS)):
                ts = start + int(rng.uniform(0, HOURS * 60) * MINUTE_US)
                more.append(LiveEvent(f"{item}:{number}", ids[item], "", int(EventKind.VIEW), ts))
        delays: dict[int, int] = {}
        listed: set[int] = set()
        for minutes in range(STEP_MIN, HOURS * 60 + 1, STEP_MIN):
            now = start + minutes * MINUTE_US
            seen = [event for event in (*usual, *more) if event.ts <= now]
            live = LiveLog.of(seen, idx_of, log.end_us, half_life, popularity)
            if live is None:
                continue
            top = Trends.of(live).rising().item_idx[:LISTED].tolist()
            listed |= set(top)
            for item in set(top) & set(rising):
                delays.setdefault(item, minutes)
        recall = {hours: sum(at <= 60 * hours for at in delays.values()) / num_rising for hours in (1, 3, 6)}
        precision = len(listed & set(rising)) / max(1, len(listed))
        minutes_until = float(np.median(list(delays.values()))) if delays else float("nan")
        figures[f"{rate}_per_hour"] = {"recall": recall, "precision": precision, "median_minutes": minutes_until}
        cells = "".join(f"{recall[hours]:>12.2f}" for hours in (1, 3, 6))
        print(f"{rate:>8}{cells}{precision:>11.2f}{minutes_until:>9.0f}", flush=True)
    return figures


def main() -> None:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.toml")
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--rising", type=int, default=20)
    parser.add_argument("--small", action="store_true", help="a tiny generated shop: a quick look")
    arguments = parser.parse_args()
    overrides = [*arguments.overrides, *(SMALL if arguments.small else ())]
    print(json.dumps(run(arguments.config, overrides, arguments.rising)))


if __name__ == "__main__":
    main()
