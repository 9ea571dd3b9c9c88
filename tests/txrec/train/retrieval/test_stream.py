"""Streamed sequences give the examples and cases that those in memory give."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import tiny_data
from tests.txrec.train.retrieval.test_loop import MODEL, TRAIN
from txrec.config import Config, EvaluateConfig, ModelConfig, TextConfig, TrainConfig
from txrec.data.prepared import PreparedData
from txrec.errors import TrainingError
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.schema import Split
from txrec.train.retrieval.examples import Examples, Step
from txrec.train.retrieval.loop import EpochReport, Trainer
from txrec.train.retrieval.setup import trainer_for
from txrec.train.retrieval.stream import BYTES_PER_EVENT, StreamedExamples, sampled_cases, shards_of, streams

SHORT = MODEL.model_copy(update={"max_length": 5})


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """The tiny data set in two files of two and three row groups."""
    data = tiny_data(tmp_path_factory.mktemp("shards") / "data")
    file = data.path / "sequences" / "part-00000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.slice(0, 40), file, row_group_size=20)
    pq.write_table(table.slice(40), data.path / "sequences" / "part-00001.parquet", row_group_size=15)
    return PreparedData.open(data.path)


def limited(data: PreparedData, buffers: float) -> TrainConfig:
    """Settings with which an epoch takes about so many buffers."""
    return TRAIN.model_copy(update={"max_memory_bytes": int(data.meta.num_events / buffers) * BYTES_PER_EVENT})


def streamed(data: PreparedData, train: TrainConfig, model: ModelConfig = SHORT) -> StreamedExamples:
    return StreamedExamples(shards_of(data), None, model, train)


def targets(steps: list[Step]) -> Counter[tuple[int, ...]]:
    """How often each (position, its time, its target) occurs."""
    found: Counter[tuple[int, ...]] = Counter()
    for step in steps:
        batch = step.batch
        wanted = batch.target != 0
        found.update(
            zip(
                batch.item_idx[wanted].tolist(),
                batch.event[wanted].tolist(),
                batch.target[wanted].tolist(),
                strict=True,
            )
        )
    return found


def test_shards_are_row_groups_and_hold_all_events(shards: PreparedData) -> None:
    found = shards_of(shards)
    assert [(shard.file.name[5:10], shard.row_group) for shard in found] == [
        ("00000", 0),
        ("00000", 1),
        ("00001", 0),
        ("00001", 1),
        ("00001", 2),
    ]
    assert sum(shard.num_events for shard in found) == shards.meta.num_events


@pytest.mark.parametrize("buffers", [1, 2.5, 1_000])
def test_every_epoch_covers_every_target_once(shards: PreparedData, buffers: float) -> None:
    examples = streamed(shards, limited(shards, buffers))
    whole = Examples.of(shards.sequences, None, SHORT, TRAIN)
    assert len(examples.buffers(0, 0)) == {1: 1, 2.5: 3, 1_000: 5}[buffers]
    for epoch in range(2):
        assert targets(list(examples.steps(7, epoch))) == targets(list(whole.steps(7, epoch)))


def test_one_buffer_is_the_path_in_memory_to_the_bit(shards: PreparedData) -> None:
    one = list(streamed(shards, limited(shards, 1)).steps(7, 3))
    whole = list(Examples.of(shards.sequences, None, SHORT, TRAIN).steps(7, 3))
    assert [(s.place, s.of, s.last) for s in one] == [(s.place, s.of, s.last) for s in whole]
    for left, right in zip(one, whole, strict=True):
        for name in ("item_idx", "event", "query_idx", "ts", "request_ts", "target", "length"):
            assert torch.equal(getattr(left.batch, name), getattr(right.batch, name)), name


def test_buffers_differ_between_epochs_and_seeds_and_repeat_for_the_same(shards: PreparedData) -> None:
    examples = streamed(shards, limited(shards, 1_000))
    orders = [
        [buffer[0] for buffer in examples.buffers(seed, epoch)] for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_workers_share_every_step_and_see_all_targets_between_them(shards: PreparedData) -> None:
    examples = streamed(shards, limited(shards, 2.5))
    parts = [list(examples.steps(7, 0, rank, 2)) for rank in range(2)]
    assert len(parts[0]) == len(parts[1])
    assert targets(parts[0]) + targets(parts[1]) == targets(list(examples.steps(7, 0)))


def test_how_far_an_epoch_is_never_goes_back_and_ends_at_the_end(shards: PreparedData) -> None:
    steps = list(streamed(shards, limited(shards, 1_000)).steps(7, 0))
    assert [step.place for step in steps] == list(range(len(steps)))
    assert all(step.place < step.of for step in steps)
    assert [step.last for step in steps] == [False] * (len(steps) - 1) + [True]
    assert steps[-1].of == len(steps)


def test_nothing_to_learn_from_is_an_error(shards: PreparedData) -> None:
    examples = streamed(shards, TRAIN.model_copy(update={"target_events": ("cart",)}))
    with pytest.raises(TrainingError, match="no training example"):
        next(examples.steps(0, 0))


def test_the_size_decides(shards: PreparedData) -> None:
    assert not streams(limited(shards, 1), shards)
    assert streams(limited(shards, 1.5), shards)
    assert not streams(limited(shards, 1.5).model_copy(update={"ingest": "memory"}), shards)
    assert not streams(TRAIN, shards)


def asked(found: EvalRequests) -> list[tuple[object, ...]]:
    return sorted(
        (found.history(c).item_idx.tolist(), int(found.query_idx[c]), int(found.now_us[c]), found.truth.of(c).tolist())
        for c in range(len(found))
    )


def test_a_sample_of_all_cases_is_all_cases_and_a_smaller_one_is_some_of_them(shards: PreparedData) -> None:
    cfg = EvaluateConfig()
    wanted = asked(eval_requests(shards, Split.VALIDATION, cfg))
    everything = sampled_cases(shards, Split.VALIDATION, cfg, limited(shards, 1_000), 10**6, 0)
    assert asked(everything) == wanted
    few = sampled_cases(shards, Split.VALIDATION, cfg, limited(shards, 1_000), 12, 0)
    assert len(few) == 12
    assert all(case in wanted for case in asked(few))
    assert len(few.events.item_idx) == int((few.end - few.start).sum())
    other = sampled_cases(shards, Split.VALIDATION, cfg, limited(shards, 1_000), 12, 1)
    assert asked(other) != asked(few)


@pytest.mark.slow
def test_training_streams_and_learns(shards: PreparedData, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    config = Config(
        name="tiny",
        text=TextConfig(encoder="none"),
        model=MODEL,
        train=limited(shards, 2.5).model_copy(update={"max_epochs": 30, "lr": 5e-3}),
    )
    run = trainer_for(config, shards, None)
    assert isinstance(run.examples, StreamedExamples)

    def on_epoch(_: Trainer, report: EpochReport) -> None:
        assert np.isfinite(report.loss)

    run.run(on_epoch)
    assert run.state.best > 0.5  # an item of 60 at random: 0.08
