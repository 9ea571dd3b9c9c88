"""Two processes that share the batches do what one does alone, with whatever share of the item table."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from tests.txrec.train.retrieval.test_loop import MODEL, TRAIN, nothing, trainer
from txrec.data.prepared import PreparedData
from txrec.train import checkpoint
from txrec.train.retrieval.loop import Trainer

WITHOUT_DROPOUT = MODEL.model_copy(update={"dropout": 0.0})
ALL_AS_NEGATIVES = {"loss": "sampled", "num_negatives": 60}  # so that every process draws the same ones
SHARED = {**ALL_AS_NEGATIVES, "item_optimizer": "rowwise"}
SHARDED = {**ALL_AS_NEGATIVES, "shard_items": True}


def alone(data: PreparedData, choice: dict[str, object]) -> Trainer:
    settings = {"max_epochs": 3, **choice}
    return trainer(data, WITHOUT_DROPOUT, TRAIN.model_copy(update=settings))


def worker(rank: int, data: PreparedData, folder: Path, choices: dict[str, dict[str, object]]) -> None:
    """One of two processes; trains with one choice after the other."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name, choice in choices.items():
        run = alone(data, choice)
        run.run(lambda run, _, name=name: run.save(folder / name))  # type: ignore[misc]
        if rank == 0:
            held = run.objective.model.state_dict()["encoder.ids.weight"]
            (folder / name / "rows.json").write_text(json.dumps(len(held)))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_that_share_the_batches_equal_one_and_share_or_shard_the_item_table(
    tiny: PreparedData, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    choices: dict[str, dict[str, object]] = {"full": {}, "shared": SHARED, "sharded": SHARDED}
    spawn(worker, (tiny, tmp_path, choices), nprocs=2)
    for name, choice in choices.items():
        one = alone(tiny, {**choice, "shard_items": False, **({"item_optimizer": "rowwise"} if choice else {})})
        one.run(nothing)
        best, state = checkpoint.read(tmp_path / name)
        assert state["step"] == one.state.step == 15  # 80 sequences, 16 per step, three epochs
        histories: list[Any] = [state["history"], one.state.history]
        losses = [[epoch["loss"] for epoch in history] for history in histories]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4), name
        figures = [[epoch["figures"]["ndcg@10"] for epoch in history] for history in histories]
        assert figures[0] == pytest.approx(figures[1], abs=0.02), name
        for part in ("encoder.ids.weight", "decoder.blocks.1.attention.inputs.weight", "decoder.bias.by_age.decay"):
            torch.testing.assert_close(best[part], one.objective.model.state_dict()[part], rtol=1e-2, atol=1e-3)
        rows = json.loads((tmp_path / name / "rows.json").read_text())
        assert rows == (
            -(-len(best["encoder.ids.weight"]) // 2) if name == "sharded" else len(best["encoder.ids.weight"])
        )


@pytest.mark.slow
def test_a_checkpoint_of_a_sharded_table_goes_on_in_one_process(tiny: PreparedData, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    spawn(worker, (tiny, tmp_path, {"short": {**SHARDED, "max_epochs": 2}}), nprocs=2)
    resumed = alone(tiny, {**SHARED, "max_epochs": 4})
    resumed.restore(tmp_path / "short")
    assert resumed.state.epoch == 2
    assert resumed.train_step.table is not None
    assert resumed.train_step.table.moments()["updates"].sum() > 0
    resumed.run(nothing)
    assert resumed.state.history[-1]["loss"] < resumed.state.history[1]["loss"]  # type: ignore[operator]
