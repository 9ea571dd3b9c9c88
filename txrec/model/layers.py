"""Transformer blocks of the history decoder: gated, pre-norm, causal, with relative position and time bias.

Each sublayer computes x + sigmoid(W n)·f(n) with n = norm(x): the gate lets a deep stack start near the identity, which
plain post-norm stacks of this kind do not survive (LiGR, https://arxiv.org/abs/2502.03417, section 3). The
feed-forward is SwiGLU (https://arxiv.org/abs/2002.05202).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from txrec.config import ModelConfig
from txrec.model.dropout import Dropout
from txrec.torch_compat import softmax_backward

CHUNK_FLOATS = 2**18
"""Attention weights in float32 at once: about a core's cache."""


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """softmax(query keyᵀ / √d + bias) value, step by step; the fastest way on a CPU.

    Args:
        query: (B, H, L, d), as `key` and `value`.
        bias: (H, L, L) or (B, H, L, L), -inf where nothing may be seen.
    """
    logits = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    mixed: Tensor = _BiasedSoftmax.apply(logits, bias) @ value  # type: ignore[no-untyped-call]
    return mixed


class _BiasedSoftmax(torch.autograd.Function):
    """softmax(logits + bias) in float32, a cache's worth at a time, kept and differentiated in the type of the logits.

    Under autocast that is bfloat16: half the memory, and nothing to convert on the way back. A fifth of a training step
    had gone into passes over whole (B, H, L, L) tensors.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, bias: Tensor) -> Tensor:
        weights = torch.empty_like(logits)
        rows = max(CHUNK_FLOATS // max(logits.shape[1:].numel(), 1), 1)
        chunks = (torch.split(of, rows) for of in (logits, bias.expand_as(logits), weights))
        for part, part_bias, out in zip(*chunks, strict=True):
            out.copy_((part.float() + part_bias).softmax(-1))
        ctx.save_for_backward(weights)
        ctx.shared = bias.dim() < logits.dim()  # one bias for all rows of the batch
        return weights

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (weights,) = ctx.saved_tensors
        grad = softmax_backward(grads[0], weights)
        return grad, (grad.sum(0) if ctx.shared else grad).float()


def fused_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention in one kernel that never holds the weights: the one of CUDA's that has a gradient for the bias."""
    with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))


class CausalAttention(nn.Module):
    """Gated multi-head self-attention in which a position sees itself and the positions before."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.num_heads = cfg.num_heads
        self.norm = nn.LayerNorm(cfg.dim)
        self.inputs = nn.Linear(cfg.dim, 4 * cfg.dim, bias=False)  # query, key, value, gate
        self.output = nn.Linear(cfg.dim, cfg.dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor, place: Tensor | None = None) -> Tensor:
        """Returns the residual to add.

        Args:
            x: (B, L, D).
            bias: (H, L, L) or (B, H, L, L) added to the attention logits, -inf above the diagonal.
            place: (B,) the only position of each row that is computed; None = all of them.
        """
        dim = x.shape[-1]
        if place is None:
            query, key, value, gate = self.inputs(self.norm(x)).split(dim, dim=-1)
        else:
            query, key, value, gate = self._inputs_at(self.norm(x), place)
            bias = _at(bias.expand(len(x), -1, -1, -1).transpose(1, 2), place).transpose(1, 2)
        query, key, value = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (query, key, value))
        mixed = fused_attention(query, key, value, bias) if x.is_cuda else attention(query, key, value, bias)
        residual: Tensor = self.output(mixed.transpose(1, 2).flatten(2)) * torch.sigmoid(gate)
        return residual

    def _inputs_at(self, x: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dim = x.shape[-1]
        weight, own = self.inputs.weight, _at(x, place)
        both = F.linear(x, weight[dim : 3 * dim])
        return F.linear(own, weight[:dim]), both[..., :dim], both[..., dim:], F.linear(own, weight[3 * dim :])


def _at(x: Tensor, place: Tensor) -> Tensor:
    """(B, L, ...), (B,) -> (B, 1, ...)."""
    return x[torch.arange(len(x), device=x.device), place].unsqueeze(1)


class GatedFeedForward(nn.Module):
    """SwiGLU with an output gate; the hidden width is 2 D."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.widths = (2 * cfg.dim, 2 * cfg.dim, cfg.dim)
        self.norm = nn.LayerNorm(cfg.dim)
        self.inputs = nn.Linear(cfg.dim, sum(self.widths))
        self.output = nn.Linear(2 * cfg.dim, cfg.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> the residual to add, (B, L, D)."""
        inner, linear, gate = self.inputs(self.norm(x)).split(self.widths, dim=-1)
        residual: Tensor = self.output(F.silu(inner) * linear) * torch.sigmoid(gate)
        return residual


class GatedBlock(nn.Module):
    """Attention, then feed-forward."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.attention = CausalAttention(cfg)
        self.feed_forward = GatedFeedForward(cfg)
        self.dropout = Dropout(cfg.dropout)

    def forward(self, x: Tensor, bias: Tensor, place: Tensor | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D), or (B, 1, D) for one place per row; `bias` and `place` as in `CausalAttention`."""
        mixed = self.attention(x, bias, place)
        x = (x if place is None else _at(x, place)) + self.dropout(mixed)
        out: Tensor = x + self.dropout(self.feed_forward(x))
        return out


class PowerLaw(nn.Module):
    """a·(1 + distance)^-b per head: a learned decay of the weight of distant positions.

    Two numbers per head instead of a table of buckets (as FuXi-γ does for time, https://arxiv.org/abs/2512.12740):
    nothing to overfit, and it holds at distances that training never saw.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_heads))
        self.decay = nn.Parameter(torch.linspace(0.1, 0.8, num_heads))

    def forward(self, distance: Tensor) -> Tensor:
        """(..., L, L) distances >= 0 -> (..., H, L, L)."""
        log_distance = torch.log1p(distance).unsqueeze(-3)
        return self.scale[:, None, None] * torch.exp(-self.decay.abs()[:, None, None] * log_distance)


class RelativeBias(nn.Module):
    """Attention bias of an earlier position by the number of positions between and, where times are known, by its age.

    Made once per batch and shared by all blocks. Ages run from the event to the time of the request and are in minutes,
    so that sessions and years both lie on the slope of the power law.
    """

    def __init__(self, num_heads: int, has_time: bool) -> None:
        super().__init__()
        self.by_place = PowerLaw(num_heads)
        self.by_age = PowerLaw(num_heads) if has_time else None

    def forward(self, ts: Tensor, request_ts: Tensor) -> Tensor:
        """(B, L) seconds each -> (B, H, L, L), or (H, L, L) without times; -inf above the diagonal."""
        place = torch.arange(ts.shape[1], device=ts.device)
        ahead = place[:, None] - place  # (L of queries, L of keys)
        bias: Tensor = self.by_place(ahead.clamp_min(0).float())
        if self.by_age is not None:
            bias = bias + self.by_age((request_ts[:, :, None] - ts[:, None, :]).clamp_min(0) / 60)
        return bias.masked_fill(ahead < 0, float("-inf"))
