"""How much of what can be known was learned, on a generated shop whose truth is known."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from txrec.config import EvaluateConfig, ShopConfig
from txrec.data.prepared import Sequences
from txrec.evals.oracle_bound import oracle_bound
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.schema import EVENT_CODES, Split
from txrec.simulator import Shop
from txrec.simulator.files import START, user_id

SHOP = ShopConfig(num_items=120, num_users=80, num_events=4_000, days=20)
WINDOW = START + timedelta(days=15)


class _Data:
    """As much of a data set as the protocol and the oracle read, made from a shop's log without its dirt."""

    judged_only = False

    def __init__(self, shop: Shop) -> None:
        log = shop.log
        order = np.lexsort((np.arange(len(log)), log.user))
        texts = {text: row for row, text in enumerate(dict.fromkeys(q for q in log.query if q), start=1)}
        asked = {int(r): texts[q] for r, q in zip(log.request, log.query, strict=True) if q and r >= 0}
        query = np.array([asked.get(int(r), 0) for r in log.request], np.int32)
        ts = int(START.timestamp() * 1e6) + log.second * 1_000_000
        start = int(WINDOW.timestamp() * 1e6)
        self.sequences = Sequences(
            user_id=np.array([user_id(user) for user in range(SHOP.num_users)], dtype=object),
            offsets=np.append(0, np.cumsum(np.bincount(log.user, minlength=SHOP.num_users))).astype(np.int64),
            item_idx=(log.item[order] + 1).astype(np.int32),
            query_idx=query[order],
            event=np.array([EVENT_CODES[event] for event in log.event[order]], np.int8),
            ts=ts[order],
            value=np.zeros(len(log), np.float32),
            split=np.where(ts[order] < start, Split.TRAIN, Split.TEST).astype(np.int8),
        )
        self.meta = type("Meta", (), {"split_kind": "global_time", "test_start_ts": start})()
        self.items = pa.table({"item_id": [product.item_id for product in shop.catalogue.products]})
        self.path = None


@pytest.fixture(scope="module")
def data() -> _Data:
    return _Data(Shop.generate(SHOP))


@pytest.fixture(scope="module")
def asked(data: _Data) -> EvalRequests:
    return eval_requests(data, Split.TEST, EvaluateConfig())  # type: ignore[arg-type]


def test_the_truth_is_known_for_every_request_of_a_clean_log(data: _Data, asked: EvalRequests) -> None:
    found = oracle_bound(SHOP, data, asked, np.zeros(len(asked)))  # type: ignore[arg-type]
    assert found["num_cases"] == len(asked)
    assert {"all", "with_query", "without_query"} <= set(found)


def test_the_truth_answers_searches_far_better_than_popularity(data: _Data, asked: EvalRequests) -> None:
    from txrec.evals import metrics

    counts = np.bincount(data.sequences.item_idx[data.sequences.split == Split.TRAIN], minlength=121)
    top = (np.argsort(-counts[1:], kind="stable")[:10] + 1).astype(np.int32)[None, :].repeat(len(asked), axis=0)
    reached = metrics.per_case(top, asked.truth, (10,))["ndcg@10"]
    found = oracle_bound(SHOP, data, asked, reached)  # type: ignore[arg-type]
    assert found["with_query"]["share"] < 0.5
    assert 0 < found["all"]["share"] < 1
    assert found["all"]["ndcg@10"] > 0.3


def test_users_that_the_shop_does_not_know_are_left_out(data: _Data, asked: EvalRequests) -> None:
    renamed = np.array([f"stranger-{row}" for row in range(SHOP.num_users)], dtype=object)
    renamed[asked.user[0]] = data.sequences.user_id[asked.user[0]]
    other = object.__new__(_Data)
    other.__dict__.update(data.__dict__)
    other.sequences = Sequences(**{**vars(data.sequences), "user_id": renamed})
    found = oracle_bound(SHOP, other, asked, np.zeros(len(asked)))  # type: ignore[arg-type]
    assert found["num_cases"] == int((asked.user == asked.user[0]).sum())
