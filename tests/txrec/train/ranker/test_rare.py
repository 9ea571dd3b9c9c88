"""Rare and new products weigh more where plain counts find them better, and only without a query."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import tiny_data
from tests.txrec.recommender.ranking import hand_made
from txrec.config import Config, ModelConfig, RankerConfig
from txrec.model.ranker import HAS_QUERY, CandidateBatch
from txrec.model.retrieval import RetrievalModel
from txrec.train.ranker import fit as ranker_module
from txrec.train.ranker.fit import fit_ranker
from txrec.train.ranker.listwise import Examples
from txrec.train.ranker.rare import MIN_CASES, STEP, ItemKind, described, item_kinds, kinds_behind, raised, weighted

NAMES = ("retrieval_order", "covisitation.rank")
COUNT = MIN_CASES
HEAD, TAIL, NEW = ItemKind


def _examples(searched: bool = False) -> Examples:
    """Requests with twelve candidates; the last one is rare and right, and co-visitation has it first."""
    mask = torch.ones(COUNT, 12, dtype=torch.bool)
    features = torch.zeros(COUNT, 12, 2)
    features[..., 0] = -torch.arange(12.0)
    features[:, 11, 1] = 1.0
    request = torch.zeros(COUNT, 6)
    request[:, HAS_QUERY] = searched
    state = torch.zeros(COUNT, 2)
    positive = torch.zeros_like(mask)
    positive[:, 11] = True
    kind = torch.full(mask.shape, int(HEAD), dtype=torch.int8)
    kind[:, 11] = int(TAIL)
    num_right = torch.zeros(COUNT, len(ItemKind), dtype=torch.int64)
    num_right[:, TAIL] = 1
    batch = CandidateBatch(torch.zeros(COUNT, 12, 2), features, mask, state, state, request)
    return Examples(batch, positive, mask, num_right[:, TAIL], kind=kind, num_right_of_kind=num_right)


def test_products_are_told_apart_by_what_the_training_of_the_history_model_knew() -> None:
    features = hand_made.features()  # five events of the lamp, one of the tent, none of the cold product
    assert item_kinds(features)[1:].tolist() == [HEAD, TAIL, NEW]
    late = replace(features, untrained=np.array([False, False, True, True]))
    assert item_kinds(late)[1:].tolist() == [HEAD, NEW, NEW], "one that came out since is new, whatever it sells"


def test_a_kind_is_behind_where_an_order_by_counts_finds_more_of_it() -> None:
    examples = _examples()
    order, other = examples.batch.features[..., 0], examples.batch.features[..., 1]
    assert kinds_behind(order, examples, NAMES) == [TAIL]
    assert kinds_behind(other, examples, NAMES) == []
    assert kinds_behind(order, examples, ("retrieval_order", "price")) == [], "there are no counts to be behind"
    assert kinds_behind(order, _examples(searched=True), NAMES) == [], "words decide in searches"
    assert kinds_behind(order, examples.select(slice(1, None)), NAMES) == [], "few requests tell nothing"


def test_right_products_of_a_kind_weigh_more_without_a_query() -> None:
    weights = raised(raised({}, [TAIL, NEW]), [TAIL])
    assert weights == {TAIL: STEP * STEP, NEW: STEP}
    assert described(weights) == "tail products weigh 2.25, new products weigh 1.50"
    factor = weighted(_examples(), weights).weight
    assert factor is not None
    assert factor[:, 11].unique().tolist() == [STEP * STEP]
    assert factor[:, :11].unique().tolist() == [1.0]
    searched = weighted(_examples(searched=True), weights).weight
    assert searched is not None
    assert (searched == 1).all()
    double = weighted(replace(_examples(), weight=torch.full((COUNT, 12), 2.0)), weights).weight
    assert double is not None
    assert double[0, 11] == 2 * STEP * STEP


@pytest.mark.parametrize(("max_cost", "weighs"), [(0.9, True), (0.0, False)])
def test_a_ranker_that_is_behind_is_trained_with_other_weights_within_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_cost: float, weighs: bool
) -> None:
    data = tiny_data(tmp_path, num_users=120)
    results: list[list[ItemKind]] = [[TAIL], [TAIL, NEW], []]

    def behind(*_: Any) -> list[ItemKind]:
        return results.pop(0)

    monkeypatch.setattr(ranker_module, "kinds_behind", behind)
    ranker = RankerConfig(dim=16, num_heads=2, num_candidates=8, max_epochs=1, mode="on", max_rare_cost=max_cost)
    config = Config(name="tiny", model=ModelConfig(dim=16, num_layers=1, num_heads=2), ranker=ranker)
    torch.manual_seed(0)
    reason = fit_ranker(config, data, RetrievalModel.for_data(config.model, data, None), None).decision.reason
    assert ("without a query tail products weigh 2.25, new products weigh 1.50" in reason) == weighs
    assert (results == []) == weighs
