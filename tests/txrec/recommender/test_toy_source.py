"""A candidate source from outside the package: one class and one line in the registry."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import tiny_bundle as bundles
from tests.tiny import tiny_data
from txrec.config import RetrievalConfig
from txrec.config_loader import with_overrides
from txrec.errors import BundleError, ConfigError
from txrec.index.source import CatalogueUpdate, FitContext, Hits, Mask, OpenContext, Scored, Source, SourceQuery, best
from txrec.index.source_registry import SOURCES, source_names
from txrec.recommender.bundle import MANIFEST
from txrec.recommender.recommender import Filters, Recommender, Request


class StaffPicks(Source):
    """A fixed list of items, for every request."""

    proposal_reason = "picked by our staff"
    feature_names = ("picked",)

    def __init__(self, picks: Sequence[int]) -> None:
        self.picks = np.array(picks, np.int32)

    @classmethod
    def fit_source(cls, context: FitContext) -> Self:
        return cls([context.data.meta.num_items, 1])

    @classmethod
    def open_source(cls, path: Path, context: OpenContext) -> Self:
        return cls(json.loads((path / "picks.json").read_text(encoding="utf-8")))

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        (path / "picks.json").write_text(json.dumps(self.picks.tolist()), encoding="utf-8")

    def search(self, queries: SourceQuery, k: int, allowed: Sequence[Mask]) -> Hits:
        scores = (1.0 - np.arange(len(self.picks)) / 10).astype(np.float32)
        rows: list[Scored] = [best(self.picks, scores, k, mask) for mask in allowed]
        return Hits.stack(rows, k)

    def with_items(self, update: CatalogueUpdate) -> Self:
        copied = copy.copy(self)
        copied.picks = np.append(self.picks, update.item_idx).astype(np.int32)
        return copied

    def features(self, query: str, history: NDArray[np.int32], item_idx: NDArray[np.int32]) -> NDArray[np.float32]:
        return np.isin(item_idx, self.picks)[:, None].astype(np.float32)


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    folder = tmp_path_factory.mktemp("toy")
    retrieval = bundles.CONFIG.retrieval.model_copy(update={"sources": (*bundles.CONFIG.retrieval.sources, "staff")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "staff", StaffPicks)
        config = with_overrides(
            bundles.CONFIG, {"pretrain.contrastive_epochs": 1, "train.max_epochs": 1, "ranker.max_epochs": 1}
        ).model_copy(update={"retrieval": retrieval})
        opened = Recommender.open(bundles.write(folder, tiny_data(folder / "data"), config))
        _ = opened.retriever.sources
    return opened


def test_a_source_from_outside_is_saved_opened_and_seen_in_a_slate_with_its_reason(recommender: Recommender) -> None:
    assert "index/staff/picks.json" in recommender.bundle.manifest.files
    (slate,) = recommender.recommend([Request(user_id="user-001", top_k=63, explain=True)])
    picked = {item.item_id: item for item in slate.items if "staff" in item.sources}
    assert set(picked) == {"sku-063", "sku-001"}
    assert picked["sku-063"].sources["staff"] == 1.0
    assert all("picked by our staff" in item.reasons for item in picked.values())
    assert not any("picked by our staff" in item.reasons for item in slate.items if item.item_id not in picked)


def test_filters_hold_for_a_source_from_outside(recommender: Recommender) -> None:
    (slate,) = recommender.recommend([Request(query="kettle", filters=Filters(category=("kettle",)), top_k=63)])
    assert [item.item_id for item in slate.items if "staff" in item.sources] == ["sku-001"]


def test_a_source_from_outside_learns_of_live_items(recommender: Recommender) -> None:
    grown = recommender.with_items([{"item_id": "new-1", "title": "acme kettle"}])
    (slate,) = grown.recommend([Request(user_id="user-001", top_k=64)])
    assert "staff" in next(item for item in slate.items if item.item_id == "new-1").sources


def test_the_ranker_reads_the_named_columns_of_a_source_from_outside(recommender: Recommender) -> None:
    names = recommender.ranking_features.names
    assert {"staff.proposed", "staff.rank", "staff.score", "staff.picked"} <= set(names)
    assert recommender.ranker is not None
    assert recommender.ranker.sizes.num_features == len(names)
    assert recommender.bundle.manifest.features[: len(names)] == names
    (found,) = recommender.retrieve([Request(user_id="user-001")])
    picked = recommender.ranking_features.compute([found], [len(found)])[:, names.index("staff.picked")]
    assert set(found.item_idx[picked == 1].tolist()) == {1, 63}


def test_a_source_that_is_not_registered_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"'popularty'; expected dense, .*; did you mean 'popularity'"):
        source_names(RetrievalConfig(sources=("dense", "popularty")))


def test_a_bundle_whose_features_have_other_names_is_refused_with_the_names(recommender: Recommender) -> None:
    bundle = copy.copy(recommender.bundle)
    names = list(bundle.manifest.features)
    names[names.index("price")] = "weight"
    object.__setattr__(bundle, "manifest", bundle.manifest.model_copy(update={"features": tuple(names)}))
    with pytest.raises(BundleError, match=rf"{MANIFEST}: .*without price, with unknown weight.*txrec train"):
        Recommender(bundle)
    names[names.index("weight")] = "price"
    names[0], names[1] = names[1], names[0]
    object.__setattr__(bundle, "manifest", bundle.manifest.model_copy(update={"features": tuple(names)}))
    with pytest.raises(BundleError, match=r"in another order: dense\.proposed where retrieval_order is expected"):
        Recommender(bundle)
