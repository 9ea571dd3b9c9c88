"""Attention and blocks: the ways to compute one thing agree, and deep stacks train."""

import itertools

import pytest
import torch
from torch import Tensor

from tests.txrec.train.retrieval.test_loop import MODEL, TRAIN, nothing, trainer
from txrec.data.prepared import PreparedData
from txrec.model import layers
from txrec.model.layers import RelativeBias, attention, fused_attention


def parts(requires_grad: bool = True) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(3, 2, 7, 4, generator=generator, requires_grad=requires_grad) for _ in range(3))


def test_fused_attention_equals_the_plain_one_and_so_do_all_gradients_that_of_the_bias_included() -> None:
    torch.manual_seed(0)
    for has_time in (False, True):
        bias = RelativeBias(2, has_time)
        times = torch.rand(3, 7).cumsum(1) * 1e4
        found = []
        for way in (attention, fused_attention):
            query, key, value = parts()
            mixed = way(query, key, value, bias(times, times + 60))
            gradients = torch.autograd.grad(mixed.square().sum(), (query, key, value, *bias.parameters()))
            found.append((mixed, *gradients))
        torch.testing.assert_close(found[0], found[1])


def test_attention_in_chunks_of_rows_and_in_bfloat16_equals_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_time in (False, True):
        bias = RelativeBias(2, has_time)
        times = torch.rand(3, 7).cumsum(1) * 1e4
        found = []
        for floats, dtype in ((2**18, torch.float32), (1, torch.float32), (150, torch.bfloat16)):
            monkeypatch.setattr(layers, "CHUNK_FLOATS", floats)
            query, key, value = parts()
            mixed = attention(query.to(dtype), key.to(dtype), value.to(dtype), bias(times, times + 60))
            gradients = torch.autograd.grad(mixed.square().sum(), (query, key, value, *bias.parameters()))
            found.append((mixed.float(), *gradients))
        torch.testing.assert_close(found[1], found[0])
        torch.testing.assert_close(found[2], found[0], rtol=0.03, atol=0.06)


def test_attention_over_nothing_is_nothing() -> None:
    empty = torch.zeros(0, 2, 7, 4)
    assert attention(empty, empty, empty, torch.zeros(2, 7, 7)).shape == empty.shape


@pytest.mark.slow
def test_eight_blocks_train_stably(tiny: PreparedData) -> None:
    torch.set_num_threads(1)
    run = trainer(tiny, MODEL.model_copy(update={"num_layers": 8}), TRAIN.model_copy(update={"max_epochs": 25}))
    run.run(nothing)
    losses = [float(str(epoch["loss"])) for epoch in run.state.history]
    assert all(torch.tensor(losses).isfinite())
    assert losses[-1] < losses[0] / 2
    assert max(later - before for before, later in itertools.pairwise(losses)) < 0.3
    assert run.state.best > 0.5  # an item of 60 at random: 0.08
