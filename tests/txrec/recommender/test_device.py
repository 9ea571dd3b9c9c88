"""Networks of an opened bundle on a device. On a machine without a GPU the device is the CPU, by the same path."""

from pathlib import Path

import pytest
import torch

from txrec.model.batch import Batch
from txrec.model.ranker import CandidateBatch
from txrec.recommender.recommender import Recommender, Request

REQUESTS = [
    Request(query="lamp", top_k=5),
    Request(query="never seen words", top_k=5),
    Request(user_id="user-003", top_k=5),
    Request(top_k=5),
]


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_slates_are_the_same_on_a_device_and_inputs_travel_there(
    tiny_bundle: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Recommender.open(tiny_bundle).recommend(REQUESTS)
    moved = Recommender.open(tiny_bundle)
    moved.move(device)
    devices: list[tuple[str, str]] = []
    for kind in (Batch, CandidateBatch):
        real = kind.to

        def noted(batch: object, where: torch.device, real: object = real, kind: type = kind) -> object:
            devices.append((kind.__name__, torch.device(where).type))
            return real(batch, where)  # type: ignore[operator]

        monkeypatch.setattr(kind, "to", noted)
    found = moved.recommend(REQUESTS)
    assert set(devices) == {("Batch", device), ("CandidateBatch", device)}
    for slate, other in zip(found, expected, strict=True):
        assert [item.item_id for item in slate.items] == [item.item_id for item in other.items]
        assert [item.score for item in slate.items] == pytest.approx([item.score for item in other.items], abs=1e-4)


def test_changed_products_are_encoded_on_the_device_and_found(tiny_bundle: Path) -> None:
    rows = [{"item_id": "sku-new", "title": "zanzibar lantern", "price": 9.0}]
    slates = []
    for move in (False, True):
        recommender = Recommender.open(tiny_bundle)
        if move:
            recommender.move("cpu")
        slates.append(recommender.with_items(rows).recommend([Request(query="zanzibar lantern", top_k=3)])[0])
    assert [item.item_id for item in slates[0].items] == [item.item_id for item in slates[1].items]
    assert slates[1].items[0].item_id == "sku-new"
