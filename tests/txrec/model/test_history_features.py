"""A user's events become positions, the same ones for training, evaluation and serving."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from txrec.config import ModelConfig, TrainConfig
from txrec.data.prepared import PreparedData
from txrec.model.history_features import NEW_SEARCH_US, History, collate, to_positions
from txrec.schema import EventKind
from txrec.train.retrieval.examples import Examples, training_part

SEARCH, VIEW, CLICK, PURCHASE, IMPRESSION = (
    EventKind.SEARCH,
    EventKind.VIEW,
    EventKind.CLICK,
    EventKind.PURCHASE,
    EventKind.IMPRESSION,
)
CFG = ModelConfig(max_length=6)


def history(*rows: tuple[int, int, int, int]) -> History:
    """Rows of (item, query, event, ts)."""
    item, query, event, ts = zip(*rows, strict=True) if rows else ((), (), (), ())
    return History(
        np.array(item, np.int32), np.array(query, np.int32), np.array(event, np.int8), np.array(ts, np.int64)
    )


def positions_of(*rows: tuple[int, int, int, int]) -> list[tuple[int, int, int]]:
    flat = history(*rows)
    got = to_positions(flat, np.array([0, len(flat.item_idx)]))
    return list(zip(got.item_idx.tolist(), got.query_idx.tolist(), got.event.tolist(), strict=True))


def test_a_run_of_events_on_one_item_is_one_position_of_the_strongest_kind() -> None:
    assert positions_of((5, 0, VIEW, 1), (5, 0, PURCHASE, 2), (5, 0, CLICK, 3), (6, 0, VIEW, 4)) == [
        (5, 0, PURCHASE),
        (6, 0, VIEW),
    ]


def test_a_query_that_led_to_a_click_stands_before_it() -> None:
    assert positions_of((5, 3, CLICK, 1)) == [(0, 3, SEARCH), (5, 0, CLICK)]


def test_a_search_that_is_already_there_is_not_repeated() -> None:
    assert positions_of((0, 3, SEARCH, 1), (5, 3, CLICK, 2), (6, 3, CLICK, 3)) == [
        (0, 3, SEARCH),
        (5, 0, CLICK),
        (6, 0, CLICK),
    ]


def test_the_same_query_much_later_is_a_new_search() -> None:
    late = NEW_SEARCH_US + 2
    assert positions_of((5, 3, CLICK, 1), (6, 3, CLICK, late)) == [
        (0, 3, SEARCH),
        (5, 0, CLICK),
        (0, 3, SEARCH),
        (6, 0, CLICK),
    ]


def test_another_query_in_between_makes_the_first_one_new_again() -> None:
    assert [query for _, query, _ in positions_of((5, 3, CLICK, 1), (6, 4, CLICK, 2), (7, 3, CLICK, 3))] == [
        3,
        0,
        4,
        0,
        3,
        0,
    ]


def test_impressions_are_no_positions() -> None:
    assert positions_of((5, 0, IMPRESSION, 1), (6, 0, VIEW, 2), (5, 0, IMPRESSION, 3)) == [(6, 0, VIEW)]


def test_positions_of_a_user_do_not_depend_on_who_stands_before_him() -> None:
    rows = [(5, 3, CLICK, 1), (5, 0, VIEW, 2), (0, 4, SEARCH, 3)]
    both = history(*rows, *rows)
    got = to_positions(both, np.array([0, 3, 6]))
    assert got.offsets.tolist() == [0, 3, 6]
    assert got.item_idx.tolist() == [0, 5, 0, 0, 5, 0]
    assert got.query_idx.tolist() == [3, 0, 4, 3, 0, 4]


def test_the_target_is_the_next_item_strictly_after_a_position() -> None:
    flat = history((5, 3, CLICK, 1), (5, 0, VIEW, 2), (0, 4, SEARCH, 3), (7, 4, CLICK, 4), (0, 5, SEARCH, 5))
    target, asked = to_positions(flat, np.array([0, 5])).next_targets()
    assert target.tolist() == [5, 7, 7, 0, 0]  # positions: search 3, item 5, search 4, item 7, search 5
    assert asked.tolist() == [1, 4, 4, 0, 0]


def test_only_the_asked_kinds_are_targets() -> None:
    flat = history((5, 0, VIEW, 1), (6, 0, VIEW, 2), (6, 0, PURCHASE, 3), (7, 0, VIEW, 4))
    target, _ = to_positions(flat, np.array([0, 4]), [PURCHASE]).next_targets()
    assert target.tolist() == [6, 0, 0]


def test_no_target_reaches_into_the_next_user() -> None:
    flat = history((5, 0, VIEW, 1), (6, 0, VIEW, 2), (7, 0, VIEW, 1))
    target, _ = to_positions(flat, np.array([0, 2, 2, 3])).next_targets()
    assert target.tolist() == [6, 0, 0]


def test_the_query_of_the_request_is_the_last_position() -> None:
    batch = collate([history((5, 0, VIEW, 1)), history()], None, CFG, np.array([2, 3], np.int32), 10)
    assert batch.length.tolist() == [2, 1]
    assert batch.query_idx.tolist() == [[0, 2], [3, 0]]
    assert batch.item_idx.tolist() == [[5, 0], [0, 0]]


def test_only_the_latest_positions_are_used() -> None:
    batch = collate([history(*[(item, 0, VIEW, item) for item in range(1, 11)])], None, CFG)
    assert batch.item_idx.tolist() == [[5, 6, 7, 8, 9, 10]]


def test_a_batch_of_empty_histories_is_a_batch() -> None:
    batch = collate([history(), history()], None, CFG)
    assert batch.length.tolist() == [0, 0]
    assert not batch.mask.any()


def test_times_are_seconds_since_the_first_position_and_the_last_request_is_now() -> None:
    second = 1_000_000
    start = 1_700_000_000 * second
    batch = collate(
        [history((5, 0, VIEW, start), (6, 0, VIEW, start + 90 * second))], None, CFG, now_us=start + 100 * second
    )
    assert batch.ts.tolist() == [[0.0, 90.0]]
    assert batch.request_ts.tolist() == [[90.0, 100.0]]


def test_unknown_times_are_zero() -> None:
    batch = collate([history((5, 0, VIEW, 0), (6, 0, VIEW, 0))], None, CFG, now_us=1_700_000_000_000_000)
    assert batch.ts.tolist() == [[0.0, 0.0]]
    assert batch.request_ts.tolist() == [[0.0, 0.0]]


def test_training_windows_hold_what_collate_makes_of_the_same_events(tiny: PreparedData) -> None:
    cfg = ModelConfig(max_length=50)
    examples = Examples.of(tiny.sequences, None, cfg, TrainConfig())
    events, offsets = training_part(tiny.sequences)
    starts, ends = examples.windows(np.random.default_rng(0))
    window = examples.batch(starts, ends)
    histories = [
        History(*(getattr(events, name)[a:b] for name in ("item_idx", "query_idx", "event", "ts")))
        for a, b in itertools.pairwise(offsets)
    ]
    whole = collate(histories, None, cfg)
    width = window.item_idx.shape[1]
    shown = window.mask
    for name in ("item_idx", "query_idx", "event", "ts"):
        assert torch.equal(getattr(window, name)[shown], getattr(whole, name)[:, :width][shown]), name


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 4), st.integers(0, 3), st.sampled_from([VIEW, CLICK, PURCHASE, IMPRESSION]), st.integers(0, 9)
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=200)
@given(EVENTS)
def test_positions_follow_the_rules_whatever_the_events(rows: list[tuple[int, int, int, int]]) -> None:
    rows = [(i, q, SEARCH if i == 0 else e, t) for i, q, e, t in rows if i or q]
    assert positions_of(*rows) == _by_hand(rows)


def _by_hand(rows: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int]]:
    out: list[tuple[int, int, int]] = []
    named = 0
    for item, query, event, _ in rows:
        if event == IMPRESSION:
            continue
        steps = [(0, query, SEARCH)] if item == 0 or (query and query != named) else []
        steps += [(item, 0, EventKind(event))] if item else []
        named = query or named
        for step in steps:
            if out and out[-1][:2] == step[:2]:
                out[-1] = (*step[:2], max(out[-1][2], step[2]))
            else:
                out.append(step)
    return out


@pytest.mark.parametrize("max_length", [2, 3, 7])
def test_windows_of_long_histories_cover_every_target_once(tiny: PreparedData, max_length: int) -> None:
    examples = Examples.of(tiny.sequences, None, ModelConfig(max_length=max_length), TrainConfig())
    for seed in range(5):
        starts, ends = examples.windows(np.random.default_rng(seed))
        assert (ends - starts <= max_length).all()
        covered = np.zeros(len(examples.target), int)
        for start, end in zip(starts, ends, strict=True):
            covered[start:end] += 1
        assert (covered[examples.target != 0] == 1).all()
        assert covered.max() == 1


def test_the_example_of_the_documentation_has_the_positions_that_it_shows() -> None:
    search, click, cart, view = EventKind.SEARCH, EventKind.CLICK, EventKind.CART, EventKind.VIEW
    lamp, desk = 1, 2
    events = History(
        np.array([0, 5, 5, 7], np.int32),
        np.array([lamp, lamp, lamp, desk], np.int32),
        np.array([search, click, cart, view], np.int8),
        np.array([10, 20, 30, 40], np.int64) * 1_000_000,
    )
    positions = to_positions(events, np.array([0, 4], np.int64))
    rows = list(zip(positions.item_idx.tolist(), positions.query_idx.tolist(), positions.event.tolist(), strict=True))
    assert rows == [(0, lamp, search), (5, 0, cart), (0, desk, search), (7, 0, view)]
