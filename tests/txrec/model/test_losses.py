"""The losses equal their naive definitions, gradients included."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from txrec.model.losses import FullSoftmax, Negatives, SampledLogits, generalised_bce, sampled_softmax


def problem(num_states: int = 50, num_items: int = 30, dim: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    states = F.normalize(torch.randn(num_states, dim, generator=generator), dim=1).requires_grad_()
    vectors = F.normalize(torch.randn(num_items, dim, generator=generator), dim=1).requires_grad_()
    return states, vectors, torch.randint(num_items, (num_states,), generator=generator)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 0.001])
def test_the_chunked_softmax_equals_cross_entropy_in_value_and_gradient(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("txrec.model.losses", fromlist=["x"]).CHUNK_FLOATS, "cpu", 16 * 30)
    states, vectors, target = problem()
    loss = FullSoftmax(temperature)(states, vectors, target)
    naive = F.cross_entropy(states @ vectors.T / temperature, target, reduction="sum")
    torch.testing.assert_close(loss, naive, rtol=1e-5, atol=1e-4)
    found = torch.autograd.grad(loss * 3, (states, vectors))
    wanted = torch.autograd.grad(naive * 3, (states, vectors))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("temperature", [0.05, 0.001])
def test_states_that_do_not_count_change_neither_the_loss_nor_a_gradient(temperature: float) -> None:
    states, vectors, target = problem()
    counts = torch.arange(len(target)) % 3 != 0
    full = FullSoftmax(temperature)
    negatives = Negatives("uniform", 30, torch.ones(30))
    rows = negatives()

    def by_sampling(states: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        hit, expected = rows == target[:, None], negatives.log_expected[rows]
        return sampled_softmax(
            SampledLogits.of(states, vectors[target], vectors[rows], hit, temperature, counts), expected
        )

    def by_gbce(states: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        hit = rows == target[:, None]
        return generalised_bce(
            SampledLogits.of(states, vectors[target], vectors[rows], hit, temperature, counts), 30, 0.5
        )

    for loss in (lambda s, t, c: full(s, vectors, t, c), by_sampling, by_gbce):
        kept, few = loss(states, target, counts), loss(states[counts], target[counts], None)
        torch.testing.assert_close(kept, few)
        found, wanted = (torch.autograd.grad(value, (states, vectors)) for value in (kept, few))
        torch.testing.assert_close(found, wanted)


def test_the_logits_are_never_whole_in_memory() -> None:
    loss = FullSoftmax(0.05)
    states, vectors, target = problem(num_states=20_000, num_items=3_000)
    loss(states, vectors, target)
    assert loss._buffer.numel() < 20_000 * 3_000 / 50


def sampled(states: Tensor, vectors: Tensor, target: Tensor, negatives: Negatives, rows: Tensor) -> Tensor:
    hit = rows == target[:, None]
    return sampled_softmax(
        SampledLogits.of(states, vectors[target], vectors[rows], hit, 0.1), negatives.log_expected[rows]
    )


def test_sampled_softmax_over_the_whole_catalogue_is_the_full_one() -> None:
    states, vectors, target = problem()
    negatives = Negatives("uniform", 1_000, torch.ones(30, dtype=torch.int64))
    loss = sampled(states, vectors, target, negatives, negatives())
    torch.testing.assert_close(loss, FullSoftmax(0.1)(states, vectors, target), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["uniform", "popularity", "mixed"])
def test_sampled_softmax_comes_closer_to_the_full_one_the_more_is_drawn(kind: str) -> None:
    torch.manual_seed(0)
    states, vectors, target = problem(num_items=200)
    full = FullSoftmax(0.1)(states, vectors, target).item()
    errors = []
    for num in (10, 100, 190):
        negatives = Negatives(kind, num, torch.arange(200))  # type: ignore[arg-type]
        drawn = [sampled(states, vectors, target, negatives, negatives()).item() for _ in range(30)]
        errors.append(abs(sum(drawn) / 30 - full) / full)
    assert errors[2] < 0.02
    assert errors[2] < errors[0]


def test_each_row_is_drawn_as_often_as_it_says() -> None:
    torch.manual_seed(0)
    counts = torch.tensor([0, 10, 100, 1_000])
    for kind in ("uniform", "popularity", "mixed"):
        negatives = Negatives(kind, 3, counts)
        drawn = torch.stack([torch.bincount(negatives(), minlength=4) for _ in range(5_000)]).double().mean(0)
        torch.testing.assert_close(drawn.float(), negatives.log_expected.exp(), rtol=0.15, atol=0.01)


def test_a_negative_that_is_the_target_does_not_count() -> None:
    states, vectors, target = problem()
    negatives = Negatives("uniform", 30, torch.ones(30, dtype=torch.int64))
    alone = sampled(states[:1], vectors, target[:1], negatives, target[:1])
    assert alone.item() == pytest.approx(0.0, abs=1e-6)


def test_gbce_without_calibration_is_binary_cross_entropy() -> None:
    states, vectors, target = problem()
    rows = torch.tensor([0, 1, 2, 3])
    hit = torch.zeros(50, 4, dtype=torch.bool)
    loss = generalised_bce(SampledLogits.of(states, vectors[target], vectors[rows], hit, 0.5), 30, 0.0)
    right, wrong = (states * vectors[target]).sum(1) / 0.5, states @ vectors[rows].T / 0.5
    naive = (F.softplus(-right).sum() + F.softplus(wrong).sum()) / 5
    torch.testing.assert_close(loss, naive)


def test_gbce_with_calibration_equals_its_definition_in_value_and_gradient() -> None:
    states, vectors, target = problem()
    rows = torch.tensor([0, 1, 2, 3])
    hit = rows == target[:, None]
    loss = generalised_bce(SampledLogits.of(states, vectors[target], vectors[rows], hit, 0.5), 30, 0.75)
    rate = 4 / 29
    power = rate * (0.75 * (1 - 1 / rate) + 1 / rate)
    right, wrong = (states * vectors[target]).sum(1) / 0.5, states @ vectors[rows].T / 0.5
    counted = torch.log(1 - torch.sigmoid(wrong)) * ~hit
    naive = -(power * torch.log(torch.sigmoid(right)).sum() + counted.sum()) / 5
    torch.testing.assert_close(loss, naive, rtol=1e-5, atol=1e-4)
    found, wanted = (torch.autograd.grad(value, (states, vectors), retain_graph=True) for value in (loss, naive))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["uniform", "popularity", "mixed"])
def test_sampled_softmax_equals_its_definition_in_value_and_gradient(kind: str) -> None:
    torch.manual_seed(0)
    states, vectors, target = problem()
    counts = torch.arange(30) ** 2
    negatives = Negatives(kind, 12, counts)  # type: ignore[arg-type]
    rows = negatives()
    loss = sampled(states, vectors, target, negatives, rows)
    num_uniform = {"uniform": 12, "popularity": 0, "mixed": 6}[kind]
    share = (counts + 1) / (counts + 1).sum()
    expected = num_uniform / 30 + (12 - num_uniform) * share
    naive = torch.zeros(())
    for state, wanted in zip(states, target.tolist(), strict=True):
        right = (state @ vectors[wanted] / 0.1).exp()
        wrong = [(state @ vectors[row] / 0.1).exp() / expected[row] for row in rows.tolist() if row != wanted]
        naive = naive - (right / (right + sum(wrong))).log()
    torch.testing.assert_close(loss, naive, rtol=1e-5, atol=1e-4)
    found, by_hand = (torch.autograd.grad(value, (states, vectors), retain_graph=True) for value in (loss, naive))
    torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-5)


def test_gradients_of_sampled_softmax_over_the_whole_catalogue_are_those_of_the_full_one() -> None:
    states, vectors, target = problem()
    negatives = Negatives("uniform", 30, torch.ones(30, dtype=torch.int64))
    losses = sampled(states, vectors, target, negatives, negatives()), FullSoftmax(0.1)(states, vectors, target)
    found, wanted = (torch.autograd.grad(loss, (states, vectors)) for loss in losses)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
