"""Next-item losses over cosine logits: full, chunked and sampled softmax, generalised binary cross-entropy.

`FullSoftmax` compares every state with the whole catalogue without ever holding all logits: it walks over chunks of
states, and because a cosine is bounded it needs no pass for the maximum; gradients are made in the same walk, while a
chunk's exponentials are still in cache. `SampledSoftmax` and `GeneralisedBCE` share S negatives among all states.

All of them return the *sum* over the M states, so that gradients of unequal batches add up right.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAFE_EXPONENT = 40.0
"""exp of anything within ± this, summed over 10 million items, stays far inside float32."""
CHUNK_FLOATS = {"cpu": 2**20, "cuda": 2**27}
"""Logits held at once: about a core's cache on a CPU, enough to fill the chip on a GPU."""


class FullSoftmax:
    """Cross-entropy over all C candidates, -Σ log softmax(states @ vectors.T / temperature)[target]."""

    def __init__(self, temperature: float, dtype: torch.dtype = torch.float32) -> None:
        """Takes the type of the matrix products: bfloat16 is about twice as fast where the hardware has it."""
        self.temperature = temperature
        self._buffer = torch.empty(0, dtype=dtype)

    def __call__(self, states: Tensor, vectors: Tensor, target: Tensor, counts: Tensor | None = None) -> Tensor:
        """Sum of the losses, a scalar.

        Args:
            states: (M, D) L2-normalised.
            vectors: (C, D) L2-normalised.
            target: (M,) int64 row of `vectors`.
            counts: (M,) bool, False = a state without a target, left out; None = all of them count.
        """
        scale, chunk = 1 / self.temperature, self._chunk(vectors)
        loss: Tensor = _ChunkedSoftmax.apply(states, vectors, target, counts, _Chunks(scale, chunk))  # type: ignore[no-untyped-call]
        return loss

    def _chunk(self, vectors: Tensor) -> Tensor:
        """(rows, C) memory that every chunk reuses: fresh large allocations cost more than the arithmetic on a CPU."""
        rows = max(CHUNK_FLOATS.get(vectors.device.type, 2**24) // len(vectors), 16)
        if self._buffer.shape != (rows, len(vectors)) or self._buffer.device != vectors.device:
            self._buffer = torch.empty(rows, len(vectors), dtype=self._buffer.dtype, device=vectors.device)
        return self._buffer


class _Chunks(NamedTuple):
    scale: float
    """Inverse temperature."""
    buffer: Tensor
    """(rows, C) memory of a chunk's logits."""


class _ChunkedSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, vectors: Tensor, target: Tensor, counts: Tensor | None, chunks: _Chunks
    ) -> Tensor:
        scale, buffer = chunks
        scaled = states * scale if counts is None else states * (counts * scale).unsqueeze(-1)
        loss = -(scaled * vectors[target]).sum(dtype=torch.float64)
        grad_states, grad_vectors = torch.empty_like(states), torch.zeros_like(vectors)
        narrow, candidates = scaled.to(buffer.dtype), vectors.to(buffer.dtype)
        for start in range(0, len(states), len(buffer)):
            rows = slice(start, start + len(buffer))
            part = narrow[rows]
            weights = torch.mm(part, candidates.T, out=buffer[: len(part)])  # (m, C) logits, then exponentials
            offset = _offset(weights, scale)
            if offset is not None:
                weights.sub_(offset)
            norm = weights.exp_().sum(1, keepdim=True, dtype=torch.float32)
            log_norm = norm.log() if offset is None else norm.log() + offset
            loss += _counted(log_norm, None if counts is None else counts[rows]).sum(dtype=torch.float64)
            torch.div(torch.mm(weights, candidates), norm, out=grad_states[rows])
            grad_vectors += torch.mm(weights.T, (scaled[rows] / norm).to(buffer.dtype))
        grad_states.sub_(vectors[target]).mul_(scale)
        grad_states = _counted(grad_states, counts)
        grad_vectors.index_add_(0, target, scaled, alpha=-1)
        ctx.save_for_backward(grad_states, grad_vectors)
        return loss.to(states.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_states, grad_vectors = ctx.saved_tensors
        return grad_states * grads[0], grad_vectors * grads[0], None, None, None


def _counted(rows: Tensor, counts: Tensor | None) -> Tensor:
    """(M, ...) with zeros where a state does not count."""
    return rows if counts is None else rows * counts.view(-1, *[1] * (rows.dim() - 1))


def _offset(logits: Tensor, bound: float) -> Tensor | None:
    """(m, 1) maximum to subtract before exp; None where cosines are bounded well enough to do without."""
    return None if bound <= SAFE_EXPONENT else logits.amax(1, keepdim=True)


class Negatives(nn.Module):
    """Draws S item rows shared by all states of a batch, and knows how often each row is drawn.

    uniform draws without replacement, so that S = C is the whole catalogue; popularity draws in proportion to the
    training counts; mixed takes half of each (https://arxiv.org/abs/2004.11974 for mixing, and for the correction
    https://dl.acm.org/doi/10.1145/3298689.3346996).
    """

    _cumulative: Tensor
    log_expected: Tensor

    def __init__(self, kind: Literal["uniform", "popularity", "mixed"], num: int, counts: Tensor) -> None:
        """Prepares drawing.

        Args:
            kind: see the class.
            num: S; more than there are items means all of them.
            counts: (C,) training events of each item.
        """
        super().__init__()
        size = len(counts)
        self.num = min(num, size)
        self.num_uniform = {"uniform": self.num, "popularity": 0, "mixed": (self.num + 1) // 2}[kind]
        popularity = (counts.double() + 1) / (counts.double() + 1).sum()
        self.register_buffer("_cumulative", popularity.cumsum(0), persistent=False)
        expected = self.num_uniform / size + (self.num - self.num_uniform) * popularity
        self.register_buffer("log_expected", expected.log().float(), persistent=False)

    def forward(self) -> Tensor:
        """(S,) int64 rows."""
        size, device = len(self._cumulative), self._cumulative.device
        if self.num_uniform == size or size < 100_000:
            uniform = torch.randperm(size, device=device)[: self.num_uniform]
        else:  # the same row is hardly ever drawn twice
            uniform = torch.randint(size, (self.num_uniform,), device=device)
        points = torch.rand(self.num - self.num_uniform, dtype=torch.float64, device=device)
        popular = torch.searchsorted(self._cumulative, points).clamp_max(size - 1)
        return torch.cat([uniform, popular])


@dataclass(frozen=True, eq=False)
class SampledLogits:
    """Cosines over the temperature of M states with their targets and with S negatives that all of them share."""

    positive: Tensor  # (M,)
    negative: Tensor  # (M, S)
    hit: Tensor  # (M, S) bool, True where a negative is the state's own target: left out
    counts: Tensor | None = None  # (M,) bool, False = a state without a target, left out; None = all of them count

    @classmethod
    def of(
        cls,
        states: Tensor,
        positive: Tensor,
        negative: Tensor,
        hit: Tensor,
        temperature: float,
        counts: Tensor | None = None,
    ) -> "SampledLogits":
        """Logits from vectors.

        Args:
            states: (M, D) L2-normalised.
            positive: (M, D) vectors of the targets.
            negative: (S, D) vectors of the shared negatives.
            hit: (M, S) bool, True where a negative is the state's own target.
            temperature: of the cosine.
            counts: (M,) bool, False = a state without a target; None = all of them count.
        """
        return cls((states * positive).sum(-1) / temperature, states @ negative.T / temperature, hit, counts)


def sampled_softmax(logits: SampledLogits, log_expected: Tensor) -> Tensor:
    """Sum over states of the sampled softmax loss with logQ correction.

    Args:
        logits: of the states.
        log_expected: (S,) log of the expected number of draws of each negative.
    """
    wrong = (logits.negative - log_expected).masked_fill(logits.hit, float("-inf"))
    both = torch.cat([logits.positive[:, None], wrong], dim=1)
    first = torch.zeros(len(both), dtype=torch.int64, device=both.device)
    return _counted(F.cross_entropy(both, first, reduction="none"), logits.counts).sum()


def generalised_bce(logits: SampledLogits, num_items: int, calibration: float) -> Tensor:
    """Sum over states of gBCE, binary cross-entropy that corrects the overconfidence of few negatives.

    The positive's probability is raised to β = α (t (1 - 1/α) + 1/α), α = S / (C - 1), t the calibration
    (gSASRec, https://arxiv.org/abs/2308.07192, equation 8).

    Args:
        logits: of the states.
        num_items: C, size of the catalogue that negatives are drawn from.
        calibration: t, 0 = plain binary cross-entropy, 1 = as if all items were negatives.
    """
    num_negatives = logits.negative.shape[1]
    rate = min(num_negatives / max(num_items - 1, 1), 1.0)
    power = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    pushed = F.logsigmoid(-logits.negative).masked_fill(logits.hit, 0.0).sum(-1)
    return -_counted(power * F.logsigmoid(logits.positive) + pushed, logits.counts).sum() / (num_negatives + 1)
