from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.tiny import KINDS, NUM_PER_KIND
from tests.updates import update
from txrec.config import RetrievalConfig
from txrec.data.prepared import PreparedData
from txrec.index.source import FitContext, OpenContext, Source, SourceQuery
from txrec.index.source_registry import fit_sources, source_names
from txrec.index.sources import ivf_scan
from txrec.index.sources.covisitation import Covisitation
from txrec.index.sources.dense import Dense
from txrec.index.sources.lexical import Lexical
from txrec.index.sources.popularity import Popularity
from txrec.index.sources.query_clicks import QueryClicks
from txrec.index.training_log import EventLog
from txrec.schema import DAY_US, Split


def log_of(rows: list[tuple[int, int, int, float]]) -> EventLog:
    """(user, item, query, day) rows."""
    user, item, query, day = (np.array(column) for column in zip(*rows, strict=True))
    ts = (day * DAY_US).astype(np.int64) + DAY_US
    return EventLog(
        user.astype(np.int32),
        item.astype(np.int32),
        query.astype(np.int32),
        np.full(len(rows), 4, np.int8),
        ts,
        ts.max(),
    )


def asking(*texts: str, items: tuple[int, ...] = ()) -> SourceQuery:
    history = [np.array(items, np.int32)] * len(texts)
    return SourceQuery(texts, np.zeros((len(texts), 4), np.float32), history)


def products(titles: Sequence[str | None], texts: Sequence[str] | None = None) -> pa.Table:
    """Products p1, p2 ... as far as the lexical source reads them."""
    keys = [f"p{number}" for number in range(1, len(titles) + 1)]
    written = [(title or "").lower() for title in titles] if texts is None else texts
    return pa.table({"item_id": keys, "title": pa.array(titles, pa.string()), "text": written})


def queries_table(*texts: str) -> pa.Table:
    return pa.table({"query": list(texts)})


def test_a_log_cut_before_a_split_holds_nothing_of_it(tiny: PreparedData) -> None:
    log = EventLog.before(tiny, Split.VALIDATION)
    assert log.end_us < tiny.meta.validation_start_ts
    assert (log.item_idx > 0).all()
    assert len(log) < len(EventLog.before(tiny, Split.TEST))


def test_the_first_time_of_an_item_is_that_of_its_earliest_event_and_0_without_one() -> None:
    log = log_of([(0, 1, 0, 4.0), (0, 3, 0, 5.0), (1, 1, 0, 2.0)])
    assert log.first_ts(4).tolist() == [0, 3 * DAY_US, 0, 6 * DAY_US, 0]
    assert replace(log, ts=np.zeros(3, np.int64)).first_ts(4).tolist() == [0] * 5


def test_an_event_one_half_life_old_weighs_half() -> None:
    log = log_of([(0, 1, 0, 0.0), (0, 1, 0, 10.0)])
    assert log.weights(10.0).tolist() == pytest.approx([0.5, 1.0])


def test_popularity_fills_k_under_a_mask_that_leaves_only_cold_items() -> None:
    source = Popularity.fit(log_of([(0, 1, 0, 0.0), (0, 2, 0, 0.0), (1, 2, 0, 0.0)]), 1_000, 30.0)
    mask = np.zeros(1_001, np.bool_)
    mask[[900, 950, 2]] = True
    assert source.search(asking(""), 3, [mask]).item_idx[0].tolist() == [2, 900, 950]


def test_clicks_of_the_same_query_come_first_and_a_typo_finds_them() -> None:
    log = log_of([(0, 5, 1, 0.0), (1, 5, 1, 0.0), (2, 6, 1, 0.0), (3, 9, 2, 0.0)])
    source = QueryClicks.fit(log, queries_table("halo reach", "gears of war"), 10, 30.0)
    hits = source.search(asking("halo reach", "haloo reech", "reach halo", "zzz", ""), 3, [None] * 5)
    assert hits.item_idx[0].tolist()[:2] == [5, 6]
    assert hits.item_idx[1].tolist()[:2] == [5, 6]
    assert hits.item_idx[2].tolist()[:2] == [5, 6]
    assert hits.item_idx[3].tolist() == [0, 0, 0]
    assert hits.item_idx[4].tolist() == [0, 0, 0]


def test_evidence_counts_shares_of_the_same_query() -> None:
    log = log_of([(0, 5, 1, 0.0), (1, 5, 1, 0.0), (2, 6, 1, 0.0), (3, 9, 2, 0.0)])
    source = QueryClicks.fit(log, queries_table("halo reach", "gears of war"), 10, 30.0)
    counts = source.click_counts("halo reach", np.array([6, 9, 5], np.int32))
    assert (counts.own / counts.own_total)[:, 2].tolist() == pytest.approx([1 / 3, 0.0, 2 / 3])
    assert source.familiarity("halo reach") == (3.0, 0.0)


def test_a_typo_inherits_the_clicks_of_the_right_spelling_as_votes_only() -> None:
    log = log_of([(0, 5, 1, 0.0), (1, 5, 1, 10.0), (2, 6, 1, 10.0)])
    source = QueryClicks.fit(log, queries_table("halo reach"), 10, 10.0)
    counts = source.click_counts("haloo reech", np.array([5, 6, 9], np.int32))
    assert not counts.own.any()
    assert (counts.votes / counts.votes_total)[:, 2].tolist() == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert (counts.votes / counts.votes_total)[:, 0].tolist() == pytest.approx([0.6, 0.4, 0.0])  # decayed
    clicked, nearest = source.familiarity("haloo reech")
    assert clicked == 0.0
    assert 0.35 < nearest < 1.0


def test_a_search_text_of_ten_thousand_characters_is_answered() -> None:
    source = QueryClicks.fit(log_of([(0, 5, 1, 0.0)]), queries_table("halo"), 10, 30.0)
    assert source.search(asking("halo " * 2_000), 3, [None]).item_idx.shape == (1, 3)


def test_items_seen_together_are_neighbours_and_the_later_one_follows() -> None:
    log = log_of([(0, 1, 0, 0.0), (0, 2, 0, 0.1), (1, 1, 0, 0.0), (1, 2, 0, 0.1), (2, 3, 0, 0.0), (2, 4, 0, 0.1)])
    source = Covisitation.fit(log, 4, 30.0)
    assert source.search(asking("", items=(1,)), 2, [None]).item_idx[0].tolist() == [2, 0]
    assert source.affinity[1, 2] > source.affinity[2, 1] > 0


def test_lexical_finds_words_plurals_model_numbers_typos_and_chinese() -> None:
    titles = ["Red Lamp", "Xbox 360 Console", "小米 无线耳机", "Cordless Drill", "Blender"]
    source = Lexical.fit(products(titles))
    texts = ("lamps", "xbox360", "无线 耳机", "耳机", "cordles dril", "qqqq")
    assert source.search(asking(*texts), 1, [None] * 6).item_idx[:, 0].tolist() == [1, 2, 3, 3, 4, 0]


def test_lexical_finds_a_product_by_the_id_that_is_typed_or_pasted() -> None:
    items = products(["Red Lamp", "Green Lamp"]).set_column(0, "item_id", pa.array(["2622037", "AB-12"]))
    hits = Lexical.fit(items).search(asking("2622037", "lamp 2622037", "ab-12"), 2, [None] * 3)
    assert hits.item_idx[:2, 0].tolist() == [1, 1]
    assert hits.item_idx[2].tolist() == [2, 0]


def test_the_words_of_a_query_outweigh_the_trigrams_of_its_longest_word() -> None:
    titles = ["Voltek Light Bulb", "Linnea Light Bulb", "Voltek Kettle", "明月灯泡"]
    items = products(titles, [*(title.lower() for title in titles[:3]), "明月灯泡 light bulb"])
    hits = Lexical.fit(items).search(asking("明月 light bulbs", "voltek light bulb"), 1, [None] * 2)
    assert hits.item_idx[:, 0].tolist() == [4, 1]


def test_lexical_answers_an_empty_query_with_nothing_and_an_endless_one_like_its_beginning() -> None:
    items = products(["Red Lamp", "Drill"])
    hits = Lexical.fit(items).search(asking("", "lamp " * 2_000), 2, [None] * 2)
    assert hits.item_idx.tolist() == [[0, 0], [1, 0]]


def test_a_catalogue_without_any_text_has_a_lexical_source_that_finds_nothing(tmp_path: Path) -> None:
    source = Lexical.fit(products([None, None]))
    source.save(tmp_path)
    assert Lexical.open(tmp_path, source.analyser).search(asking("lamp", ""), 3, [None, None]).item_idx.tolist() == [
        [0, 0, 0],
        [0, 0, 0],
    ]


def test_lexical_knows_added_products_at_once_and_forgets_the_old_text_of_changed_ones() -> None:
    items = products(["Red Lamp", "Drill"])
    changed = products(["Tent", "Violet Lamp"])
    source = Lexical.fit(items).with_items(update([1, 3], items=changed))
    assert source.search(asking("lamp"), 3, [None]).item_idx[0].tolist() == [3, 0, 0]
    assert source.search(asking("tent"), 3, [None]).item_idx[0].tolist() == [1, 0, 0]


def unit_vectors(num: int, dim: int) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(num + 1, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[0] = 0
    return vectors


@pytest.mark.parametrize("exact_limit", [10_000, 10], ids=["exact", "cells"])
def test_dense_search_fills_top_k_under_a_mask_that_leaves_one_item_in_a_thousand(exact_limit: int) -> None:
    vectors = unit_vectors(5_000, 16)
    source = Dense.fit(vectors, exact_limit)
    mask = np.zeros(5_001, np.bool_)
    allowed = np.random.default_rng(1).choice(np.arange(1, 5_001), 5, replace=False)
    mask[allowed] = True
    hits = source.nearest(vectors[[7, 8]], 5, [mask, None])
    assert set(hits.item_idx[0]) == set(allowed)
    assert hits.item_idx[0].tolist() == allowed[np.argsort(-(vectors[allowed] @ vectors[7]))].tolist()
    assert hits.item_idx[1, 0] == 8


@pytest.mark.parametrize("share", [0.001, 0.2, 1.0])
def test_cells_find_what_a_scan_finds_whatever_a_filter_leaves(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivf_scan, "FILTERED_LIMIT", 500)
    vectors = unit_vectors(20_000, 8)
    source, scan = Dense.fit(vectors, 10), Dense.fit(vectors)
    mask = np.append(False, np.random.default_rng(2).random(20_000) < share)
    states, masks = vectors[100:120] + np.float32(0.3) * vectors[200:220], [mask if share < 1 else None] * 20
    found, right = source.nearest(states, 100, masks), scan.nearest(states, 100, masks)
    assert (found.item_idx > 0).sum() == (right.item_idx > 0).sum()
    assert mask[found.item_idx[found.item_idx > 0]].all() or share == 1
    shared = [
        np.intersect1d(a[a > 0], b).size / (b > 0).sum() for a, b in zip(found.item_idx, right.item_idx, strict=True)
    ]
    assert np.mean(shared) >= 0.97
    np.testing.assert_allclose(found.scores[:, 0], right.scores[:, 0], rtol=1e-5)


def test_a_filter_that_leaves_items_far_from_the_state_is_answered_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ivf_scan, "FILTERED_LIMIT", 10)
    vectors = unit_vectors(5_000, 8)
    far = np.argsort(vectors[1:] @ vectors[1])[:50] + 1
    mask = np.zeros(5_001, np.bool_)
    mask[far] = True
    found = Dense.fit(vectors, 10).nearest(vectors[[1]], 50, [mask])
    assert set(found.item_idx[0].tolist()) == set(far.tolist())


def test_cells_know_new_and_changed_vectors_at_once_and_forget_the_old_ones() -> None:
    vectors = unit_vectors(5_000, 16)
    source = Dense.fit(vectors, 10)
    changed = source.with_vectors(np.array([7, 5_001], np.int32), -vectors[[7, 9]])
    assert changed.nearest(-vectors[[7, 9]], 1, [None, None]).item_idx[:, 0].tolist() == [7, 5_001]
    assert 7 not in changed.nearest(vectors[[7]], 100, [None]).item_idx[0]
    assert source.nearest(vectors[[7]], 1, [None]).item_idx[0, 0] == 7


def test_a_state_of_zeros_finds_nothing() -> None:
    vectors = np.eye(4, dtype=np.float32)
    assert not Dense.fit(vectors).search(asking(""), 2, [None]).item_idx.any()


def test_every_source_answers_alike_after_saving_and_opening(tiny: PreparedData, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(tiny.meta.num_items + 1, 4)).astype(np.float32)
    vectors[0] = 0
    sources = fit_sources(FitContext(RetrievalConfig(), tiny, EventLog.before(tiny, Split.TEST), vectors, vectors))
    assert tuple(sources) == source_names(RetrievalConfig())
    asked = SourceQuery(["lamp", ""], vectors[[3, 4]], [np.array([1, 2], np.int32)] * 2)
    for name, source in sources.items():
        source.save(tmp_path / name)
        opened = type(source).open_source(tmp_path / name, OpenContext(vectors, vectors, tiny.analyser))
        before, after = source.search(asked, 10, [None, None]), opened.search(asked, 10, [None, None])
        assert before.item_idx.tolist() == after.item_idx.tolist(), name
        assert np.allclose(before.scores, after.scores), name


def test_cells_answer_alike_after_saving_and_opening(tmp_path: Path) -> None:
    vectors = unit_vectors(5_000, 16)
    source = Dense.fit(vectors, 10)
    source.save(tmp_path)
    before, after = (found.nearest(vectors[:50], 10, [None] * 50) for found in (source, Dense.open(tmp_path, vectors)))
    assert before.item_idx.tolist() == after.item_idx.tolist()
    assert not before.item_idx[0].any()  # the state of nobody


def test_the_query_of_a_kind_proposes_that_kind(tiny: PreparedData) -> None:
    vectors = np.zeros((tiny.meta.num_items + 1, 4), np.float32)
    sources = fit_sources(FitContext(RetrievalConfig(), tiny, EventLog.before(tiny, Split.TEST), vectors, None))
    asked = SourceQuery([KINDS[2]], np.zeros((1, 4), np.float32), [np.empty(0, np.int32)])
    for name in ("lexical", "query_clicks"):
        ids = sources[name].search(asked, 5, [None]).item_idx[0]
        cold = NUM_PER_KIND * len(KINDS) + 2 + 1
        assert all((i - 1) // NUM_PER_KIND == 2 or i == cold for i in ids), name


def test_fits_on_several_cuts_of_a_log_share_the_sources_that_follow_from_the_catalogue(tiny: PreparedData) -> None:
    vectors, shared = np.zeros((tiny.meta.num_items + 1, 4), np.float32), dict[str, Source]()
    logs = [EventLog.before(tiny, split) for split in (Split.VALIDATION, Split.TEST)]
    contexts = [FitContext(RetrievalConfig(), tiny, log, vectors, None, fitted=shared) for log in logs]
    earlier, later = (fit_sources(context) for context in contexts)
    assert [name for name in earlier if earlier[name] is later[name]] == list(shared) == ["lexical"]
    alone = fit_sources(FitContext(RetrievalConfig(), tiny, logs[1], vectors, None))
    assert alone["lexical"] is not later["lexical"]
