"""Recorded steps train as those that are launched kernel by kernel: on a GPU, and with recordings on the CPU."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.txrec.train.retrieval import graphs_without_gpu
from tests.txrec.train.retrieval.test_loop import MODEL, TRAIN, trainer
from txrec.config import TrainConfig
from txrec.data.prepared import PreparedData
from txrec.model.batch import Batch
from txrec.train.retrieval.cuda_graphs import StepGraphs
from txrec.train.retrieval.examples import Examples
from txrec.train.retrieval.loop import Trainer

QUERIES = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))


class Step:
    """A training step of a small model, which counts how often Python ran it."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.items, self.mixer = nn.Embedding(20, 8, padding_idx=0), nn.Linear(8, 8)
        self.parameters = [*self.items.parameters(), *self.mixer.parameters()]
        self.calls = 0
        self.lr = torch.tensor(0.5)

    def __call__(self, batch: Batch) -> Tensor:
        self.calls += 1
        states = self.mixer(self.items(batch.item_idx) + batch.query_vectors[batch.query_idx]).tanh()
        loss = nn.functional.cross_entropy((states @ self.items.weight.T).flatten(0, 1), batch.target.flatten())
        loss.backward()
        with torch.no_grad():
            for parameter in self.parameters:
                assert parameter.grad is not None
                parameter.sub_(self.lr * parameter.grad)
                parameter.grad = None
        return torch.stack([loss.detach(), batch.length.sum()])


def batch(seed: int, rows: int = 3, length: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def drawn(high: int, *shape: int) -> Tensor:
        return torch.randint(1, high, shape, generator=generator)

    shape = (rows, length)
    times = torch.rand(2, *shape, generator=generator)
    numbers = drawn(20, *shape), drawn(5, *shape), drawn(4, *shape)
    return Batch(*numbers, QUERIES, times[0], times[1], drawn(20, *shape), drawn(length, rows))


def trained(step: Step, run: Callable[[Batch], Tensor], batches: list[Batch]) -> Tensor:
    results = []
    for number, one in enumerate(batches):
        step.lr.fill_(0.5 / (1 + number))
        results.append(run(one).clone())
    return torch.stack(results)


def test_recorded_steps_of_several_shapes_train_as_steps_without_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = graphs_without_gpu.install(monkeypatch)
    batches = [batch(seed, rows=2 + seed % 2) for seed in range(10)]
    plain, recorded = Step(), Step()
    expected = trained(plain, plain, batches)
    results = trained(recorded, StepGraphs(recorded), batches)
    torch.testing.assert_close(results, expected)
    for own, other in zip(recorded.parameters, plain.parameters, strict=True):
        torch.testing.assert_close(own, other)
    assert expected[-2:, 0].mean() < expected[:2, 0].mean()
    assert graphs.recorded == 2, "one per shape"
    assert (plain.calls, recorded.calls) == (10, 4), "a step and a recording per shape, then replays"


def test_a_step_that_is_replayed_overwrites_its_last_result_and_leaves_its_batch_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graphs_without_gpu.install(monkeypatch)
    run = StepGraphs(Step())
    batches = [batch(seed) for seed in range(3)]
    untouched = [one.item_idx.clone() for one in batches]
    results = [run(one) for one in batches]
    assert results[2] is results[1]
    assert results[2] is not results[0]
    assert all(torch.equal(one.item_idx, before) for one, before in zip(batches, untouched, strict=True))


def test_a_step_whose_values_the_host_reads_cannot_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs_without_gpu.install(monkeypatch)
    run = StepGraphs(lambda batch: batch.length * batch.length.sum().item())
    run(batch(0))
    with pytest.raises(AssertionError, match="the host reads a value"):
        run(batch(1))


def on_gpu(data: PreparedData, train: TrainConfig) -> Trainer:
    plain = trainer(data, MODEL.model_copy(update={"max_length": 32}), train)
    examples = Examples.of(data.sequences, None, MODEL.model_copy(update={"max_length": 32}), train, "cuda")
    return Trainer(plain.objective, examples, plain.cases, train, seed=1, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
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
