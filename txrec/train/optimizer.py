"""AdamW with weight decay on matrices only, and a warm-up + cosine schedule over the whole of training."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from txrec.config import OptimizerConfig


def adamw(modules: Iterable[nn.Module], cfg: OptimizerConfig, without: nn.Parameter | None = None) -> torch.optim.AdamW:
    """The optimiser for all trainable parameters but one; norms, biases, scalars and embeddings are not decayed."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter is not without:
                matrix = isinstance(module, nn.Linear) and name == "weight"
                (decayed if matrix else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": cfg.weight_decay}, {"params": free, "weight_decay": 0.0}]
    on_gpu = decayed[0].is_cuda
    lr = torch.tensor(cfg.lr, device=decayed[0].device) if on_gpu else cfg.lr  # a recorded step reads it anew
    return torch.optim.AdamW(groups, lr=lr, betas=cfg.betas, fused=True, capturable=on_gpu)


def lr_at(cfg: OptimizerConfig, done_frac: float) -> float:
    """Learning rate when `done_frac` (0..1) of training is done: linear warm-up, then half a cosine to the floor."""
    if done_frac < cfg.warmup_frac:
        return cfg.lr * max(done_frac / cfg.warmup_frac, 0.01)
    after = (done_frac - cfg.warmup_frac) / (1 - cfg.warmup_frac)
    floor = cfg.min_lr_frac
    return cfg.lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(after, 1.0))))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
