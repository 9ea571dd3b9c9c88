from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.judged import judged_data
from tests.tiny import KINDS, NUM_COLD, NUM_PER_KIND, tiny_data
from txrec.config import Config, EvaluateConfig, ModelConfig, RankerConfig
from txrec.data.prepared import PreparedData, Sequences
from txrec.evals.outcome_labels import shown_items
from txrec.evals.protocol import EvalRequests, eval_requests
from txrec.model.retrieval import RetrievalModel
from txrec.recommender.ranking.ranking_features import RankingFeatures
from txrec.recommender.recommender import Recommender
from txrec.recommender.types import Request
from txrec.schema import PAD, EventKind, Split
from txrec.train.ranker import examples as labelled
from txrec.train.ranker import fit as ranker_module
from txrec.train.ranker.fit import fit_ranker
from txrec.train.ranker.windows import earlier_windows, simulated_cold_items

CFG = RankerConfig(dim=16, num_heads=2, num_candidates=8, batch_size=32, max_epochs=1, lr=3e-3)


def log_with_impressions() -> tuple[EvalRequests, Sequences]:
    """A user searches (query 1), is shown items 3 and 4, clicks 4; then searches for query 2, is shown 5, clicks 6."""
    minute = 60_000_000
    rows = [
        (0, 1, EventKind.SEARCH, 0),
        (3, 1, EventKind.IMPRESSION, 0),
        (4, PAD, EventKind.IMPRESSION, 0),
        (4, 1, EventKind.CLICK, 1),
        (0, 2, EventKind.SEARCH, 2),
        (5, 2, EventKind.IMPRESSION, 2),
        (6, 2, EventKind.CLICK, 3),
        (7, 2, EventKind.IMPRESSION, 90),
    ]
    item, query, kind, minutes = (np.array(column) for column in zip(*rows, strict=True))
    sequences = Sequences(
        np.array(["someone"], object),
        np.array([0, len(rows)]),
        item.astype(np.int32),
        query.astype(np.int32),
        kind.astype(np.int8),
        (1_700_000_000_000_000 + minutes * minute).astype(np.int64),
        np.zeros(len(rows), np.float32),
        np.full(len(rows), Split.VALIDATION, np.int8),
    )
    meta = SimpleNamespace(split_kind="global_time", validation_start_ts=int(sequences.ts[0]))
    data: Any = SimpleNamespace(sequences=sequences, meta=meta, judged_only=False)
    return eval_requests(data, Split.VALIDATION, EvaluateConfig()), sequences


def test_what_was_shown_for_a_search_ends_with_the_next_search_or_half_an_hour_later() -> None:
    asked, sequences = log_with_impressions()
    assert [shown_items(asked, sequences, row).tolist() for row in range(len(asked))] == [[3, 4], [5]]


@pytest.mark.slow
@pytest.mark.parametrize(("searched", "num_new", "hides"), [(True, 0, True), (True, 1_000, False), (False, 0, False)])
def test_products_are_made_new_only_where_people_search_and_hardly_any_was_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, searched: bool, num_new: int, hides: bool
) -> None:
    data = tiny_data(tmp_path, num_users=160)
    if not searched:
        silent = replace(data.sequences, query_idx=np.zeros_like(data.sequences.query_idx))
        meta = data.meta.model_copy(update={"num_queries": 0})
        data = data.altered(meta, sequences=silent, queries=data.queries.slice(0, 0))
    new: list[set[int]] = []  # trained products without an event in the log of each set of examples
    real = labelled.examples

    def noted(requests: EvalRequests, retriever: Any, features: RankingFeatures, *rest: Any) -> Any:
        counts = features.activity.plain[1 : data.meta.num_trained_items + 1]
        new.append(set((np.flatnonzero(counts == 0) + 1).tolist()))
        return real(requests, retriever, features, *rest)

    monkeypatch.setattr(ranker_module, "searches_for_new", lambda *_: num_new)
    monkeypatch.setattr(ranker_module, "examples", noted)
    config = Config(name="tiny", model=ModelConfig(dim=16, num_layers=1, num_heads=2), ranker=CFG)
    fit_ranker(config, data, RetrievalModel.for_data(config.model, data, None), None)
    hidden = set(np.flatnonzero(simulated_cold_items(data, config.seed)).tolist()) & set(range(1, 61))
    assert hidden
    assert set() in new, "the requests that decide are answered by everything that was known"
    assert (hidden in new) == hides
    assert any(new) == hides


def test_a_new_product_that_a_search_names_stands_before_those_that_it_does_not_name(
    tiny: PreparedData, tiny_bundle: Path
) -> None:
    """No product of the tiny log was ever new in it: examples as they are show only that nobody wants new ones."""
    recommender = Recommender.open(tiny_bundle)
    new = [f"sku-{len(KINDS) * NUM_PER_KIND + row + 1:03d}" for row in range(NUM_COLD)]
    slates = recommender.recommend([Request(query=kind, top_k=tiny.meta.num_items) for kind in KINDS[:NUM_COLD]])
    places = [[item.item_id for item in slate.items].index(key) + 1 for slate, key in zip(slates, new, strict=True)]
    assert np.median(places) <= NUM_PER_KIND + 2


def test_a_log_without_times_gives_a_ranker_from_users_held_out(tmp_path: Path) -> None:
    data = tiny_data(tmp_path, num_users=160, has_time=False, split_kind="leave_one_out")
    config = Config(name="tiny", model=ModelConfig(dim=16, num_layers=1, num_heads=2), ranker=CFG)
    torch.manual_seed(0)
    model = RetrievalModel.for_data(config.model, data, None)
    assert earlier_windows(data, 3) == []
    ranking = fit_ranker(config, data, model, None)
    assert ranking.decision.num_requests > 0
    assert "ranker: ndcg@10" in str(ranking.decision)
    assert (ranking.ranker is not None) == ranking.decision.keep


def test_a_catalogue_without_a_log_and_without_judgments_gets_no_ranker(tmp_path: Path) -> None:
    data = judged_data(tmp_path)
    (tmp_path / "judgments.parquet").unlink()
    config = Config(name="tiny", model=ModelConfig(dim=16, num_layers=1, num_heads=2), ranker=CFG)
    ranking = fit_ranker(config, data, RetrievalModel.for_data(config.model, data, None), None)
    assert ranking.ranker is None
    assert "0 requests" in str(ranking.decision)


def test_the_ranker_sees_more_candidates_only_where_there_are_new_products(tmp_path: Path) -> None:
    data = tiny_data(tmp_path, num_users=160, has_time=False, split_kind="leave_one_out")
    ranker = CFG.model_copy(update={"mode": "on", "num_candidates": 20, "max_epochs": 1})
    config = Config(name="tiny", model=ModelConfig(dim=16, num_layers=1, num_heads=2), ranker=ranker)
    model = RetrievalModel.for_data(config.model, data, None)
    widths = [fit_ranker(config, data, model, None).ranker.cfg.num_candidates]
    item = data.sequences.item_idx.copy()
    item[np.flatnonzero((data.sequences.split == Split.TRAIN) & (item != PAD))[:3]] = [61, 62, 63]
    data.__dict__["sequences"] = replace(data.sequences, item_idx=item)
    widths.append(fit_ranker(config, data, model, None).ranker.cfg.num_candidates)
    assert widths == [22, 20]
