"""Which requests are asked, with which history, and what counts as right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.judged import judged_data
from tests.tiny import tiny_data
from txrec.config import EvaluateConfig
from txrec.data.prepared import PreparedData, Sequences
from txrec.evals import protocol
from txrec.evals.protocol import GroundTruth, eval_requests
from txrec.schema import PAD, EventKind, Split

S, V, C, P, SHOWN = EventKind.SEARCH, EventKind.VIEW, EventKind.CLICK, EventKind.PURCHASE, EventKind.IMPRESSION
MINUTE = 60_000_000


def sequences(*users: Sequence[tuple[int, int, int, int, int]]) -> Sequences:
    """Users as lists of (item, query, event, minute, split)."""
    flat = np.array([row for user in users for row in user], dtype=np.int64).reshape(-1, 5)
    return Sequences(
        user_id=np.array([f"u{u}" for u in range(len(users))], dtype=object),
        offsets=np.append(0, np.cumsum([len(user) for user in users])).astype(np.int64),
        item_idx=flat[:, 0].astype(np.int32),
        query_idx=flat[:, 1].astype(np.int32),
        event=flat[:, 2].astype(np.int8),
        ts=flat[:, 3] * MINUTE,
        value=np.zeros(len(flat), np.float32),
        split=flat[:, 4].astype(np.int8),
    )


class _Data:
    """As much of a data set as the protocol reads."""

    def __init__(self, events: Sequences, kind: str = "global_time", start_minute: int = 100) -> None:
        self.sequences = events
        self.meta = type("Meta", (), {"split_kind": kind, "test_start_ts": start_minute * MINUTE})()
        self.judged_only = False


def asked(events: Sequences, kind: str = "global_time", **settings: object) -> list[tuple[int, int, int, list[int]]]:
    """(user, length of the history, query, right items) of every test case."""
    found = eval_requests(_Data(events, kind), Split.TEST, EvaluateConfig(**settings))  # type: ignore[arg-type]
    return [
        (int(found.user[c]), len(found.history(c).item_idx), int(found.query_idx[c]), found.truth.of(c).tolist())
        for c in range(len(found))
    ]


def test_a_search_with_its_clicks_is_one_case_with_everything_before_it_as_history() -> None:
    user = [(5, 0, V, 1, 0), (PAD, 1, S, 101, 2), (7, 1, C, 102, 2), (8, 1, C, 103, 2)]
    assert asked(sequences(user)) == [(0, 1, 1, [7, 8])]


def test_each_click_of_a_search_can_be_asked_for_with_the_clicks_before_it_as_history() -> None:
    user = [(5, 0, V, 1, 0), (PAD, 1, S, 101, 2), (7, 1, C, 102, 2), (8, 1, C, 103, 2), (7, 1, P, 104, 2)]
    browsed = [(3, 0, V, 101, 2), (4, 0, V, 102, 2)]
    assert asked(sequences(user, browsed), each_click=True) == [(0, 2, 1, [7]), (0, 3, 1, [8]), (1, 0, 0, [3, 4])]


def test_a_search_without_clicks_is_no_case() -> None:
    assert asked(sequences([(PAD, 1, S, 101, 2), (PAD, 2, S, 102, 2), (9, 2, C, 103, 2)])) == [(0, 1, 2, [9])]


def test_a_click_that_names_a_query_is_its_own_search_where_none_was_logged() -> None:
    assert asked(sequences([(3, 0, V, 1, 0), (7, 4, C, 101, 2)])) == [(0, 1, 4, [7])]


def test_the_same_query_after_an_item_or_a_long_pause_is_a_new_search() -> None:
    again = [(PAD, 1, S, 101, 2), (7, 1, C, 102, 2), (PAD, 1, S, 103, 2), (8, 1, C, 104, 2), (9, 1, P, 200, 2)]
    assert asked(sequences(again)) == [(0, 0, 1, [7]), (0, 2, 1, [8]), (0, 4, 1, [9])]


def test_a_repeated_search_event_begins_no_second_case() -> None:
    assert asked(sequences([(PAD, 1, S, 101, 2), (PAD, 1, S, 102, 2), (8, 1, C, 104, 2)])) == [(0, 0, 1, [8])]


def test_what_was_done_without_a_query_is_one_case_a_user_asked_at_the_start_of_the_window() -> None:
    users = ([(1, 0, V, 1, 0), (2, 0, V, 99, 1), (3, 0, V, 101, 2), (4, 0, C, 102, 2), (3, 0, C, 103, 2)],)
    assert asked(sequences(*users)) == [(0, 2, 0, [3, 4])]
    found = eval_requests(_Data(sequences(*users)), Split.TEST, EvaluateConfig())  # type: ignore[arg-type]
    assert found.now_us.tolist() == [100 * MINUTE]


def test_a_user_who_is_new_in_the_window_has_an_empty_history() -> None:
    assert asked(sequences([(3, 0, V, 101, 2)], [(4, 0, V, 102, 2)])) == [(0, 0, 0, [3]), (1, 0, 0, [4])]


def test_users_new_in_the_window_are_asked_again_with_the_first_half_of_their_events_as_history() -> None:
    known = [(1, 0, V, 1, 0), (3, 0, V, 101, 2)]
    new = [(3, 0, V, 101, 2), (4, 0, V, 102, 2), (5, 0, V, 103, 2)]
    both = [(1, 0, 0, [3, 4, 5]), (1, 2, 0, [5])]
    assert asked(sequences(known, new), fold_in=True) == [(0, 1, 0, [3]), *both]
    assert asked(sequences(known, new), fold_in=False) == [(0, 1, 0, [3]), both[0]]
    found = eval_requests(_Data(sequences(new)), Split.TEST, EvaluateConfig(fold_in=True))  # type: ignore[arg-type]
    assert found.now_us.tolist() == [100 * MINUTE, 103 * MINUTE]


def test_a_log_whose_users_are_mostly_new_in_the_window_is_asked_by_fold_in_unless_told_otherwise() -> None:
    known, new = [(1, 0, V, 1, 0), (3, 0, V, 101, 2)], [(3, 0, V, 101, 2), (4, 0, V, 102, 2)]
    assert len(asked(sequences(known, new))) == 2
    assert len(asked(sequences(known, new, new))) == 3 + 2
    assert len(asked(sequences(known, new, new), fold_in=False)) == 3


def test_a_new_user_with_a_single_event_has_nothing_to_fold_in() -> None:
    assert asked(sequences([(3, 0, V, 101, 2)], [(4, 0, V, 102, 2)]), fold_in=True) == [(0, 0, 0, [3]), (1, 0, 0, [4])]


def test_impressions_are_never_right_answers() -> None:
    assert asked(sequences([(PAD, 1, S, 101, 2), (7, 1, SHOWN, 101, 2), (9, 1, C, 103, 2)])) == [(0, 0, 1, [9])]


def test_only_the_configured_kinds_are_right_answers() -> None:
    user = [(PAD, 1, S, 101, 2), (7, 1, C, 102, 2), (8, 1, P, 103, 2), (9, 0, V, 104, 2)]
    assert asked(sequences(user), target_events=("purchase",)) == [(0, 0, 1, [8])]


def test_leave_one_out_asks_for_the_last_item_with_the_validation_item_in_the_history() -> None:
    users = ([(1, 0, V, 0, 0), (2, 0, V, 0, 1), (3, 0, V, 0, 2)], [(5, 0, V, 0, 0), (6, 2, C, 0, 2)])
    assert asked(sequences(*users), kind="leave_one_out") == [(0, 2, 0, [3]), (1, 1, 2, [6])]


def test_a_history_never_reaches_into_what_is_asked_for(tiny: PreparedData) -> None:
    found = eval_requests(tiny, Split.TEST, EvaluateConfig())
    for case in range(len(found)):
        assert (found.history(case).ts < max(int(found.now_us[case]), 1)).all()
        owner = found.user[case]
        assert tiny.sequences.offsets[owner] <= found.start[case] <= found.end[case] < tiny.sequences.offsets[owner + 1]


def test_every_target_of_the_window_is_asked_for_exactly_once_per_request(tiny: PreparedData) -> None:
    found = eval_requests(tiny, Split.VALIDATION, EvaluateConfig())
    events = tiny.sequences
    expected = {
        (int(u), int(events.item_idx[i]))
        for u in range(len(events))
        for i in range(events.offsets[u], events.offsets[u + 1])
        if events.item_idx[i] and events.split[i] == Split.VALIDATION
    }
    assert {(int(found.user[c]), int(item)) for c in range(len(found)) for item in found.truth.of(c)} == expected


def test_a_sample_is_seeded_and_keeps_cases_and_truth_together(tiny: PreparedData) -> None:
    whole = eval_requests(tiny, Split.TEST, EvaluateConfig())
    part = eval_requests(tiny, Split.TEST, EvaluateConfig(max_cases=10))
    assert len(part) == 10
    assert (part.user == eval_requests(tiny, Split.TEST, EvaluateConfig(max_cases=10)).user).all()
    places = {(int(whole.user[c]), int(whole.end[c])): c for c in range(len(whole))}
    for case in range(10):
        same = places[int(part.user[case]), int(part.end[case])]
        assert part.truth.of(case).tolist() == whole.truth.of(same).tolist()


def test_equal_pairs_of_a_truth_count_once() -> None:
    truth = GroundTruth.group(np.array([1, 1, 0, 1]), np.array([5, 5, 2, 3], np.int32), 3)
    assert [truth.of(c).tolist() for c in range(3)] == [[2], [3, 5], []]


def test_data_without_time_is_asked_leave_one_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tiny_data(tmp_path_factory.mktemp("loo") / "data", has_time=False, split_kind="leave_one_out")
    found = protocol.eval_requests(data, Split.TEST, EvaluateConfig())
    assert len(found) == 80
    assert (found.truth.counts == 1).all()
    assert (found.now_us == 0).all()


def test_judged_queries_are_the_requests_where_there_is_no_log(tmp_path: Path) -> None:
    found = eval_requests(judged_data(tmp_path), Split.TEST, EvaluateConfig())
    assert found.query_idx.tolist() == [2]
    assert found.truth.items.tolist() == [1]  # of grades 3, 2 and 1 the one in the upper half
    assert (len(found.history(0).item_idx), found.user.tolist()) == (0, [-1])
