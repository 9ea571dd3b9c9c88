"""The history model is causal, does not see padding, and survives a round trip to disk."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from txrec.config import ModelConfig
from txrec.data.prepared import PreparedData
from txrec.errors import BundleError
from txrec.model.batch import Batch
from txrec.model.history_features import History, collate
from txrec.model.retrieval import RetrievalModel

CFG = ModelConfig(dim=16, num_layers=2, num_heads=2, max_length=12, dropout=0.3)
TEXT_DIM = 8


@pytest.fixture
def model(tiny: PreparedData) -> RetrievalModel:
    torch.manual_seed(0)
    text = np.random.default_rng(0).normal(size=(tiny.meta.num_items + 1, TEXT_DIM)).astype(np.float32)
    text[0] = 0
    return RetrievalModel.for_data(CFG, tiny, text).eval()


def query_vectors() -> Tensor:
    vectors = torch.randn(7, TEXT_DIM, generator=torch.Generator().manual_seed(3))
    vectors[0] = 0
    return vectors


def histories(tiny: PreparedData, num: int = 6) -> list[History]:
    s = tiny.sequences
    cuts = [(s.offsets[u], s.offsets[u] + 2 + 2 * u) for u in range(num)]
    return [History(s.item_idx[a:b], s.query_idx[a:b], s.event[a:b], s.ts[a:b]) for a, b in cuts]


def batch_of(tiny: PreparedData, num: int = 6) -> Batch:
    found = histories(tiny, num)
    now = np.array([h.ts[-1] + 3_600_000_000 for h in found])
    return collate(found, query_vectors(), CFG, np.array([1, 0, 2, 0, 3, 0][:num], np.int32), now)


@torch.no_grad()
def test_what_comes_later_changes_no_earlier_state(model: RetrievalModel, tiny: PreparedData) -> None:
    batch = batch_of(tiny)
    before = model.states(batch)
    for place in range(1, batch.item_idx.shape[1]):
        changed = {
            name: getattr(batch, name).clone() for name in ("item_idx", "event", "query_idx", "ts", "request_ts")
        }
        changed["item_idx"][:, place:] = 9
        changed["event"][:, place:] = 6
        changed["query_idx"][:, place:] = 0
        changed["ts"][:, place:] += 77
        changed["request_ts"][:, place:] += 99
        after = model.states(
            Batch(**changed, query_vectors=batch.query_vectors, target=batch.target, length=batch.length)
        )
        torch.testing.assert_close(after[:, :place], before[:, :place])
        assert not torch.allclose(after[:, place], before[:, place])


@torch.no_grad()
def test_padding_changes_nothing(model: RetrievalModel, tiny: PreparedData) -> None:
    batch = batch_of(tiny)
    width = batch.item_idx.shape[1]
    pad = {
        name: torch.nn.functional.pad(getattr(batch, name), (0, 5))
        for name in ("item_idx", "event", "query_idx", "ts", "request_ts", "target")
    }
    wide = Batch(**pad, query_vectors=batch.query_vectors, length=batch.length)
    shown = batch.mask
    torch.testing.assert_close(model.states(wide)[:, :width][shown], model.states(batch)[shown])


@torch.no_grad()
def test_a_batch_of_one_gives_the_state_of_the_large_batch(model: RetrievalModel, tiny: PreparedData) -> None:
    found = histories(tiny)
    together = model.last_state(collate(found, query_vectors(), CFG))
    alone = torch.cat([model.last_state(collate([one], query_vectors(), CFG)) for one in found])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(("num_layers", "has_time"), [(1, True), (2, True), (3, False)])
@torch.no_grad()
def test_the_last_state_computed_alone_is_that_among_all_states(
    num_layers: int, has_time: bool, tiny: PreparedData
) -> None:
    torch.manual_seed(0)
    cfg = CFG.model_copy(update={"num_layers": num_layers, "use_time": has_time, "use_text": False})
    model, batch = RetrievalModel.for_data(cfg, tiny, None).eval(), batch_of(tiny)
    expected = model.states(batch)[torch.arange(len(batch)), batch.length - 1]
    torch.testing.assert_close(model.last_state(batch), expected)


@torch.no_grad()
def test_vectors_are_unit_vectors_and_row_zero_is_zeros(model: RetrievalModel, tiny: PreparedData) -> None:
    vectors = model.item_vectors()
    assert vectors.shape == (tiny.meta.num_items + 1, CFG.dim)
    assert vectors[0].abs().max() == 0
    torch.testing.assert_close(vectors[1:].norm(dim=1), torch.ones(tiny.meta.num_items))
    torch.testing.assert_close(model.last_state(batch_of(tiny)).norm(dim=1), torch.ones(6))


@torch.no_grad()
def test_an_empty_history_has_the_zero_state(model: RetrievalModel) -> None:
    none = History(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int8), np.empty(0, np.int64))
    assert model.last_state(collate([none], None, CFG)).abs().max() == 0


@torch.no_grad()
def test_the_query_and_its_time_matter(model: RetrievalModel, tiny: PreparedData) -> None:
    one = histories(tiny, 3)[2:]
    first = model.last_state(collate(one, query_vectors(), CFG, np.array([1], np.int32)))
    other = model.last_state(collate(one, query_vectors(), CFG, np.array([2], np.int32)))
    late = model.last_state(
        collate(one, query_vectors(), CFG, np.array([1], np.int32), now_us=int(one[0].ts[-1] + 10**13))
    )
    assert not torch.allclose(first, other)
    assert not torch.allclose(first, late)


@torch.no_grad()
def test_a_saved_model_opens_to_the_same_vectors(model: RetrievalModel, tiny: PreparedData, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    opened = RetrievalModel.open(tmp_path / "model")
    assert torch.equal(opened.item_vectors(), model.item_vectors())
    assert torch.equal(opened.last_state(batch_of(tiny)), model.last_state(batch_of(tiny)))
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.json", "model.safetensors"}


def test_opening_what_is_not_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model\.json: not there"):
        RetrievalModel.open(tmp_path)


def test_an_unseen_item_gets_the_vector_of_a_cold_item_with_the_same_features(
    model: RetrievalModel, tiny: PreparedData
) -> None:
    cold = tiny.items.slice(tiny.meta.num_trained_items)
    text = model.encoder.text[tiny.meta.num_trained_items + 1 :].numpy()
    torch.testing.assert_close(
        model.encode_items(cold, text), model.item_vectors()[tiny.meta.num_trained_items + 1 :].detach()
    )


def test_items_looked_up_one_by_one_equal_the_whole_table(model: RetrievalModel) -> None:
    ids = torch.tensor([[0, 3], [61, 7]])
    torch.testing.assert_close(model.encoder(ids), model.encoder.all()[ids])


@torch.no_grad()
def test_the_catalogue_in_parts_equals_the_whole(model: RetrievalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.item_vectors()
    for module in ("item_encoder", "retrieval"):
        monkeypatch.setattr(f"txrec.model.{module}.CHUNK_ROWS", 9)
    torch.testing.assert_close(model.item_vectors(), whole)
    parts = list(model.item_vectors_in_parts())
    assert [first for first, _ in parts] == list(range(0, len(whole), 9))
    torch.testing.assert_close(torch.cat([vectors for _, vectors in parts]), whole)


def test_eight_blocks_start_with_finite_gradients(tiny: PreparedData) -> None:
    deep = RetrievalModel.for_data(CFG.model_copy(update={"num_layers": 8}), tiny, None)
    deep.last_state(batch_of(tiny)).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in deep.parameters())


@torch.no_grad()
def test_a_search_is_read_once_however_often_it_is_made_and_means_the_same(
    model: RetrievalModel, tiny: PreparedData
) -> None:
    batch = batch_of(tiny)
    many = torch.cat([query_vectors(), torch.randn(batch.query_idx.numel(), TEXT_DIM)])
    assert batch.query_idx.any()
    torch.testing.assert_close(
        model.last_state(batch), model.last_state(dataclasses.replace(batch, query_vectors=many)), atol=1e-6, rtol=0
    )
