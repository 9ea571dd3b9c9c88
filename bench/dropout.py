"""Time of training steps with the library's dropout and with torch's, on a CPU.

    python bench/dropout.py            20,000 items, 30 steps of each
    python bench/dropout.py --small    1,000 items, 4 steps of each

Both take the same batches of one model in turns; the median step of each counts. Prints one JSON object as its last
line; `ratio` = time with torch's dropout over time with the library's.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from scale import synthetic_trainer
from torch import Tensor, nn

from txrec.model.dropout import Dropout

Forward = Callable[[Any, Tensor], Tensor]
WARM_UP_STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--small", action="store_true", help="1,000 items, 4 steps")
    args = parser.parse_args()
    items, steps = (1_000, 4) if args.small else (args.items, args.steps)
    figures = measured(items, steps)
    print(f"ms per step: {figures['own_ms']:.1f} with the library's dropout, {figures['torch_ms']:.1f} with torch's")
    print(json.dumps({"torch": torch.__version__, "items": items, "threads": torch.get_num_threads(), **figures}))


def measured(num_items: int, num_steps: int) -> dict[str, float]:
    """Median milliseconds of a training step by dropout, and their ratio."""
    trainer = synthetic_trainer(num_items, "adamw")
    batches = [step.batch for step in trainer.examples.steps(0, 0)]
    trainer.train_step.module.train()
    forwards: dict[str, Forward] = {"own": Dropout.forward, "torch": nn.Dropout.forward}
    seconds: dict[str, list[float]] = {name: [] for name in forwards}
    for place in range(num_steps + WARM_UP_STEPS):
        for name, forward in forwards.items():
            with mock.patch.object(Dropout, "forward", forward):
                started = time.perf_counter()
                trainer.step(batches[place % len(batches)], 0.5, True)
                seconds[name].append(time.perf_counter() - started)
    own_ms, torch_ms = (1e3 * float(np.median(seconds[name][WARM_UP_STEPS:])) for name in ("own", "torch"))
    return {"own_ms": own_ms, "torch_ms": torch_ms, "ratio": torch_ms / own_ms}


if __name__ == "__main__":
    main()
