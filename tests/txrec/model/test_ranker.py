import dataclasses
from pathlib import Path

import pytest
import torch

from txrec.config import RankerConfig
from txrec.model.ranker import HAS_QUERY, ORDER, CandidateBatch, Ranker, RankerSizes, log_odds

SIZES = RankerSizes(num_features=5, num_request_features=3, item_dim=8, query_dim=4)


@pytest.fixture
def ranker() -> Ranker:
    torch.manual_seed(0)
    made = Ranker(RankerConfig(dim=16, num_heads=2, num_layers=2), SIZES)
    torch.nn.init.normal_(made.weights.weight)
    torch.nn.init.ones_(made.sharpness)
    return made.eval()


def batch(b: int = 2, k: int = 7) -> CandidateBatch:
    torch.manual_seed(1)
    mask = torch.ones(b, k, dtype=torch.bool)
    mask[0, 5:] = False
    inputs = torch.randn(b, k, 8), torch.randn(b, k, 5), mask, torch.randn(b, 8), torch.randn(b, 4), torch.randn(b, 3)
    return CandidateBatch(*inputs)


@torch.no_grad()
def test_permuting_the_candidates_permutes_the_scores(ranker: Ranker) -> None:
    given = batch()
    order = torch.tensor([3, 6, 0, 5, 1, 4, 2])
    moved = dataclasses.replace(
        given, items=given.items[:, order], features=given.features[:, order], mask=given.mask[:, order]
    )
    assert torch.allclose(ranker(moved), ranker(given)[:, order], atol=1e-5)


@torch.no_grad()
def test_an_untrained_ranker_keeps_retrieval_order() -> None:
    given = batch()
    given.features[:, :, ORDER] = -torch.arange(7).float()
    scores = Ranker(RankerConfig(dim=16, num_heads=2), SIZES).eval()(given)
    assert scores[1].argsort(descending=True).tolist() == list(range(7))


@torch.no_grad()
def test_how_much_a_feature_counts_depends_on_the_request(ranker: Ranker) -> None:
    given = batch()
    other = dataclasses.replace(given, request=given.request + 1)
    raised = given.features.clone()
    raised[:, :, 2] += 1
    gains = [
        ranker.linear_scores(*ranker.scaled(dataclasses.replace(one, features=raised)))
        - ranker.linear_scores(*ranker.scaled(one))
        for one in (given, other)
    ]
    assert not torch.allclose(gains[0][1], gains[1][1], atol=1e-4)


@torch.no_grad()
def test_a_ranker_that_does_not_read_vectors_scores_alike_whatever_they_are(ranker: Ranker, tmp_path: Path) -> None:
    given = batch()
    other = dataclasses.replace(given, items=-given.items, state=given.state + 1, query=given.query * 2)
    assert not torch.allclose(ranker(given)[1], ranker(other)[1], atol=1e-4)
    ranker.by_vectors = False
    ranker.save(tmp_path)
    assert torch.equal(Ranker.open(tmp_path)(given), Ranker.open(tmp_path)(other))


@torch.no_grad()
def test_padding_scores_minus_infinity_and_changes_nothing_else(ranker: Ranker) -> None:
    given = batch()
    scores = ranker(given)
    assert torch.isinf(scores[0, 5:]).all()
    alone = CandidateBatch(
        given.items[:1, :5],
        given.features[:1, :5],
        given.mask[:1, :5],
        given.state[:1],
        given.query[:1],
        given.request[:1],
    )
    assert torch.allclose(ranker(alone)[0], scores[0, :5], atol=1e-5)


@torch.no_grad()
def test_scores_depend_on_the_user_the_query_and_the_other_candidates(ranker: Ranker) -> None:
    given = batch()
    before = ranker(given)[1]
    for changed in (
        dataclasses.replace(given, state=given.state + 1),
        dataclasses.replace(given, query=given.query + 1),
        dataclasses.replace(given, items=torch.cat([given.items[:, :1] + 3, given.items[:, 1:]], 1)),
    ):
        assert not torch.allclose(ranker(changed)[1, 1:], before[1:], atol=1e-4)


@torch.no_grad()
def test_probabilities_keep_the_order_and_lie_between_0_and_1(ranker: Ranker) -> None:
    scores = ranker(batch())
    chances = ranker.probabilities(scores)
    assert ((chances >= 0) & (chances <= 1)).all()
    assert (chances[1].argsort() == scores[1].argsort()).all()
    assert (chances[0, 5:] == 0).all()


def test_log_odds_are_those_of_the_softmax() -> None:
    odds = log_odds(torch.tensor([[0.0, 0.0, 0.0, 0.0]]))
    assert torch.allclose(odds, torch.full((1, 4), 1 / 3).log(), atol=1e-5)


@torch.no_grad()
def test_a_ranker_scores_alike_after_saving_and_opening(ranker: Ranker, tmp_path: Path) -> None:
    ranker.save(tmp_path)
    assert torch.equal(Ranker.open(tmp_path)(batch()), ranker(batch()))


@torch.no_grad()
def test_a_feature_that_never_differed_in_training_is_not_read(ranker: Ranker) -> None:
    given = batch()
    given.features[:, :, 3] = 2.0
    ranker.fit_scaling(given)
    other = given.features.clone()
    other[:, 2, 3] = 9.0
    assert torch.equal(ranker(dataclasses.replace(given, features=other)), ranker(given))


def test_a_ranker_knows_whether_it_learned_from_searches() -> None:
    made, given = Ranker(RankerConfig(dim=16, num_heads=2), SIZES), batch(4)
    for queries, known in (([0.0] * 4, (False, True)), ([1.0] * 4, (True, False)), ([1.0, 0, 0, 0], (True, True))):
        given.request[:, HAS_QUERY] = torch.tensor(queries)
        made.fit_scaling(given)
        assert (made.has_learned(True), made.has_learned(False)) == known
