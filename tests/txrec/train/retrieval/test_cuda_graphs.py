"""Recorded steps of a GPU train as those that are launched kernel by kernel."""

import pytest
import torch

from tests.txrec.train.retrieval.test_loop import MODEL, TRAIN, trainer
from txrec.config import TrainConfig
from txrec.data.prepared import PreparedData
from txrec.train.retrieval.examples import Examples
from txrec.train.retrieval.loop import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def on_gpu(data: PreparedData, train: TrainConfig) -> Trainer:
    plain = trainer(data, MODEL.model_copy(update={"max_length": 32}), train)
    examples = Examples.of(data.sequences, None, MODEL.model_copy(update={"max_length": 32}), train, "cuda")
    return Trainer(plain.objective, examples, plain.cases, train, seed=1, device="cuda")


@pytest.mark.parametrize("loss", ["full", "sampled", "rowwise"])
def test_a_recorded_step_is_the_step_that_was_recorded(tiny: PreparedData, loss: str) -> None:
    rowwise = {"loss": "sampled", "item_optimizer": "rowwise"} if loss == "rowwise" else {"loss": loss}
    train = TRAIN.model_copy(update={"num_negatives": 57, "precision": "fp32", **rowwise})
    losses = []
    for recorded in (False, True):
        run = on_gpu(tiny, train)
        if not recorded:
            run.train_step.graphs = None
        steps = [step for epoch in range(4) for step in run.examples.steps(0, epoch)]
        run.train_step.module.train()
        losses.append(torch.stack([run.step(step.batch, step.place / step.of, True).clone() for step in steps]))
        assert recorded == (run.train_step.graphs is not None and any(run.train_step.graphs._recorded.values()))
    torch.testing.assert_close(losses[0], losses[1], rtol=2e-3, atol=1e-3)
    assert losses[1][-1, 0] < losses[1][0, 0]
