"""A case of ranker features small enough to be worked out by hand: three products, six events, one search."""

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

from txrec import schema
from txrec.config import TextConfig
from txrec.index.sources.covisitation import Covisitation
from txrec.index.sources.dense import Dense
from txrec.index.sources.lexical import Lexical
from txrec.index.sources.popularity import Popularity
from txrec.index.sources.query_clicks import QueryClicks
from txrec.index.training_log import EventLog
from txrec.model.history_features import History
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.ranking.activity import Activity
from txrec.recommender.ranking.ranking_features import RankingFeatures
from txrec.recommender.types import Candidates, Request
from txrec.schema import DAY_US, EventKind
from txrec.text import Analyser

LAMP, TENT, COLD = 1, 2, 3
NOW = 10 * DAY_US


def items() -> pa.Table:
    rows = [("a", "red lamp", 9.0, 5), ("b", "tent", None, 1), ("c", "blue lamp", 19.0, 0)]
    plain = [
        {
            "item_id": item_id,
            "title": title,
            "text": title,
            "price": price,
            "category_idx": 2 if title == "tent" else 1,
            "brand_idx": 0,
            "price_bucket": 0,
            "train_count": count,
        }
        for item_id, title, price, count in rows
    ]
    return pa.Table.from_pylist(plain, schema=schema.PREPARED_ITEMS)


def features() -> RankingFeatures:
    """Six events in the log: five of the lamp, three of them after the query `lamp`, and one of the tent."""
    analyser = Analyser.of_catalogue(TextConfig(), items())
    log_ = EventLog(
        user_idx=np.array([0, 0, 1, 1, 2, 2], np.int32),
        item_idx=np.array([LAMP, LAMP, LAMP, LAMP, LAMP, TENT], np.int32),
        query_idx=np.array([1, 1, 1, 0, 0, 0], np.int32),
        kind=np.full(6, EventKind.CLICK, np.int8),
        ts=np.zeros(6, np.int64),
        end_us=NOW,
    )
    queries = pa.table({"query": ["lamp"], "train_count": [3]})
    affinity = sp.csr_array(([0.5], ([TENT], [LAMP])), shape=(4, 4))
    counts = np.array([0, 5, 1, 0], np.float32)
    activity = Activity(
        slow=counts,
        fast=(counts / 2).astype(np.float32),
        plain=counts,
        last_ts=np.array([0, NOW - DAY_US, NOW - 3 * DAY_US, 0]),
        first_ts=np.array([0, NOW - 7 * DAY_US, NOW - 3 * DAY_US, 0]),
        end_us=NOW,
    )
    vectors = np.array([[0, 0], [1, 0], [0, 1], [0.6, 0.8]], np.float32)
    text = np.array([[0, 0], [0.8, 0.6], [0, 1], [1, 0]], np.float32)
    sources = {
        "query_clicks": QueryClicks.fit(log_, queries, 3, 30.0),
        "lexical": Lexical.fit(items(), analyser),
        "dense": Dense.fit(vectors),
        "covisitation": Covisitation(affinity),
        "popularity": Popularity(counts),
    }
    return RankingFeatures(Catalogue(items(), analyser=analyser), activity, vectors, text, sources)


def candidates() -> Candidates:
    """A search for `lamp` by a user who bought the lamp four days ago and clicked the tent two days ago."""
    nothing = np.nan
    scores = [
        [0.9, 4.0, 0.6, nothing, 5.0],
        [nothing, nothing, 0.3, nothing, 1.0],
        [nothing, 2.0, nothing, nothing, nothing],
    ]
    ranks = [[1, 1, 1, 0, 1], [0, 0, 2, 0, 2], [0, 2, 0, 0, 0]]
    history = History(
        np.array([LAMP, TENT], np.int32),
        np.zeros(2, np.int32),
        np.array([EventKind.PURCHASE, EventKind.CLICK], np.int8),
        np.array([NOW - 4 * DAY_US, NOW - 2 * DAY_US]),
    )
    return Candidates(
        request=Request(query="lamp"),
        history=history,
        query="lamp",
        query_vector=np.array([1.0, 0.0], np.float32),
        state=np.array([0.6, 0.8], np.float32),
        item_idx=np.array([LAMP, TENT, COLD], np.int32),
        fused=np.array([0.3, 0.2, 0.1], np.float32),
        scores=np.array(scores, np.float32),
        ranks=np.array(ranks, np.int32),
        now_us=NOW,
    )


def check(values: dict[str, list[float]], expected: dict[str, list[float]]) -> None:
    for name, column in expected.items():
        assert values[name] == pytest.approx(column, abs=1e-5), name
