"""Warm start: weights found again by name in a vocabulary that has grown, and when a full training is chosen."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests import tiny_bundle
from tests.tiny import tiny_data
from txrec.config import WarmStartConfig
from txrec.data.prepared import PreparedData
from txrec.model.retrieval import RetrievalModel
from txrec.model.text_encoder import load_vectors
from txrec.recommender.bundle import Bundle
from txrec.train import warm_start
from txrec.train.retrieval.setup import trainer_for
from txrec.train.warm_start import Lineage

CONFIG = tiny_bundle.CONFIG


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return tiny_data(tmp_path_factory.mktemp("warm") / "data", num_users=40)


@pytest.fixture(scope="module")
def earlier(data: PreparedData) -> Bundle:
    config = CONFIG.model_copy(update={"ranker": CONFIG.ranker.model_copy(update={"max_epochs": 1})})
    return Bundle.open(tiny_bundle.write(data.path.parent, data, config))


@pytest.fixture(scope="module")
def grown(data: PreparedData) -> tuple[PreparedData, np.ndarray]:
    """The same log with its products in another order, brands with other codes; a cold product has events now."""
    num_items, num_trained = data.meta.num_items, data.meta.num_trained_items
    order = np.append(np.random.default_rng(0).permutation(num_trained + 1), np.arange(num_trained + 1, num_items))
    items = data.items.take(pa.array(order))
    brands = pa.array(3 - items["brand_idx"].to_numpy(), pa.int32())
    counts = pa.array(np.maximum(items["train_count"].to_numpy(), np.arange(num_items) <= num_trained), pa.int64())
    for name, column in (("brand_idx", brands), ("train_count", counts)):
        items = items.set_column(items.schema.get_field_index(name), items.schema.field(name), column)
    rank = np.append(0, np.argsort(order) + 1).astype(np.int32)
    sequences = replace(data.sequences, item_idx=rank[data.sequences.item_idx])
    meta = data.meta.model_copy(update={"num_trained_items": num_trained + 1})
    return data.altered(meta, items=items, sequences=sequences, queries=data.queries), order


def test_known_products_keep_their_vectors_whatever_their_place_in_the_new_vocabulary(
    data: PreparedData, earlier: Bundle, grown: tuple[PreparedData, np.ndarray]
) -> None:
    new, order = grown
    text = load_vectors(earlier.path / "text")[0]
    model = RetrievalModel.for_data(CONFIG.model, new, text[np.append(0, order + 1)]).eval()
    assert not torch.allclose(model.item_vectors()[1:], earlier.model.item_vectors()[1:][order], atol=1e-2)
    warm_start.take_weights(model, new, earlier)
    assert torch.allclose(model.item_vectors()[1:], earlier.model.item_vectors()[1:][order], atol=1e-5)


def test_the_decoder_is_taken_as_it_is(earlier: Bundle, grown: tuple[PreparedData, np.ndarray]) -> None:
    text = load_vectors(earlier.path / "text")[0]
    model = RetrievalModel.for_data(CONFIG.model, grown[0], text[np.append(0, grown[1] + 1)])
    warm_start.take_weights(model, grown[0], earlier)
    for name, weight in earlier.model.decoder.state_dict().items():
        assert torch.equal(model.decoder.state_dict()[name], weight)


def test_one_epoch_from_a_bundle_beats_one_epoch_from_nothing(data: PreparedData, earlier: Bundle) -> None:
    short = CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update={"max_epochs": 1, "lr": 1e-3})})
    losses = []
    for start in (None, earlier):
        trainer = trainer_for(short, data, earlier.path / "text", earlier=start)
        trainer.run(lambda _, report: losses.append(report.loss))
    assert losses[1] < 0.8 * losses[0]


def test_a_share_of_unknown_products_too_many_rounds_and_other_settings_ask_for_a_full_training(
    data: PreparedData, earlier: Bundle
) -> None:
    assert warm_start.obstacle(CONFIG, data, earlier) == ""
    items = data.items
    names = pa.array([f"other-{name}" for name in items["item_id"].to_pylist()])
    strange = data.altered(items=items.set_column(0, items.schema.field(0), names), sequences=data.sequences)
    assert "0% of the training events" in warm_start.obstacle(CONFIG, strange, earlier)
    wider = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"dim": 32})})
    assert "[model]" in warm_start.obstacle(wider, data, earlier)
    tired = Bundle(earlier.path, earlier.manifest.model_copy(update={"lineage": {"start": "warm", "rounds": 20}}))
    assert "20 warm starts in a row" in warm_start.obstacle(CONFIG, data, tired)


def test_a_figure_below_that_of_the_last_full_training_is_a_shortfall() -> None:
    config = CONFIG.model_copy(
        update={"train": CONFIG.train.model_copy(update={"warm_start": WarmStartConfig(tolerance=0.1)})}
    )
    full = Lineage(reference=0.5)
    assert warm_start.shortfall(config, full, 0.46) == ""
    assert "0.4400 < 0.5000" in warm_start.shortfall(config, full, 0.44)
    assert warm_start.shortfall(config, Lineage(), 0.01) == ""  # nothing to compare with


def test_a_warm_start_takes_a_fifth_of_the_epochs_by_default() -> None:
    config = CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update={"max_epochs": 20})})
    short = warm_start.shortened(config)
    assert short.train.max_epochs == 4
    assert short.train.lr == config.train.lr / 2
    assert short.train.validate_every == 4
    assert short.pretrain.masked_epochs == 0
