import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.judged import judged_data
from tests.tiny import KINDS, NUM_COLD, NUM_PER_KIND, tiny_data
from txrec.config import Config, EvaluateConfig, ModelConfig, RankerConfig
from txrec.data.prepared import PreparedData, Sequences
from txrec.evals.protocol import Cases, cases
from txrec.evidence import ORDER
from txrec.index.log import EventLog
from txrec.model.ranker import CandidateBatch
from txrec.model.retrieval import RetrievalModel
from txrec.recommend import Recommender
from txrec.schema import PAD, EventKind, Split
from txrec.slate import Request
from txrec.train import ranker as ranker_module
from txrec.train.ranker import (
    HIDDEN_FRAC,
    Examples,
    calibrate,
    decide,
    earlier_windows,
    fit,
    hidden_products,
    joined,
    known_vectors,
    listwise_loss,
    ndcg_at_10,
    searches_for_new,
    shown_items,
    train,
)

CFG = RankerConfig(dim=16, num_heads=2, num_candidates=8, batch_size=32, max_epochs=20, lr=3e-3)


def examples(n: int, seed: int) -> Examples:
    """Candidate sets in which the largest third feature marks the right item; retrieval order knows nothing."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, 8, 4, generator=generator)
    positive = torch.nn.functional.one_hot(features[:, :, 2].argmax(1), 8).bool()
    batch = CandidateBatch(
        torch.randn(n, 8, 6, generator=generator),
        features,
        torch.ones(n, 8, dtype=torch.bool),
        torch.randn(n, 6, generator=generator),
        torch.zeros(n, 3),
        torch.zeros(n, 6),
    )
    return Examples(batch, positive, torch.ones(n, 8, dtype=torch.bool), torch.ones(n, dtype=torch.int64))


def test_the_ranker_learns_which_feature_marks_the_right_item() -> None:
    ranker, epochs = train(CFG, examples(400, 0), examples(100, 1), 20, 0)
    held_out = examples(200, 2)
    with torch.no_grad():
        assert float(ndcg_at_10(ranker(held_out.batch), held_out).mean()) > 0.9
    assert 0 <= epochs <= 20


def test_the_linear_reading_alone_learns_it_and_a_few_examples_leave_retrieval_order() -> None:
    held_out = examples(200, 2)
    gains = []
    for count in (4, 400):
        ranker, _ = train(CFG, examples(count, 0), None, 0, 0)
        with torch.no_grad():
            gains.append(float(ndcg_at_10(ranker(held_out.batch), held_out).mean()))
            moved = ranker.weights.bias - torch.nn.functional.one_hot(torch.tensor(ORDER), len(ranker.weights.bias))
        assert float(moved.abs().max()) < 0.2 if count == 4 else gains[-1] > 0.9
    assert gains[0] < gains[1] - 0.1


def test_a_feature_that_is_not_read_teaches_nothing() -> None:
    held_out = examples(200, 2)
    ranker, _ = train(CFG, examples(400, 0), None, 2, 0, unread=(2,))
    with torch.no_grad():
        assert float(ndcg_at_10(ranker(held_out.batch), held_out).mean()) < 0.7


def test_calibrated_chances_add_up_to_the_number_of_right_items() -> None:
    ranker, _ = train(CFG, examples(400, 0), None, 5, 0)
    held_out = examples(400, 3)
    calibrate(ranker, held_out)
    with torch.no_grad():
        total = float(ranker.probabilities(ranker(held_out.batch)).sum())
    assert total == pytest.approx(400, rel=0.02)


def test_ndcg_counts_items_that_were_not_retrieved_as_missed() -> None:
    given = examples(2, 0)
    positive = torch.zeros(2, 8, dtype=torch.bool)
    positive[0, 1] = True
    given = Examples(given.batch, positive, given.offered, torch.tensor([2, 1]))
    scores = -torch.arange(8).float().expand(2, -1)
    expected = (1 / math.log2(3)) / (1 + 1 / math.log2(3))
    assert ndcg_at_10(scores, given).tolist() == pytest.approx([expected, 0.0])


def test_the_listwise_loss_of_equal_scores_is_the_log_of_the_candidates() -> None:
    positive = torch.tensor([[True, False, True, False]])
    assert float(listwise_loss(torch.zeros(1, 4), positive, torch.ones(1, 4, dtype=torch.bool))) == pytest.approx(
        math.log(4)
    )


def test_padding_takes_no_part_in_the_loss() -> None:
    scores = torch.tensor([[0.0, 0.0, -torch.inf]])
    positive, offered = torch.tensor([[True, False, False]]), torch.tensor([[True, True, False]])
    assert float(listwise_loss(scores, positive, offered)) == pytest.approx(math.log(2))


def test_what_was_shown_and_passed_over_counts_twice() -> None:
    scores, positive = torch.zeros(1, 4), torch.tensor([[True, False, False, False]])
    offered = torch.tensor([[True, True, False, False]])
    assert float(listwise_loss(scores, positive, offered)) == pytest.approx((math.log(4) + math.log(2)) / 2)
    moved = scores.requires_grad_()
    listwise_loss(moved, positive, offered).backward()
    assert moved.grad is not None
    assert float(moved.grad[0, 1]) > float(moved.grad[0, 2]) > 0


def log_with_impressions() -> tuple[Cases, Sequences]:
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
    data = SimpleNamespace(sequences=sequences, meta=meta, judged_only=False)
    return cases(data, Split.VALIDATION, EvaluateConfig()), sequences


def test_what_was_shown_for_a_search_ends_with_the_next_search_or_half_an_hour_later() -> None:
    asked, sequences = log_with_impressions()
    assert [shown_items(asked, sequences, row).tolist() for row in range(len(asked))] == [[3, 4], [5]]


def test_a_ranker_is_kept_only_beyond_the_standard_error_and_the_reason_says_so() -> None:
    retrieved = torch.full((100,), 0.5)
    noise = torch.linspace(-0.1, 0.1, 100)
    better, equal = decide("auto", retrieved + 0.1 + noise, retrieved), decide("auto", retrieved + noise, retrieved)
    assert better.keep
    assert "keep the ranker: ndcg@10 0.6000 > 0.5000" in str(better)
    assert not equal.keep
    assert "<=" in str(equal)
    assert decide("on", retrieved - 0.1, retrieved).keep


def test_earlier_windows_end_where_the_next_begins_and_see_nothing_of_it(tiny) -> None:
    windows = earlier_windows(tiny, 3)
    assert [w.meta.test_start_ts for w in windows] == [
        tiny.meta.validation_start_ts,
        *(w.meta.validation_start_ts for w in windows[:-1]),
    ]
    for window in windows:
        assert EventLog.before(window, Split.VALIDATION).end_us < window.meta.validation_start_ts
        inside = window.sequences.ts[window.sequences.split == Split.VALIDATION]
        assert ((inside >= window.meta.validation_start_ts) & (inside < window.meta.test_start_ts)).all()
    assert (tiny.sequences.split == Split.TRAIN).sum() > (windows[-1].sequences.split == Split.TRAIN).sum()


def test_a_product_new_to_a_window_has_no_id_in_it(tiny) -> None:
    torch.manual_seed(0)
    model = RetrievalModel.for_data(ModelConfig(dim=16, num_layers=1, num_heads=2), tiny, None).eval()
    vectors = model.item_vectors().detach().numpy()
    log = EventLog.before(tiny, Split.VALIDATION)
    assert known_vectors(model, tiny, log, vectors, None) is vectors
    log = replace(log, item=np.where(log.item == 7, 8, log.item))
    known = known_vectors(model, tiny, log, vectors, None)
    assert np.array_equal(np.delete(known, 7, axis=0), np.delete(vectors, 7, axis=0))
    assert np.allclose(known[7], model.encode_items(tiny.items.slice(6, 1), None).numpy()[0])
    assert not np.allclose(known[7], vectors[7])


def test_the_products_made_new_to_examples_are_others_in_every_window(tiny) -> None:
    windows = [tiny, *earlier_windows(tiny, 2)]
    drawn = [hidden_products(window, 0) for window in windows]
    assert len({tuple(hidden) for hidden in drawn}) == len(windows)
    assert np.array_equal(drawn[0], hidden_products(tiny, 0))
    assert not any(hidden[PAD] for hidden in drawn)
    many = SimpleNamespace(meta=tiny.meta.model_copy(update={"num_items": 20_000}))
    assert hidden_products(many, 0).mean() == pytest.approx(HIDDEN_FRAC, abs=0.01)


def test_searches_for_what_was_new_are_counted(tiny) -> None:
    asked = cases(tiny, Split.VALIDATION, EvaluateConfig())
    assert searches_for_new(tiny, asked) == 0
    sequences = tiny.sequences
    trained = (sequences.split == Split.TRAIN) & (sequences.item == 7)
    changed = copy.copy(tiny)
    changed.__dict__["sequences"] = replace(sequences, item=np.where(trained, 8, sequences.item))
    wanted = (asked.truth.items == 7) & (asked.query[asked.truth.case] != PAD)
    assert searches_for_new(changed, asked) == wanted.sum() > 0


@pytest.mark.parametrize(("searched", "num_new", "hides"), [(True, 0, True), (True, 1_000, False), (False, 0, False)])
def test_products_are_made_new_only_where_people_search_and_hardly_any_was_new(
    tmp_path, monkeypatch: pytest.MonkeyPatch, searched: bool, num_new: int, hides: bool
) -> None:
    data = tiny_data(tmp_path, num_users=160)
    if not searched:
        silent = replace(data.sequences, query=np.zeros_like(data.sequences.query))
        tables = {"sequences": silent, "queries": data.queries.slice(0, 0)}
        data = PreparedData(data.path, data.meta.model_copy(update={"num_queries": 0}))
        data.__dict__.update(tables)
    asked_for: list[bool] = []
    monkeypatch.setattr(ranker_module, "searches_for_new", lambda *_: num_new)
    monkeypatch.setattr(ranker_module, "hidden_products", lambda *_: asked_for.append(True))
    config = Config(name="tiny", model=ModelConfig(dim=16, num_layers=1, num_heads=2), ranker=CFG)
    fit(config, data, RetrievalModel.for_data(config.model, data, None), None)
    assert bool(asked_for) == hides


def test_a_new_product_that_a_search_names_stands_before_those_that_it_does_not_name(tiny, tiny_bundle) -> None:
    """No product of the tiny log was ever new in it: examples as they are show only that nobody wants new ones."""
    recommender = Recommender.open(tiny_bundle)
    new = [f"sku-{len(KINDS) * NUM_PER_KIND + row + 1:03d}" for row in range(NUM_COLD)]
    slates = recommender.recommend([Request(query=kind, top_k=tiny.meta.num_items) for kind in KINDS[:NUM_COLD]])
    places = [[item.item_id for item in slate.items].index(key) + 1 for slate, key in zip(slates, new, strict=True)]
    assert np.median(places) <= NUM_PER_KIND + 2


def test_joined_examples_stand_one_after_the_other() -> None:
    both = joined([examples(3, 0), examples(2, 1)])
    assert len(both) == 5
    assert np.array_equal(both.positive[3:], examples(2, 1).positive)


def test_a_log_without_times_gives_a_ranker_from_users_held_out(tmp_path) -> None:
    data = tiny_data(tmp_path, num_users=160, has_time=False, split_kind="leave_one_out")
    config = Config(name="tiny", model=ModelConfig(dim=16, num_layers=1, num_heads=2), ranker=CFG)
    torch.manual_seed(0)
    model = RetrievalModel.for_data(config.model, data, None)
    assert earlier_windows(data, 3) == []
    ranking = fit(config, data, model, None)
    assert ranking.decision.num_requests > 0
    assert "ranker: ndcg@10" in str(ranking.decision)
    assert (ranking.ranker is not None) == ranking.decision.keep


def test_a_catalogue_without_a_log_and_without_judgments_gets_no_ranker(tmp_path) -> None:
    data = judged_data(tmp_path)
    (tmp_path / "judgments.parquet").unlink()
    config = Config(name="tiny", model=ModelConfig(dim=16, num_layers=1, num_heads=2), ranker=CFG)
    ranking = fit(config, data, RetrievalModel.for_data(config.model, data, None), None)
    assert ranking.ranker is None
    assert "0 requests" in str(ranking.decision)


def test_the_ranker_sees_more_candidates_only_where_there_are_new_products(tmp_path) -> None:
    data = tiny_data(tmp_path, num_users=160, has_time=False, split_kind="leave_one_out")
    ranker = CFG.model_copy(update={"mode": "on", "num_candidates": 20, "max_epochs": 1})
    config = Config(name="tiny", model=ModelConfig(dim=16, num_layers=1, num_heads=2), ranker=ranker)
    model = RetrievalModel.for_data(config.model, data, None)
    widths = [fit(config, data, model, None).ranker.cfg.num_candidates]
    item = data.sequences.item.copy()
    item[np.flatnonzero((data.sequences.split == Split.TRAIN) & (item != PAD))[:3]] = [61, 62, 63]
    data.__dict__["sequences"] = replace(data.sequences, item=item)
    widths.append(fit(config, data, model, None).ranker.cfg.num_candidates)
    assert widths == [22, 20]
