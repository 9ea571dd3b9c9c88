"""Private and version-dependent functions of torch, gathered so that an upgrade is checked in one place.

`tests/txrec/test_torch_compat.py` compares each with a public equivalent: a failure there says what an upgrade changed.
"""

import torch
from torch import Tensor, nn


def softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """Gradient of the logits of a softmax over the last dimension.

    Args:
        grad: of the weights, any shape.
        weights: the softmax's result, of the same shape and type.
    """
    return torch.as_tensor(torch.ops.aten._softmax_backward_data(grad, weights, -1, weights.dtype))


def int8_matmul(left: Tensor, right: Tensor) -> Tensor:
    """(n, m) int32 product of (n, d) and (d, m) int8 matrices."""
    return torch._int_mm(left, right)


def sparse_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) rows and (n, D) values of an uncoalesced sparse (N, D) gradient, duplicates included."""
    return gradient._indices()[0], gradient._values()


def exclude_from_ddp(module: nn.Module, names: list[str]) -> None:
    """Makes DistributedDataParallel neither broadcast nor reduce some parameters; call it before wrapping `module`."""
    exclude = nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    exclude(module, names)  # type: ignore[no-untyped-call]


def scale(tensors: list[Tensor], factor: Tensor) -> None:
    """Multiplies tensors in place by a scalar tensor, in one kernel where the device has one."""
    torch._foreach_mul_(tensors, factor)


def multiplies_bfloat16() -> bool:
    """True where this processor multiplies bfloat16 matrices natively."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
