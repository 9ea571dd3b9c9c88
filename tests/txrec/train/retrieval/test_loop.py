"""Training learns, resumes bit for bit, stops early, and says why when it cannot go on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import tiny_data
from txrec.config import EvaluateConfig, ModelConfig, TrainConfig
from txrec.data.judgments import judged_sequences
from txrec.data.prepared import PreparedData, Sequences
from txrec.errors import TrainingError
from txrec.evals.protocol import EvalRequests, GroundTruth, eval_requests
from txrec.model.history_features import collate
from txrec.model.retrieval import RetrievalModel
from txrec.schema import Split
from txrec.train.optimizer import lr_at
from txrec.train.retrieval.examples import Examples
from txrec.train.retrieval.loop import EpochReport, Trainer
from txrec.train.retrieval.next_item_objective import NextItem
from txrec.train.retrieval.validation import figures, measure

MODEL = ModelConfig(dim=32, num_layers=2, num_heads=2, max_length=30, dropout=0.1, use_text=False)
TRAIN = TrainConfig(max_epochs=4, batch_size=16, lr=3e-3, patience=100)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def first_users(sequences: Sequences, num: int) -> Sequences:
    end = sequences.offsets[num]
    flat = {name: getattr(sequences, name)[:end] for name in ("item_idx", "query_idx", "event", "ts", "value", "split")}
    return replace(sequences, user_id=sequences.user_id[:num], offsets=sequences.offsets[: num + 1], **flat)


def trainer(data: PreparedData, model: ModelConfig = MODEL, train: TrainConfig = TRAIN, users: int = 80) -> Trainer:
    torch.manual_seed(0)
    sequences = first_users(data.sequences, users)
    examples = Examples.of(sequences, None, model, train)
    counts = torch.from_numpy(data.items["train_count"].to_numpy()[: data.meta.num_trained_items].copy())
    objective = NextItem(RetrievalModel.for_data(model, data, None), train, counts)
    shown = eval_requests(data, Split.VALIDATION, EvaluateConfig())
    return Trainer(objective, examples, shown.select(np.flatnonzero(shown.user < users)), train, seed=1)


def nothing(_: Trainer, __: EpochReport) -> None:
    """Keeps no record."""


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["full", "sampled", "gbce"])
def test_it_overfits_eight_users(tiny: PreparedData, loss: str) -> None:
    settings = {"max_epochs": 200, "batch_size": 8, "lr": 1e-2, "loss": loss, "num_negatives": 57}
    run = trainer(tiny, MODEL.model_copy(update={"dropout": 0.0}), TRAIN.model_copy(update=settings), users=8)
    run.cases = run.cases.select(np.arange(0))  # nothing to validate on: the last weights are kept
    run.run(nothing)
    batch = next(run.examples.steps(0, 0)).batch
    wanted = batch.target != 0
    model = run.objective.model
    with torch.no_grad():
        best = (model.states(batch)[wanted] @ model.item_vectors().T).argmax(-1)
    assert (best == batch.target[wanted]).double().mean() > 0.8  # by chance: 1 in 60


@pytest.mark.slow
def test_it_learns_what_comes_next_and_not_only_what_is_popular(tiny: PreparedData) -> None:
    run = trainer(tiny, train=TRAIN.model_copy(update={"max_epochs": 60, "lr": 5e-3}))
    run.run(nothing)
    found = figures(measure(run.objective.model, run.cases, None))
    assert found["ndcg@10"] > 0.75  # an item of 60 at random: 0.08
    assert run.state.best == pytest.approx(found["ndcg@10"])


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tiny: PreparedData, tmp_path: Path) -> None:
    whole = trainer(tiny)
    whole.run(nothing)

    class Interrupted(Exception):
        pass

    def stop_after_two(run: Trainer, report: EpochReport) -> None:
        run.save(tmp_path / "checkpoint")
        if report.epoch == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        trainer(tiny).run(stop_after_two)
    resumed = trainer(tiny)
    resumed.restore(tmp_path / "checkpoint")
    assert resumed.state.epoch == 2
    resumed.run(nothing)
    for name, weights in whole.objective.model.state_dict().items():
        assert torch.equal(weights, resumed.objective.model.state_dict()[name]), name
    losses = [[epoch["loss"] for epoch in run.state.history] for run in (whole, resumed)]
    assert losses[0] == losses[1]


def test_the_same_seed_gives_the_same_model_and_another_one_does_not(tiny: PreparedData) -> None:
    runs = [trainer(tiny), trainer(tiny), trainer(tiny)]
    runs[2].train_step.seed = 2
    for run in runs:
        run.run(nothing)
    vectors = [run.objective.model.item_vectors() for run in runs]
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


def test_a_loss_that_is_no_number_stops_with_the_step_and_the_last_checkpoint(
    tiny: PreparedData, tmp_path: Path
) -> None:
    run = trainer(tiny)

    def poison(run: Trainer, _: EpochReport) -> None:
        run.save(tmp_path / "good")
        with torch.no_grad():
            run.objective.model.decoder.norm.weight.fill_(float("nan"))

    with pytest.raises(TrainingError, match=rf"step \d+: .* nan; last good checkpoint: epoch 1 in {tmp_path / 'good'}"):
        run.run(poison)


def test_it_stops_when_validation_no_longer_improves_and_keeps_the_best(tiny: PreparedData) -> None:
    run = trainer(tiny, train=TRAIN.model_copy(update={"max_epochs": 50, "patience": 2, "lr": 1e-9}))
    run.run(nothing)
    assert run.state.epoch <= 10
    assert figures(measure(run.objective.model, run.cases, None))["ndcg@10"] == pytest.approx(run.state.best)


@pytest.mark.slow
def test_a_compiled_decoder_trains_and_saves_as_the_plain_one(tiny: PreparedData, tmp_path: Path) -> None:
    runs = [trainer(tiny, train=TRAIN.model_copy(update={"compile": compiled})) for compiled in (False, True)]
    assert all(block._compiled_call_impl is not None for block in runs[1].objective.model.decoder.blocks)
    with torch.compiler.set_stance("force_eager"):  # the wiring; what the compiler makes of it takes a minute
        for run in runs:
            run.run(nothing)
    plain, compiled = (run.objective.model.state_dict() for run in runs)
    assert list(plain) == list(compiled)
    for name, weights in plain.items():
        torch.testing.assert_close(compiled[name], weights, msg=name)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_for_an_accelerator_come_in_few_shapes_and_hold_the_same_windows(
    tiny: PreparedData, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(tiny, MODEL.model_copy(update={"max_length": 7}))
    plain = [step.batch for epoch in range(3) for step in run.examples.steps(0, epoch)]
    monkeypatch.setattr(Examples, "_few_shapes", True)
    monkeypatch.setattr("txrec.train.retrieval.examples.WIDTH_STEP", 4)
    few = [
        step.batch
        for epoch in range(3)
        for rank in range(num_workers)
        for step in run.examples.steps(0, epoch, rank, num_workers)
    ]
    shapes = {batch.item_idx.shape for batch in few}
    assert {width for _, width in shapes} == {4, 8}
    # a window too few for all workers goes with the batch before
    assert len(shapes) == 1 + num_workers < len({batch.item_idx.shape for batch in plain})
    targets = [np.sort(np.concatenate([b.target[b.target != 0].numpy() for b in made])) for made in (plain, few)]
    assert np.array_equal(targets[0], targets[1])


@pytest.mark.parametrize("loss", ["full", "sampled", "gbce"])
def test_positions_without_a_target_may_stay_or_be_dropped(tiny: PreparedData, loss: str) -> None:
    run = trainer(tiny, train=TRAIN.model_copy(update={"loss": loss, "num_negatives": 57}))
    batch = next(run.examples.steps(0, 0)).batch
    found = []
    for run.objective.fixed_shapes in (False, True):
        torch.manual_seed(0)
        run.train_step.module(batch).backward()
        found.append([parameter.grad for parameter in run.objective.parameters() if parameter.grad is not None])
        run.train_step.optimizer.zero_grad(set_to_none=True)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_accumulated_batches_make_one_step(tiny: PreparedData) -> None:
    run = trainer(tiny, train=TRAIN.model_copy(update={"accumulate": 2, "max_epochs": 1}))
    updates = []
    step = run.train_step.optimizer.step
    run.train_step.optimizer.step = lambda *a, **k: updates.append(step(*a, **k))  # type: ignore[method-assign]
    run.run(nothing)
    assert len(updates) == -(-run.state.step // 2)


def test_a_checkpoint_of_another_model_is_refused_with_the_way_out(tiny: PreparedData, tmp_path: Path) -> None:
    trainer(tiny).save(tmp_path)
    other = trainer(tiny, MODEL.model_copy(update={"dim": 16}))
    with pytest.raises(TrainingError, match="belongs to another configuration; remove"):
        other.restore(tmp_path)


def test_nothing_to_learn_from_is_an_error(tiny: PreparedData) -> None:
    sequences = replace(tiny.sequences, split=np.full_like(tiny.sequences.split, Split.TEST))
    with pytest.raises(TrainingError, match="no training example"):
        Examples.of(sequences, None, MODEL, TRAIN)


def test_judged_pairs_are_learned_where_there_are_no_events(tmp_path: Path) -> None:
    data = tiny_data(tmp_path / "data")
    judged = {"query": ["lamp", "tent", "lamp"], "item_id": ["sku-011", "sku-031", "sku-001"], "grade": [3.0, 3.0, 1.0]}
    table = pa.table({**judged, "split": pa.array([0, 0, 0], pa.int8())})
    pq.write_table(table, data.path / "judgments.parquet")
    found = judged_sequences(data)
    assert found.item_idx.tolist() == [0, 11, 0, 31]
    assert found.query_idx.tolist() == [2, 2, 4, 4]
    assert len(Examples.of(found, None, MODEL, TRAIN).batches(0, 0)) == 1


def test_ndcg_and_recall_of_a_hand_made_ranking(tiny: PreparedData) -> None:
    run = trainer(tiny, users=2)
    third = _third_best(run.objective.model.eval(), run.cases)
    answers = GroundTruth(np.arange(len(third) + 1), np.array(third, np.int32))
    totals = measure(run.objective.model, replace(run.cases, truth=answers), None)
    assert figures(totals) == pytest.approx({"ndcg@10": 1 / 2, "recall@10": 1.0})  # 1 / log2(1 + 3)


def test_the_catalogue_in_parts_ranks_as_in_one(tiny: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(tiny)
    run.run(nothing)
    for filter_seen in (False, True):
        shown = replace(run.cases, filter_seen=filter_seen)
        whole = measure(run.objective.model, shown, None)
        with monkeypatch.context() as patched:
            patched.setattr("txrec.model.retrieval.CHUNK_ROWS", 7)
            torch.testing.assert_close(measure(run.objective.model, shown, None), whole)


@torch.no_grad()
def _third_best(model: RetrievalModel, asked: EvalRequests) -> list[int]:
    batch = collate(asked.histories(), None, model.cfg, asked.query_idx, asked.now_us)
    scores = model.last_state(batch) @ model.item_vectors().T
    scores[:, 0] = -9
    return [int(i) for i in scores.topk(3).indices[:, 2]]


def test_the_learning_rate_warms_up_and_ends_at_the_floor() -> None:
    cfg = TrainConfig(lr=1.0, warmup_frac=0.1, min_lr_frac=0.05)
    assert lr_at(cfg, 0.05) == pytest.approx(0.5)
    assert lr_at(cfg, 0.1) == pytest.approx(1.0)
    assert lr_at(cfg, 0.55) == pytest.approx(0.05 + 0.95 * 0.5)
    assert lr_at(cfg, 1.0) == pytest.approx(0.05)


def test_batches_hold_about_the_asked_number_of_tokens_and_little_padding(tiny: PreparedData) -> None:
    examples = Examples.of(tiny.sequences, None, MODEL, TRAIN)
    sizes = [(s.batch.item_idx.numel(), int(s.batch.length.sum())) for s in examples.steps(0, 0)]
    assert sum(real for _, real in sizes) / sum(padded for padded, _ in sizes) > 0.8
