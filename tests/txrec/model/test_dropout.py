"""Dropout on a CPU: the share of zeros, what is kept, the gradient, the seed, and nothing at all in inference."""

import pytest
import torch

from txrec.model.dropout import Dropout


def dropped(p: float, x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.as_tensor(Dropout(p)(x))


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9])
def test_elements_are_zero_with_probability_p_and_the_mean_stays(p: float) -> None:
    made = dropped(p, torch.ones(1000, 1000))
    share = float((made == 0).double().mean())
    assert share == pytest.approx(p, abs=5 * (p * (1 - p) / made.numel()) ** 0.5 + 2**-16)
    assert made.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)])


def test_neighbours_are_independent() -> None:
    zero = (dropped(0.2, torch.ones(1_000_000)) == 0).double()
    for apart in (1, 2, 3, 4, 8):
        both = float((zero[apart:] * zero[:-apart]).mean())
        assert both == pytest.approx(0.04, abs=0.002), apart


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (2, 3, 5)])
def test_any_shape_and_layout(shape: tuple[int, ...]) -> None:
    assert dropped(0.5, torch.ones(shape)).shape == shape
    turned = torch.ones(6, 4).T
    assert set(dropped(0.5, turned).unique().tolist()) == {0.0, 2.0}


def test_the_gradient_goes_where_the_value_went() -> None:
    x = torch.full((64, 64), 3.0, requires_grad=True)
    made = dropped(0.2, x)
    made.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(3.0 * x.grad, made.detach())


def test_the_seed_decides() -> None:
    x = torch.ones(100, 10)
    assert torch.equal(dropped(0.2, x, seed=1), dropped(0.2, x, seed=1))
    assert not torch.equal(dropped(0.2, x, seed=1), dropped(0.2, x, seed=2))


def test_nothing_is_dropped_in_inference_or_with_probability_zero() -> None:
    x = torch.randn(10, 10)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
