"""The ranker trained on grades: that it learns order and level, and that a kept one says why."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from txrec.config import RankerConfig
from txrec.evals import metrics
from txrec.model.ranker import NUM_REQUEST_FEATURES, CandidateBatch, Ranker
from txrec.train.ranker import graded, loop
from txrec.train.ranker.graded import Sets

CFG = RankerConfig(dim=16, num_heads=2, max_epochs=15, batch_size=32, lr=5e-3, dropout=0.0)


def sets(num: int, seed: int, width: int = 6) -> Sets:
    """Grades follow the first feature, whose level differs from query to query; every third place is padding."""
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(num, width, 5, generator=rng) + 2 * torch.randn(num, 1, 1, generator=rng)
    mask = (torch.arange(width) % 3 < 2).expand(num, width).clone()
    share = torch.sigmoid(features[..., 0]) * mask
    batch = CandidateBatch(
        items=torch.randn(num, width, 4, generator=rng),
        features=features * mask[..., None],
        mask=mask,
        state=torch.randn(num, 4, generator=rng),
        query=torch.zeros(num, 3),
        request=torch.zeros(num, NUM_REQUEST_FEATURES),
    )
    return Sets(batch, share, (1 + 2 * share) * mask)


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    return graded.train(CFG, sets(400, 0), sets(100, 1), CFG.max_epochs, 0)[0]


def test_a_ranker_learns_the_order_of_a_set_and_a_score_that_compares_over_queries(ranker: Ranker) -> None:
    unseen = sets(200, 2)
    with torch.no_grad():
        scores = ranker(unseen.batch)
    assert graded.ndcg(scores, unseen).mean() > 0.98
    mask = unseen.batch.mask
    assert metrics.auc(scores[mask].numpy(), (unseen.share[mask] > 0.5).numpy()) > 0.95
    shuffled = torch.rand(scores.shape, generator=torch.Generator().manual_seed(0))
    assert graded.ndcg(shuffled, unseen).mean() < 0.96


def test_probabilities_of_a_graded_ranker_keep_the_order_over_all_queries_and_are_calibrated(ranker: Ranker) -> None:
    unseen = sets(200, 3)
    graded.calibrate(ranker, unseen)
    with torch.no_grad():
        scores = ranker(unseen.batch)
        chances = ranker.probabilities(scores)
    mask = unseen.batch.mask
    assert (np.argsort(scores[mask].numpy()) == np.argsort(chances[mask].double().numpy(), kind="stable")).mean() > 0.9
    assert chances[mask].mean() == pytest.approx(float(unseen.share[mask].mean()), abs=0.01)


def test_a_graded_ranker_is_one_after_saving_and_opening(ranker: Ranker, tmp_path: Path) -> None:
    ranker.save(tmp_path)
    opened = Ranker.open(tmp_path)
    assert opened.graded
    unseen = sets(5, 4)
    with torch.no_grad():
        torch.testing.assert_close(opened(unseen.batch), ranker(unseen.batch))


def test_the_loss_of_the_right_scores_is_less_and_padding_takes_no_part() -> None:
    given = sets(20, 5)
    right = torch.logit(given.share.clamp(0.01, 0.99)).masked_fill(~given.batch.mask, -torch.inf)
    assert graded.loss(right, given) < graded.loss(-right.masked_fill(~given.batch.mask, torch.inf), given)
    assert torch.isfinite(graded.loss(right, given))


def test_the_linear_reading_alone_orders_sets_by_grades_and_is_fitted_in_parts_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unseen, biases = sets(200, 2), []
    for at_once in (4_096, 64):
        monkeypatch.setattr(loop, "LINEAR_SETS", at_once)
        alone, epochs = graded.train(CFG, sets(400, 0), None, 0, 0)
        with torch.no_grad():
            assert graded.ndcg(alone(unseen.batch), unseen).mean() > 0.98
        assert epochs == 0
        biases.append(alone.weights.bias.detach())
    torch.testing.assert_close(biases[0], biases[1], atol=1e-2, rtol=0)


def test_pairs_of_one_grade_say_nothing_about_their_order() -> None:
    given = sets(50, 5)
    flat = Sets(given.batch, torch.full_like(given.share, 0.5), given.grade * 0 + 2)
    scores = torch.randn(given.share.shape, generator=torch.Generator().manual_seed(0))
    mask = given.batch.mask
    level = F.softplus(scores).masked_fill(~mask, 0) - 0.5 * scores.masked_fill(~mask, 0)
    expected = (level.sum(1) / mask.sum(1)).mean()
    torch.testing.assert_close(graded.loss(scores.masked_fill(~mask, -torch.inf), flat), expected)
