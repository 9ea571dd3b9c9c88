"""Which requests and which right items belong to which slice."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from tests.txrec.evals.test_protocol import SHOWN, C, P, S, V, sequences
from txrec import schema
from txrec.config import EvaluateConfig
from txrec.data.profiles import StoredProfiles
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.evals.slices import Slice, slices
from txrec.schema import PAD, Split

MINUTE = 60_000_000
COUNTS = [9, 5, 4, 3, 2, 1, 0, 0]
"""Training events of items 1 to 8: the head of six trained items is the first two, 7 and 8 are cold."""
QUERIES = [3, 0]
"""Training events of queries 1 and 2: the second was never seen."""


class _Data:
    def __init__(self, *users: Sequence[tuple[int, int, int, int, int]]) -> None:
        self.sequences = sequences(*users)
        self.meta = type("Meta", (), {"split_kind": "global_time", "test_start_ts": 100 * MINUTE})()
        self.items = pa.table({"train_count": COUNTS})
        self.queries = pa.table({"train_count": QUERIES})
        self.judged_only = False
        self.profiles: StoredProfiles | None = None


DATA = _Data(
    [(1, 0, V, 101, 2), (7, 0, C, 102, 2)],  # new; one head item, one cold
    [(2, 0, V, 1, 0), (4, 0, SHOWN, 2, 0), (PAD, 1, S, 101, 2), (3, 1, C, 102, 2)],  # one item; a known query; tail
    [(i % 6 + 1, 0, V, i, 0) for i in range(20)] + [(PAD, 2, S, 101, 2), (2, 2, P, 102, 2)],  # 20 items; a new query
    [(i % 6 + 1, 0, V, i, 0) for i in range(21)] + [(8, 0, V, 101, 2)],
    [(i % 6 + 1, 0, V, i // 10, 0) for i in range(101)] + [(6, 0, V, 101, 2)],
)
SEARCHED = _Data([(1, 0, V, 1, 0), (PAD, 1, S, 101, 2), (3, 1, C, 102, 2), (7, 1, C, 103, 2)])
"""A search that led to a known product and a new one."""


@pytest.fixture(scope="module")
def asked() -> EvalRequests:
    return eval_requests(DATA, Split.TEST, EvaluateConfig())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found(asked: EvalRequests) -> dict[str, Slice]:
    return {part.name: part for part in slices(DATA, asked)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "users"),
    [
        ("with_query", [1, 2]),
        ("without_query", [0, 3, 4]),
        ("seen_query", [1]),
        ("unseen_query", [2]),
        ("new_user", [0]),
        ("history_1_5", [1]),
        ("history_6_20", [2]),
        ("history_21_100", [3]),
        ("history_over_100", [4]),
    ],
)
def test_a_request_belongs_to_the_slices_that_its_query_and_history_say(
    name: str, users: list[int], found: dict[str, Slice], asked: EvalRequests
) -> None:
    assert asked.user[found[name].rows].tolist() == users
    assert all((found[name].truth.of(i) == asked.truth.of(int(row))).all() for i, row in enumerate(found[name].rows))


@pytest.mark.parametrize(
    ("name", "right"),
    [("head_item", {0: [1], 2: [2]}), ("tail_item", {1: [3], 4: [6]}), ("cold_item", {0: [7], 3: [8]})],
)
def test_a_right_item_belongs_to_the_slice_of_its_popularity(
    name: str, right: dict[int, list[int]], found: dict[str, Slice], asked: EvalRequests
) -> None:
    part = found[name]
    assert {int(asked.user[row]): part.truth.of(i).tolist() for i, row in enumerate(part.rows)} == right


def test_new_products_are_also_read_apart_where_they_were_searched_for(found: dict[str, Slice]) -> None:
    assert "cold_item_searched" not in found
    asked = eval_requests(SEARCHED, Split.TEST, EvaluateConfig())  # type: ignore[arg-type]
    parts = {part.name: part for part in slices(SEARCHED, asked)}  # type: ignore[arg-type]
    assert parts["cold_item_searched"].truth.items.tolist() == [7]


def test_rare_and_new_products_and_new_users_are_read_apart_where_nobody_searched(
    found: dict[str, Slice], asked: EvalRequests
) -> None:
    names = ("tail_item_without_query", "cold_item_without_query", "new_user_without_query")
    by_user = {
        name: {int(asked.user[row]): found[name].truth.of(i).tolist() for i, row in enumerate(found[name].rows)}
        for name in names
    }
    assert list(by_user.values()) == [{4: [6]}, {0: [7], 3: [8]}, {0: [1, 7]}]
    browsing = asked.select(np.flatnonzero(asked.query_idx == PAD))
    assert not {part.name for part in slices(DATA, browsing)} & set(names)  # type: ignore[arg-type]


def test_slices_that_have_no_case_are_left_out(found: dict[str, Slice], asked: EvalRequests) -> None:
    searched = asked.select(np.flatnonzero(asked.query_idx == 1))
    assert {part.name for part in slices(DATA, searched)} == {  # type: ignore[arg-type]
        "with_query",
        "seen_query",
        "history_1_5",
        "tail_item",
    }


def test_lengths_count_what_the_user_engaged_with(asked: EvalRequests) -> None:
    assert asked.lengths.tolist() == [len(asked.items(case)) for case in range(len(asked))] == [0, 1, 20, 21, 101]


def test_each_segment_of_the_users_table_is_a_slice_of_its_users_requests(asked: EvalRequests) -> None:
    data = _Data([(1, 0, V, 101, 2)])
    data.sequences = DATA.sequences
    names = [str(user) for user in DATA.sequences.user_id]
    rows = [
        {"user_id": names[0], "properties": [], "segments": ["vip", "trade"]},
        {"user_id": names[3], "properties": [], "segments": ["vip"]},
        {"user_id": "nobody", "properties": [], "segments": ["lost"]},
    ]
    data.profiles = StoredProfiles(pa.Table.from_pylist(rows, schema.USERS))
    found = {part.name: part.rows.tolist() for part in slices(data, asked)}  # type: ignore[arg-type]
    users = {name: [int(asked.user[row]) for row in part] for name, part in found.items() if "segment" in name}
    assert users == {"segment_vip": [0, 3], "segment_trade": [0]}
