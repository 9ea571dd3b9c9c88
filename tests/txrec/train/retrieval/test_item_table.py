"""Large item tables: rows that a batch did not use stay as they are, and training learns, stops and resumes as ever."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.txrec.train.retrieval.test_loop import MODEL, TRAIN, nothing, trainer
from txrec.data.prepared import PreparedData
from txrec.errors import TrainingError
from txrec.train.retrieval.item_table import RowwiseAdam, fixed_size_coalesced
from txrec.train.retrieval.validation import figures, measure

SAMPLED = TRAIN.model_copy(update={"loss": "sampled", "num_negatives": 57, "item_optimizer": "rowwise"})


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_only_rows_with_a_gradient_move_and_by_the_formula() -> None:
    table = nn.Parameter(torch.arange(12.0).reshape(4, 3))
    before = table.detach().clone()
    optimizer = RowwiseAdam(table, lr=0.1, beta2=0.9, eps=0.0)
    for scale in (1.0, 3.0):
        gradient = torch.tensor([[scale, 2 * scale, 0.0], [4.0, 4.0, 4.0]])
        table.grad = torch.sparse_coo_tensor(torch.tensor([[2, 0]]), gradient, (4, 3), check_invariants=True)
        optimizer.step()
    assert torch.equal(table[[1, 3]], before[[1, 3]])
    torch.testing.assert_close(table[0], before[0] - 2 * 0.1)  # equal gradients: steps of the learning rate
    first, second = (1 + 4) / 3, 9 * (1 + 4) / 3
    steps = [1 / first**0.5, 3 / ((0.09 * first + 0.1 * second) / (1 - 0.81)) ** 0.5]
    torch.testing.assert_close(table[2, 0], before[2, 0] - 0.1 * sum(steps))
    assert sum(value.numel() for value in optimizer.state[table].values()) == 2 * 4


def test_a_row_that_occurs_twice_in_a_batch_moves_once_by_the_sum() -> None:
    tables = [nn.Parameter(torch.ones(3, 2)) for _ in range(2)]
    tables[0].grad = torch.sparse_coo_tensor(
        torch.tensor([[1, 1]]), torch.tensor([[1.0, 2.0], [3.0, 5.0]]), (3, 2), check_invariants=True
    )
    tables[1].grad = torch.sparse_coo_tensor(
        torch.tensor([[1]]), torch.tensor([[4.0, 7.0]]), (3, 2), check_invariants=True
    )
    for table in tables:
        RowwiseAdam(table, lr=0.1, beta2=0.9).step()
    torch.testing.assert_close(tables[0], tables[1])


def test_rows_are_brought_together_without_asking_how_many_they_are() -> None:
    rows, values = torch.tensor([3, 0, 5, 3, 0, 5, 5]), torch.arange(14.0).reshape(7, 2)
    values[rows == 0] = 0  # padding
    gradient = torch.sparse_coo_tensor(rows[None], values, (6, 2), check_invariants=True)
    found = fixed_size_coalesced(gradient)
    assert found.values().shape == values.shape
    assert torch.equal(found.to_dense(), gradient.to_dense())
    tables = [nn.Parameter(torch.ones(6, 2)) for _ in range(2)]
    for table, given in zip(tables, (gradient, found), strict=True):
        optimizer = RowwiseAdam(table, lr=0.1, beta2=0.9)
        for _ in range(2):
            table.grad = given
            optimizer.step()
    torch.testing.assert_close(tables[0], tables[1])


def test_gradients_and_their_norm_equal_those_of_dense_training(tiny: PreparedData) -> None:
    found = []
    for choice in ("adamw", "rowwise"):
        run = trainer(tiny, train=SAMPLED.model_copy(update={"item_optimizer": choice, "clip_norm": 0.01}))
        step = next(iter(run.examples.steps(0, 0)))
        torch.manual_seed(5)
        run.train_step.module(step.batch).backward()
        norm = run.train_step.clip()
        table = run.objective.model.encoder.ids.weight
        assert table.grad.is_sparse == (choice == "rowwise")
        found.append((norm, table.grad.to_dense(), run.objective.model.decoder.norm.weight.grad))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.slow
def test_it_learns_as_well_as_dense_training(tiny: PreparedData) -> None:
    best = {}
    for choice in ("adamw", "rowwise"):
        settings = {"item_optimizer": choice, "max_epochs": 40, "lr": 5e-3}
        run = trainer(tiny, train=SAMPLED.model_copy(update=settings))
        run.run(nothing)
        best[choice] = figures(measure(run.objective.model, run.cases, None))["ndcg@10"]
    assert best["rowwise"] > 0.65  # an item of 60 at random: 0.08
    assert best["rowwise"] > best["adamw"] - 0.1


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tiny: PreparedData, tmp_path: Path) -> None:
    whole = trainer(tiny, train=SAMPLED)
    whole.run(lambda run, report: run.save(tmp_path) if report.epoch == 2 else None)
    resumed = trainer(tiny, train=SAMPLED)
    resumed.restore(tmp_path)
    resumed.run(nothing)
    for name, weights in whole.objective.model.state_dict().items():
        assert torch.equal(weights, resumed.objective.model.state_dict()[name]), name


def test_it_is_chosen_for_large_catalogues_with_a_sampled_loss_only(
    tiny: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    automatic = {"item_optimizer": "auto"}
    assert trainer(tiny, train=SAMPLED.model_copy(update=automatic)).train_step.table is None
    monkeypatch.setattr("txrec.train.retrieval.item_table.ROWWISE_ROWS", 50)
    assert trainer(tiny, train=SAMPLED.model_copy(update=automatic)).train_step.table is not None
    assert trainer(tiny, train=SAMPLED.model_copy(update={**automatic, "loss": "full"})).train_step.table is None


@pytest.mark.parametrize("asked", [{"item_optimizer": "rowwise"}, {"shard_items": True}])
def test_asked_for_with_a_full_softmax_it_says_what_to_change(tiny: PreparedData, asked: dict[str, object]) -> None:
    with pytest.raises(
        TrainingError, match=rf"train\.{next(iter(asked))} .* full softmax .* train\.loss = \"sampled\""
    ):
        trainer(tiny, train=TRAIN.model_copy(update={**asked, "loss": "full"}))


def test_an_item_table_in_one_process_is_a_shard_of_one(tiny: PreparedData) -> None:
    runs = [trainer(tiny, MODEL, SAMPLED.model_copy(update={"shard_items": shard})) for shard in (False, True)]
    for run in runs:
        run.run(nothing)
    one, other = (run.objective.model.item_vectors() for run in runs)
    torch.testing.assert_close(F.cosine_similarity(one[1:], other[1:]), torch.ones(len(one) - 1), rtol=0, atol=1e-3)
