"""Training checkpoints: weights, best weights, optimiser moments and counters in one file.

Only tensors and plain values are stored, and only those are accepted when reading (`weights_only`). A file is written
next to its final name and renamed, so that a crash leaves the old one or the new one, never half of one.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from txrec.errors import TrainingError
from txrec.storage import replace_file

FILE = "train.pt"


def save(
    folder: Path, model: nn.Module, best: dict[str, Tensor], optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Writes a checkpoint into a folder, creating it."""
    write(folder, {"model": model.state_dict(), "best": best, "optimizer": optimizer.state_dict(), "state": state})


def write(folder: Path, content: dict[str, Any]) -> None:
    """Writes `model`, `best`, `optimizer`, `state` and further entries into a folder, which it creates."""
    with replace_file(folder / FILE) as fresh:
        torch.save(content, fresh)


def restore(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Loads weights and moments in place.

    Returns:
        The best weights so far and the counters.

    Raises:
        TrainingError: there is no checkpoint, or it belongs to a model of other sizes.
    """
    content = load(folder)
    take(folder, content, model, optimizer)
    return content["best"], content["state"]


def take(folder: Path, content: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Loads weights and moments of a checkpoint in place, whatever device it was written from.

    Raises:
        TrainingError: it belongs to a model of other sizes.
    """
    own = [{name: group[name] for name in ("lr", "capturable")} for group in optimizer.param_groups]
    try:
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
    except (RuntimeError, ValueError) as error:
        message = f"{folder}: the checkpoint belongs to another configuration; remove {folder} to start anew ({error})"
        raise TrainingError(message) from error
    for group, of_this_device in zip(optimizer.param_groups, own, strict=True):
        group.update(of_this_device)


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The best weights of a checkpoint, on the CPU, and its counters."""
    content = load(folder)
    return content["best"], content["state"]


def load(folder: Path) -> dict[str, Any]:
    """Contents of a checkpoint, on the CPU.

    Raises:
        TrainingError: there is no checkpoint.
    """
    file = folder / FILE
    if not file.is_file():
        raise TrainingError(f"{file}: no checkpoint here")
    content: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    return content
