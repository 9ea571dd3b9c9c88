from typing import Any

import numpy as np
import pytest

from tests.updates import update
from txrec.config import Config
from txrec.index.rank_fusion import ReservedSlots
from txrec.index.source import SourceQuery
from txrec.index.sources import new_items
from txrec.index.sources.new_items import NewItems
from txrec.index.training_log import EventLog

N, DIM = 40, 8


def log_of(*items: int) -> EventLog:
    none = np.zeros(len(items), np.int32)
    return EventLog(none, np.array(items, np.int32), none, none.astype(np.int8), none.astype(np.int64), 0)


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.standard_normal(shape).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


@pytest.fixture
def vectors() -> np.ndarray:
    found = unit(np.random.default_rng(0), N + 1, DIM)
    found[0] = 0
    return found


@pytest.fixture
def texts() -> np.ndarray:
    found = unit(np.random.default_rng(4), N + 1, 2 * DIM)
    found[0] = 0
    return found


@pytest.fixture
def source(vectors: np.ndarray, texts: np.ndarray) -> NewItems:
    """Products 31 to 40 are new."""
    return NewItems.fit(log_of(*range(1, 31), 3, 3), vectors, texts)


def asking(states: np.ndarray) -> SourceQuery:
    return SourceQuery([""] * len(states), states, [np.empty(0, np.int32)] * len(states))


def test_products_without_events_come_nearest_first_and_nothing_else(source: NewItems, vectors: np.ndarray) -> None:
    states = unit(np.random.default_rng(1), 3, DIM)
    hits = source.search(asking(states), 20, [None] * 3)
    for row, state in enumerate(states):
        assert hits.item_idx[row].tolist() == (31 + np.argsort(-(vectors[31:] @ state))).tolist() + [0] * 10
        assert hits.scores[row, :10] == pytest.approx(np.sort(vectors[31:] @ state)[::-1])


def test_masks_hold_and_an_empty_history_finds_nothing(source: NewItems, vectors: np.ndarray) -> None:
    mask = np.zeros(N + 1, np.bool_)
    mask[[5, 33, 38]] = True
    hits = source.search(asking(np.stack([vectors[7], np.zeros(DIM, np.float32)])), 5, [mask, None])
    assert sorted(hits.item_idx[0].tolist()) == [0, 0, 0, 33, 38]
    assert not hits.item_idx[1].any()


def test_requests_that_share_a_mask_share_what_it_leaves_of_new_products(
    source: NewItems, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[np.ndarray]] = []
    nearest = source._dense.nearest

    def recorded(states: Any, k: int, masks: Any) -> Any:
        given.append(masks)
        return nearest(states, k, masks)

    monkeypatch.setattr(source._dense, "nearest", recorded)
    mask, other = np.arange(N + 1) > 35, np.arange(N + 1) > 38
    hits = source.search(asking(vectors[[7, 8, 9]]), 5, [mask, mask, other])
    assert [sorted(row[row > 0].tolist()) for row in hits.item_idx] == [[*range(36, 41)], [*range(36, 41)], [39, 40]]
    assert given[0][0] is given[0][1] is not given[0][2]


def test_products_known_to_come_later_are_left_out(vectors: np.ndarray, texts: np.ndarray) -> None:
    absent = np.arange(N + 1) > 35
    assert NewItems.fit(log_of(*range(1, 31)), vectors, texts, absent).item_idx.tolist() == [31, 32, 33, 34, 35]


def test_without_a_log_or_without_new_products_nothing_is_proposed(vectors: np.ndarray, texts: np.ndarray) -> None:
    for log in (log_of(), log_of(*range(1, N + 1))):
        source = NewItems.fit(log, vectors, texts)
        assert not len(source.item_idx)
        assert not source.search(asking(vectors[[4]]), 5, [None]).item_idx.any()


def test_what_the_user_had_counts_beside_the_state_unless_he_searches(
    source: NewItems, vectors: np.ndarray, texts: np.ndarray
) -> None:
    state = unit(np.random.default_rng(3), DIM)
    asked = SourceQuery(["", "lamp"], np.stack([state, state]), [np.array([4, 9], np.int32)] * 2)
    hits = source.search(asked, 10, [None, None])
    near = [(of[31:] @ of[[4, 9]].T).max(axis=1) for of in (vectors, texts)]
    own = (vectors[31:] @ state + near[0] + near[1]) / 3
    assert hits.item_idx[0].tolist() == (31 + np.argsort(-own)).tolist()
    assert hits.scores[0] == pytest.approx(np.sort(own)[::-1], abs=1e-6)
    assert hits.item_idx[1].tolist() == (31 + np.argsort(-(vectors[31:] @ state))).tolist()


def test_without_texts_the_state_and_the_vectors_decide(vectors: np.ndarray) -> None:
    state = unit(np.random.default_rng(3), DIM)
    source = NewItems.fit(log_of(*range(1, 31)), vectors, None)
    hits = source.search(SourceQuery([""], state[None], [np.array([4, 9], np.int32)]), 10, [None])
    own = (vectors[31:] @ state + (vectors[31:] @ vectors[[4, 9]].T).max(axis=1)) / 2
    assert hits.item_idx[0].tolist() == (31 + np.argsort(-own)).tolist()
    assert hits.scores[0] == pytest.approx(np.sort(own)[::-1], abs=1e-6)


def test_a_product_that_came_since_is_found_by_its_text(
    source: NewItems, vectors: np.ndarray, texts: np.ndarray
) -> None:
    vectors = np.concatenate([vectors, vectors[[35]]])
    texts = np.concatenate([texts, texts[[4]]])  # named as what the user had
    grown = source.with_items(update([N + 1], vectors, texts))
    asked = SourceQuery([""], vectors[[35]], [np.array([4, 9], np.int32)])
    assert grown.search(asked, 10, [None]).item_idx[0, 0] == N + 1


def test_added_products_join_and_changed_ones_move(source: NewItems, vectors: np.ndarray) -> None:
    state = unit(np.random.default_rng(2), DIM)
    whole = np.concatenate([vectors, np.stack([0.98 * state, 0.97 * state])])
    whole[[3, 32]] = state, 0.99 * state
    grown = source.with_items(update([3, 32, N + 1, N + 2], whole, None))
    assert grown.search(asking(state[None]), 3, [None]).item_idx[0].tolist() == [32, N + 1, N + 2]
    more = grown.with_items(update([N + 3], np.concatenate([whole, state[None]]), None))
    assert more.item_idx.tolist() == [*range(31, N + 4)]
    assert len(source.item_idx) == 10


def test_places_are_a_share_of_what_the_ranker_sees() -> None:
    config = Config.model_validate(
        {"name": "x", "ranker": {"num_candidates": 50}, "retrieval": {"new_items_frac": 0.1}}
    )
    assert new_items.reserved_slots(config, ["dense", "new_items"]) == ReservedSlots(1, 5, 50)
    assert new_items.reserved_slots(config, ["dense"]) is None
