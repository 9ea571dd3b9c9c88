"""The half-life of the popularity source, by what new users want."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.tiny import tiny_data
from txrec.config import EvaluateConfig
from txrec.data.prepared import PreparedData
from txrec.evals.protocol import EvalRequests, GroundTruth, eval_requests
from txrec.index.source import Hits, Mask, SourceQuery
from txrec.index.training_log import EventLog
from txrec.schema import PAD, Split
from txrec.train.ranker import half_life
from txrec.train.ranker.half_life import popularity_half_life


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return tiny_data(tmp_path_factory.mktemp("tiny"), num_users=120)


@pytest.fixture(scope="module")
def requests(tiny: PreparedData) -> EvalRequests:
    asked = eval_requests(tiny, Split.VALIDATION, EvaluateConfig())
    return replace(asked, query_idx=np.full_like(asked.query_idx, PAD))


def test_the_half_life_whose_list_has_the_wanted_items_is_taken(
    tiny: PreparedData, requests: EvalRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = int(np.bincount(requests.truth.items).argmax())
    monkeypatch.setattr(half_life, "Popularity", _answering(lambda days: wanted if days == 3.0 else 0))
    assert popularity_half_life([(tiny, requests)], 30.0) == 3.0


def test_the_setting_stays_where_requests_are_few_or_nothing_is_better(
    tiny: PreparedData, requests: EvalRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_life, "MIN_REQUESTS", 10**6)
    assert popularity_half_life([(tiny, requests)], 12.0) == 12.0
    monkeypatch.undo()
    monkeypatch.setattr(half_life, "HALF_LIVES_DAYS", (12.0, 12.0))
    assert popularity_half_life([(tiny, requests)], 12.0) == 12.0


def test_requests_of_earlier_windows_count_too(
    tiny: PreparedData, requests: EvalRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three windows say that people want what was popular at any time, one that they want the latest."""
    monkeypatch.setattr(half_life, "Popularity", _answering(lambda days: 7 if days == 3.0 else 8))
    sudden, lasting = (tiny, _wanting(requests, 7)), (tiny, _wanting(requests, 8))
    assert popularity_half_life([sudden], 30.0) == 3.0
    assert popularity_half_life([sudden, lasting, lasting], 30.0) == 30.0


def _wanting(requests: EvalRequests, item: int) -> EvalRequests:
    count = len(requests)
    return replace(requests, truth=GroundTruth.group(np.arange(count), np.full(count, item, np.int32), count))


def _answering(item_of: Callable[[float], int]) -> type:
    """A popularity source whose list begins with an item that depends on the half-life alone."""

    class Decides:
        def __init__(self, days: float) -> None:
            self.days = days

        @classmethod
        def fit(cls, _log: EventLog, _num_items: int, days: float) -> "Decides":
            return cls(days)

        def search(self, _queries: SourceQuery, k: int, _allowed: Sequence[Mask]) -> Hits:
            return Hits(np.array([[item_of(self.days)] + [0] * (k - 1)], np.int32), np.zeros((1, k), np.float32))

    return Decides
