"""A ranker trained on candidate sets: that it learns what it should, what its loss counts, and when it is kept."""

import math

import numpy as np
import pytest
import torch

from txrec.config import RankerConfig
from txrec.model.ranker import ORDER, CandidateBatch
from txrec.train.ranker.listwise import Examples, TrainingRun, calibrate, listwise_loss, ndcg_at_10, train
from txrec.train.ranker.loop import decide

CFG = RankerConfig(dim=16, num_heads=2, num_candidates=8, batch_size=32, max_epochs=20, lr=3e-3)


def examples(n: int, seed: int) -> Examples:
    """Candidate sets in which the largest third feature marks the right item; retrieval order knows nothing."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, 8, 4, generator=generator)
    positive = torch.nn.functional.one_hot(features[:, :, 2].argmax(1), 8).bool()
    batch = CandidateBatch(
        torch.randn(n, 8, 6, generator=generator),
        features,
        torch.ones(n, 8, dtype=torch.bool),
        torch.randn(n, 6, generator=generator),
        torch.zeros(n, 3),
        torch.zeros(n, 6),
    )
    return Examples(batch, positive, torch.ones(n, 8, dtype=torch.bool), torch.ones(n, dtype=torch.int64))


def test_the_ranker_learns_which_feature_marks_the_right_item() -> None:
    ranker, epochs = train(CFG, examples(400, 0), examples(100, 1), TrainingRun(20, 0))
    held_out = examples(200, 2)
    with torch.no_grad():
        assert float(ndcg_at_10(ranker(held_out.batch), held_out).mean()) > 0.9
    assert 0 <= epochs <= 20


def test_the_linear_reading_alone_learns_it_and_a_few_examples_leave_retrieval_order() -> None:
    held_out = examples(200, 2)
    gains = []
    for count in (4, 400):
        ranker, _ = train(CFG, examples(count, 0), None, TrainingRun(0, 0))
        with torch.no_grad():
            gains.append(float(ndcg_at_10(ranker(held_out.batch), held_out).mean()))
            moved = ranker.weights.bias - torch.nn.functional.one_hot(torch.tensor(ORDER), len(ranker.weights.bias))
        assert float(moved.abs().max()) < 0.2 if count == 4 else gains[-1] > 0.9
    assert gains[0] < gains[1] - 0.1


def test_a_feature_that_is_not_read_teaches_nothing() -> None:
    held_out = examples(200, 2)
    ranker, _ = train(CFG, examples(400, 0), None, TrainingRun(2, 0, dropped_columns=(2,)))
    with torch.no_grad():
        assert float(ndcg_at_10(ranker(held_out.batch), held_out).mean()) < 0.7


def test_calibrated_chances_add_up_to_the_number_of_right_items() -> None:
    ranker, _ = train(CFG, examples(400, 0), None, TrainingRun(5, 0))
    held_out = examples(400, 3)
    calibrate(ranker, held_out)
    with torch.no_grad():
        total = float(ranker.probabilities(ranker(held_out.batch)).sum())
    assert total == pytest.approx(400, rel=0.02)


def test_ndcg_counts_items_that_were_not_retrieved_as_missed() -> None:
    given = examples(2, 0)
    positive = torch.zeros(2, 8, dtype=torch.bool)
    positive[0, 1] = True
    given = Examples(given.batch, positive, given.offered, torch.tensor([2, 1]))
    scores = -torch.arange(8).float().expand(2, -1)
    expected = (1 / math.log2(3)) / (1 + 1 / math.log2(3))
    assert ndcg_at_10(scores, given).tolist() == pytest.approx([expected, 0.0])


def test_the_listwise_loss_of_equal_scores_is_the_log_of_the_candidates() -> None:
    positive = torch.tensor([[True, False, True, False]])
    assert float(listwise_loss(torch.zeros(1, 4), positive, torch.ones(1, 4, dtype=torch.bool))) == pytest.approx(
        math.log(4)
    )


def test_padding_takes_no_part_in_the_loss() -> None:
    scores = torch.tensor([[0.0, 0.0, -torch.inf]])
    positive, offered = torch.tensor([[True, False, False]]), torch.tensor([[True, True, False]])
    assert float(listwise_loss(scores, positive, offered)) == pytest.approx(math.log(2))


def test_what_was_shown_and_passed_over_counts_twice() -> None:
    scores, positive = torch.zeros(1, 4), torch.tensor([[True, False, False, False]])
    offered = torch.tensor([[True, True, False, False]])
    assert float(listwise_loss(scores, positive, offered)) == pytest.approx((math.log(4) + math.log(2)) / 2)
    moved = scores.requires_grad_()
    listwise_loss(moved, positive, offered).backward()
    assert moved.grad is not None
    assert float(moved.grad[0, 1]) > float(moved.grad[0, 2]) > 0


def test_a_ranker_is_kept_only_beyond_the_standard_error_and_the_reason_says_so() -> None:
    retrieved, noise = np.full(100, 0.5), np.linspace(-0.1, 0.1, 100)
    better = decide("auto", retrieved + 0.1 + noise, retrieved, "judged queries")
    equal = decide("auto", retrieved + noise, retrieved)
    assert better.keep
    assert "keep the ranker: ndcg@10 0.6000 > 0.5000 +" in str(better)
    assert "(retrieval order + one standard error, 100 judged queries)" in str(better)
    assert not equal.keep
    assert "<=" in str(equal)
    assert decide("on", retrieved - 0.1, retrieved).keep


def test_joined_examples_stand_one_after_the_other() -> None:
    both = Examples.joined([examples(3, 0), examples(2, 1)])
    assert len(both) == 5
    assert np.array_equal(both.positive[3:], examples(2, 1).positive)
