"""Two processes that train together do what one does with the double batch."""

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.txrec.train.test_loop import MODEL, TRAIN, nothing, trainer
from txrec.data.prepared import PreparedData

WITHOUT_DROPOUT = MODEL.model_copy(update={"dropout": 0.0})


def settings(batch_size: int) -> dict[str, object]:
    return {"batch_size": batch_size, "max_epochs": 3}


def worker(rank: int, data: PreparedData, folder: Path) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    run = trainer(data, WITHOUT_DROPOUT, TRAIN.model_copy(update=settings(8)))
    run.run(nothing)
    if rank == 0:
        torch.save(run.objective.model.state_dict(), folder / "weights.pt")
        (folder / "losses.json").write_text(json.dumps([epoch["loss"] for epoch in run.state.history]))
    dist.destroy_process_group()


def test_two_workers_equal_one_with_the_double_batch(tiny: PreparedData, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    mp.spawn(worker, (tiny, tmp_path), nprocs=2)
    alone = trainer(tiny, WITHOUT_DROPOUT, TRAIN.model_copy(update=settings(16)))
    alone.run(nothing)
    assert json.loads((tmp_path / "losses.json").read_text()) == pytest.approx(
        [epoch["loss"] for epoch in alone.state.history], rel=1e-4
    )
    together = torch.load(tmp_path / "weights.pt", weights_only=True)
    for name in ("encoder.ids.weight", "decoder.blocks.1.attention.inputs.weight", "decoder.bias.by_age.decay"):
        torch.testing.assert_close(together[name], alone.objective.model.state_dict()[name], rtol=1e-2, atol=1e-3)
