"""Private functions of torch do what their public equivalents do."""

from pathlib import Path

import torch
from torch import nn

from txrec import torch_compat


def test_softmax_backward_is_the_gradient_of_softmax() -> None:
    torch.manual_seed(0)
    logits, grad = torch.randn(3, 5, dtype=torch.float64, requires_grad=True), torch.randn(3, 5, dtype=torch.float64)
    weights = logits.softmax(-1)
    (expected,) = torch.autograd.grad(weights, logits, grad)
    torch.testing.assert_close(torch_compat.softmax_backward(grad, weights.detach()), expected)


def test_int8_matmul_is_exact_in_int32() -> None:
    torch.manual_seed(0)
    left, right = (torch.randint(-128, 128, shape, dtype=torch.int8) for shape in ((32, 64), (64, 40)))
    found = torch_compat.int8_matmul(left, right)
    assert found.dtype == torch.int32
    assert torch.equal(found.long(), left.long() @ right.long())


def test_sparse_rows_keeps_duplicates_in_order() -> None:
    table = nn.Embedding(6, 2, sparse=True)
    table(torch.tensor([4, 1, 4])).backward(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    assert table.weight.grad is not None
    rows, values = torch_compat.sparse_rows(table.weight.grad)
    assert rows.tolist() == [4, 1, 4]
    assert values.tolist() == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


def test_excluded_parameters_are_not_reduced_by_ddp() -> None:
    module = nn.Linear(2, 2)
    torch_compat.exclude_from_ddp(module, ["bias"])
    assert module._ddp_params_and_buffers_to_ignore == ["bias"]


def test_scaling_multiplies_every_tensor_in_place() -> None:
    tensors = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])]
    torch_compat.scale(tensors, torch.tensor(0.5))
    assert [tensor.flatten().tolist() for tensor in tensors] == [[0.5, 1.0], [1.5]]


def test_native_bfloat16_is_what_the_processor_says() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert torch_compat.multiplies_bfloat16() == bool(flags & {"avx512_bf16", "amx_bf16", "amx_tile"})
