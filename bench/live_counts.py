"""A test split replayed as a live stream, period by period, with and without live counts.

    python bench/live_counts.py configs/bestbuy.toml data.root=DIR [--days 7] [--small]

Makes one bundle as `bench/search.py` does. The test part is cut into periods; before each one, everything that users
did in the earlier ones reaches the recommender as live events would, and the requests of the period are answered with
and without those counts. The peer is the heuristic of the evaluation that counts clicks per query, fitted before the
test part, and the same learning every day. MAP@5 is over clicks. Prints a line per period and in the end one
JSON object.
"""

import argparse
import json

import numpy as np
from numpy.typing import NDArray

from bench.search import SMALL, made, prepared
from txrec.config_loader import load
from txrec.data.prepared import PreparedData
from txrec.evals import bootstrap
from txrec.evals.answering import ask, query_texts
from txrec.evals.evaluation import units
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.index.live_log import LiveEvent
from txrec.index.source import SourceQuery
from txrec.index.sources.query_clicks import QueryClicks
from txrec.index.training_log import EventLog
from txrec.recommender.recommender import Recommender
from txrec.schema import DAY_US, PAD, Split, is_engagement

K = 5
RESAMPLES = 1_000


def live_events(data: PreparedData) -> list[LiveEvent]:
    """Events on products in the test part, in order of time."""
    sequences, texts = data.sequences, query_texts(data)
    user = np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))
    kept = np.flatnonzero(
        (sequences.split == Split.TEST) & (sequences.item_idx != PAD) & is_engagement(sequences.event)
    )
    ids = np.array(["", *data.items.column("item_id").to_pylist()], object)
    events = [
        LiveEvent(
            str(user[place]),
            str(ids[sequences.item_idx[place]]),
            texts[sequences.query_idx[place]],
            int(sequences.event[place]),
            int(sequences.ts[place]),
        )
        for place in kept
    ]
    return sorted(events, key=lambda event: event.ts)


def at_5(ids: NDArray[np.int32], requests: EvalRequests) -> NDArray[np.float64]:
    """(clicks,) reciprocal rank of the clicked product among the first five, 0 beyond."""
    listed = ids[requests.truth.case] == requests.truth.items[:, None]
    return np.where(listed.any(axis=1), 1 / (1 + listed.argmax(axis=1)), 0.0)


def heuristic(data: PreparedData, until_us: int, requests: EvalRequests) -> NDArray[np.int32]:
    """(C, K) products by the clicks after the query, counted over everything before a time."""
    sequences, days = data.sequences, 30.0
    log = EventLog.select(data, (sequences.split < Split.TEST) | (sequences.ts < until_us))
    source = QueryClicks.fit(log, data.queries, data.meta.num_items, days)
    texts = query_texts(data)
    queries = SourceQuery(
        [texts[query] for query in requests.query_idx],
        np.zeros((len(requests), 1), np.float32),
        [np.empty(0, np.int32)] * len(requests),
    )
    return source.search(queries, K, [None] * len(requests)).item_idx


def daily_heuristic(data: PreparedData, start_us: int, requests: EvalRequests) -> NDArray[np.int32]:
    """(C, K) products by the clicks after the query, counted over everything before the day of each request.

    Args:
        data: the data set.
        start_us: beginning of the first day.
        requests: C requests.
    """
    ids = np.zeros((len(requests), K), np.int32)
    day = (requests.now_us - start_us) // DAY_US
    for number in np.unique(day).tolist():
        rows = np.flatnonzero(day == number)
        own = heuristic(data, start_us + number * DAY_US, requests.select(rows))
        ids[rows, : own.shape[1]] = own
    return ids


def run(config_path: str, overrides: list[str], days: float) -> dict[str, object]:
    """Replays the test part; all figures."""
    config = load(config_path, overrides)
    data = prepared(config)
    recommender = Recommender.open(made(config, data))
    requests = eval_requests(data, Split.TEST, config.evaluate)
    events, period = live_events(data), int(days * DAY_US)
    start = int(requests.now_us.min())
    number = (requests.now_us - start) // period
    values: dict[str, list[NDArray[np.float64]]] = {"fitted": [], "live": [], "heuristic": [], "daily heuristic": []}
    users: list[NDArray[np.int64]] = []
    print(f"{'period':>8}{'clicks':>8}" + "".join(f"{name:>20}" for name in values))
    for place in np.unique(number).tolist():
        part = requests.select(np.flatnonzero(number == place))
        begins = start + place * period
        counted = recommender.with_live([event for event in events if event.ts < begins])
        own = {
            "fitted": ask(recommender, data, part, K).ranked,
            "live": ask(counted, data, part, K).ranked,
            "heuristic": heuristic(data, 0, part),
            "daily heuristic": daily_heuristic(data, start, part),
        }
        for name, ids in own.items():
            values[name].append(at_5(ids, part))
        users.append(units(part)[part.truth.case])
        means = "".join(f"{values[name][-1].mean():>20.4f}" for name in values)
        print(f"{place + 1:>8}{len(part.truth.items):>8}{means}", flush=True)
    user = np.concatenate(users)
    flat = {name: np.concatenate(parts) for name, parts in values.items()}
    gain = bootstrap.paired(flat["live"], flat["fitted"], user, RESAMPLES).difference
    return {
        "config": config.name,
        "days": days,
        "clicks": len(user),
        **{f"MAP@5 {name}": round(float(part.mean()), 4) for name, part in flat.items()},
        "gain": vars(gain),
    }


def main() -> None:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.toml")
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--small", action="store_true", help="a tiny generated shop, a few steps: a quick look")
    arguments = parser.parse_args()
    overrides = [*arguments.overrides, *(SMALL if arguments.small else ())]
    print(json.dumps(run(arguments.config, overrides, arguments.days)))


if __name__ == "__main__":
    main()
