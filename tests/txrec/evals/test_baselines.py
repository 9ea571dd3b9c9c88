"""Baselines answer every request and what they answer is what they say."""

import numpy as np
import pytest

from tests.tiny import KINDS, NUM_PER_KIND, tiny_data
from txrec.config import EvaluateConfig
from txrec.data.prepared import PreparedData
from txrec.evals import baselines, metrics
from txrec.evals.baselines import Ease, MostClicked, fill
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.index.source import SourceQuery
from txrec.index.training_log import EventLog
from txrec.schema import Split


@pytest.fixture(scope="module")
def asked(tiny: PreparedData) -> EvalRequests:
    return eval_requests(tiny, Split.TEST, EvaluateConfig())


@pytest.fixture(scope="module")
def lists(tiny: PreparedData, asked: EvalRequests) -> dict[str, np.ndarray]:
    texts = tiny.queries.column("query").to_pylist()
    return baselines.answer(baselines.fit(tiny, Split.TEST), asked, texts, tiny.meta.num_items, 20)


def log_of(rows: list[tuple[int, int, int]]) -> EventLog:
    """(user, item, query) a row."""
    user, item, query = (np.array(column, np.int32) for column in zip(*rows, strict=True))
    return EventLog(user, item, query, np.full(len(item), 4, np.int8), np.zeros(len(item), np.int64), 0)


def only(text: str = "", items: tuple[int, ...] = ()) -> SourceQuery:
    return SourceQuery([text], np.zeros((1, 1), np.float32), [np.array(items, np.int32)])


def test_every_baseline_fills_every_list_with_distinct_items(lists: dict[str, np.ndarray]) -> None:
    assert {
        "popularity",
        "recent_popularity",
        "covisitation",
        "ease",
        "most_clicked",
        "bm25",
        "query_heuristic",
    } == set(lists)
    for ids in lists.values():
        assert (ids > 0).all()
        assert all(len(set(row)) == len(row) for row in ids.tolist())


def test_what_reads_the_history_or_the_query_beats_popularity_where_taste_decides(
    lists: dict[str, np.ndarray], asked: EvalRequests
) -> None:
    score = {name: metrics.per_case(ids, asked.truth, (10,))["ndcg@10"] for name, ids in lists.items()}
    for name in ("covisitation", "ease"):
        assert score[name].mean() > 2 * score["popularity"].mean()
    searched = asked.query_idx > 0
    assert not searched.any() or score["most_clicked"][searched].mean() > score["popularity"][searched].mean()


def test_most_clicked_ranks_by_clicks_of_exactly_this_query() -> None:
    baseline = MostClicked(log_of([(0, 5, 1), (1, 5, 1), (0, 6, 1), (0, 7, 2), (0, 8, 0)]), ["tv", "radio"], 9)
    assert baseline.search(only("tv"), 3, [None]).item_idx.tolist() == [[5, 6, 0]]
    assert baseline.search(only("tvs"), 3, [None]).item_idx.tolist() == [[0, 0, 0]]


def test_ease_is_the_closed_form_solution() -> None:
    rng = np.random.default_rng(0)
    seen = rng.random((30, 6)) < 0.4
    users, items = np.nonzero(seen)
    model = Ease(log_of([(int(u), int(i) + 1, 0) for u, i in zip(users, items, strict=True)]), 30, 6)
    x = seen.astype(float)
    # every column is the ridge regression of one item on the others, here solved one by one
    expected = np.zeros((6, 6))
    for item in range(6):
        others = [other for other in range(6) if other != item]
        gram = x[:, others].T @ x[:, others] + baselines.EASE_PENALTY * np.eye(5)
        expected[others, item] = np.linalg.solve(gram, x[:, others].T @ x[:, item])
    assert model._weights[1:, 1:] == pytest.approx(expected, abs=1e-5)


def test_the_heuristic_survives_a_typing_error(tiny: PreparedData) -> None:
    found = baselines.fit(tiny, Split.TEST)["query_heuristic"].search(only("ketle"), 5, [None]).item_idx[0]
    assert KINDS[0] == "kettle"
    assert set(found.tolist()) <= set(range(1, NUM_PER_KIND + 1)) | {len(KINDS) * NUM_PER_KIND + 1}


def test_filling_keeps_what_is_there_and_repeats_nothing() -> None:
    ids = np.array([[3, 0, 0], [1, 2, 3], [0, 0, 0]], np.int32)
    more = np.array([[3, 1, 2]] * 3, np.int32)
    assert fill(ids, more).tolist() == [[3, 1, 2], [1, 2, 3], [3, 1, 2]]


def test_seen_items_are_left_out_where_the_protocol_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tiny_data(tmp_path_factory.mktemp("seen") / "data", has_time=False, split_kind="leave_one_out")
    asked = eval_requests(data, Split.TEST, EvaluateConfig(filter_seen=True))
    texts = data.queries.column("query").to_pylist()
    for ids in baselines.answer(baselines.fit(data, Split.TEST), asked, texts, data.meta.num_items, 10).values():
        assert not any(np.isin(ids[case], asked.items(case)).any() for case in range(len(asked)))


def test_nothing_of_the_split_is_counted(tiny: PreparedData) -> None:
    counted = EventLog.before(tiny, Split.TEST)
    assert len(counted) == int(((tiny.sequences.split < Split.TEST) & (tiny.sequences.item_idx > 0)).sum())
    assert counted.ts.max() < tiny.meta.test_start_ts
