"""Evaluation requests answered by Ray Data actors."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.distributed import answering
from pipelines.distributed.answering import OnRayData
from tests import tiny_bundle as bundles
from txrec.data.prepared import PreparedData
from txrec.evals.answering import InProcess
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.recommender.recommender import Recommender
from txrec.schema import Split


@pytest.fixture
def opened(tiny_bundle: Path) -> tuple[Recommender, PreparedData, EvalRequests]:
    data = PreparedData.open(tiny_bundle.parent / "data")
    return Recommender.open(tiny_bundle), data, eval_requests(data, Split.TEST, bundles.CONFIG.evaluate)


@pytest.mark.ray
def test_actors_answer_what_one_process_answers(
    opened: tuple[Recommender, PreparedData, EvalRequests], ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender, data, requests = opened
    monkeypatch.setattr(answering, "PART", 128)
    assert len(requests) > answering.PART
    here = InProcess()
    steps: list[tuple[str, int]] = []

    def progress(phase: str, step: int, total: int | None, **_: float) -> None:
        steps.append((phase, step))

    with OnRayData(progress) as there:
        found = there.answers({"test": recommender, "again": recommender}, data, requests, 10, Split.TEST)
    lists, whole = found.lists["test"], here.answers({"test": recommender}, data, requests, 10, Split.TEST)
    expected = whole.lists["test"]
    np.testing.assert_array_equal(found.lists["again"].ranked, expected.ranked)
    np.testing.assert_array_equal(lists.retrieved, expected.retrieved)
    np.testing.assert_array_equal(lists.ranked, expected.ranked)
    np.testing.assert_array_equal(lists.by_ranker, expected.by_ranker)
    np.testing.assert_allclose(lists.scores, expected.scores, rtol=1e-4, atol=1e-6)
    assert lists.seconds > 0
    assert found.baselines.keys() == whole.baselines.keys()
    for name, ids in whole.baselines.items():
        np.testing.assert_array_equal(found.baselines[name], ids, err_msg=name)
    assert ("answering", 0) in steps
    assert ("baselines", len(requests) * len(whole.baselines)) in steps


def test_one_part_of_requests_needs_no_cluster(
    opened: tuple[Recommender, PreparedData, EvalRequests], monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender, data, requests = opened

    def connect() -> None:
        raise AssertionError("a cluster was started")

    monkeypatch.setattr("pipelines.distributed.answering.cluster.connect", connect)
    few = requests.select(np.arange(20))
    with OnRayData() as there:
        answers = there.answers({"test": recommender}, data, few, 5)
    expected = InProcess().answers({"test": recommender}, data, few, 5)
    np.testing.assert_array_equal(answers.lists["test"].ranked, expected.lists["test"].ranked)
    assert not answers.baselines
