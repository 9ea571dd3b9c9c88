"""The future leaks into nothing: not into training rows, not into baselines, not into what is asked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests import tiny_bundle as bundles
from tests.txrec.data import workbench
from txrec.config import EvaluateConfig, ModelConfig, TrainConfig
from txrec.data.prepared import PreparedData
from txrec.evals import baselines, metrics
from txrec.evals.protocol import eval_requests
from txrec.index.rank_fusion import Fusion
from txrec.index.source import FitContext
from txrec.index.source_registry import fit_sources
from txrec.index.sources.popularity import Popularity
from txrec.index.training_log import EventLog
from txrec.model.history_features import History, collate
from txrec.recommender.catalogue import Catalogue
from txrec.recommender.ranking import ranking
from txrec.recommender.ranking.activity import Activity
from txrec.recommender.ranking.ranking_features import RankingFeatures
from txrec.recommender.recommender import Recommender
from txrec.recommender.retrieval.retriever import RetrievalQuery, Retriever
from txrec.schema import Split
from txrec.train.retrieval.examples import Examples

DAYS = 30
FUTURE_DAY = 16
"""The validation window begins on this day of the raw log, the test window a week later."""


def with_other_future(data: PreparedData, split: Split, seed: int = 5) -> PreparedData:
    """The same data set, but what users did from `split` on is shuffled among all of them."""
    events = data.sequences
    late = np.flatnonzero(events.split >= split)
    order = np.random.default_rng(seed).permutation(late)
    changed = {}
    for name in ("item_idx", "query_idx", "event", "value"):
        values = getattr(events, name).copy()
        values[late] = values[order]
        changed[name] = values
    return data.altered(sequences=replace(events, **changed))


def training_rows(data: PreparedData) -> list[NDArray[np.int64]]:
    """Everything that an epoch of training sees."""
    examples = Examples.of(data.sequences, None, ModelConfig(max_length=32), TrainConfig(batch_size=16))
    tensors = [
        getattr(step.batch, name)
        for step in examples.steps(0, 0)
        for name in ("item_idx", "query_idx", "event", "ts", "target")
    ]
    return [tensor.numpy() for tensor in tensors]


def test_shuffling_the_future_changes_no_training_row(tiny: PreparedData) -> None:
    ours, theirs = training_rows(tiny), training_rows(with_other_future(tiny, Split.VALIDATION))
    assert len(ours) == len(theirs)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def raw_log(seed: int | None) -> str:
    """A raw log whose future (items, queries and titles from FUTURE_DAY on) is shuffled by a seed; None = as it was.

    Some products, queries and titles are of the future only.
    """
    rng = np.random.default_rng(0)
    rows = []
    for day in range(1, DAYS + 1):
        for user in range(40):
            item = int(rng.integers(20 + 10 * (day > FUTURE_DAY)))
            query = f"thing {int(rng.integers(8 + 4 * (day > FUTURE_DAY)))}"
            title = f"product {item} of old" if day < FUTURE_DAY else f"product {item} reborn"
            rows.append((f"u{user}", f"2024-01-{day:02d} 10:00:{user % 60:02d}", f"i{item},click,{query},{title}"))
    late = [place for place, (_, time, _) in enumerate(rows) if time >= f"2024-01-{FUTURE_DAY:02d}"]
    order = late if seed is None else np.random.default_rng(seed).permutation(late)
    what = {place: rows[other][2] for place, other in zip(late, order, strict=True)}
    lines = [f"{user},{time},{what.get(place, own)}\n" for place, (user, time, own) in enumerate(rows)]
    return "user,time,item,kind,query,title\n" + "".join(lines)


def prepared(folder: Path, seed: int | None) -> PreparedData:
    workbench.write(folder, "events.csv", raw_log(seed))
    split = {"kind": "global_time", "test_days": 7, "validation_days": 7, "test_start": "2024-01-23"}
    data = {"events": [workbench.CLICKS], "items_from_events": {"title": "title"}}
    return workbench.prepared(folder, data, {"split": split})[1]


def test_shuffling_the_future_of_the_raw_log_changes_nothing_that_training_reads(tmp_path: Path) -> None:
    """From the raw file on: sequences, dense indices, counts, product text, tokenizer and training rows."""
    ours, theirs = prepared(tmp_path / "ours", None), prepared(tmp_path / "theirs", 5)
    assert not np.array_equal(ours.sequences.item_idx, theirs.sequences.item_idx)  # the future did change
    assert ours.meta.num_trained_items == theirs.meta.num_trained_items == 20
    trained = [data.items.slice(0, 20).to_pylist() for data in (ours, theirs)]
    assert trained[0] == trained[1]
    assert all("of old" in item["title"] for item in trained[0])
    known = [[row for row in data.queries.to_pylist() if row["train_count"]] for data in (ours, theirs)]
    assert known[0] == known[1]
    assert len(known[0]) == 8
    assert ours.tokenizer_path.read_bytes() == theirs.tokenizer_path.read_bytes()
    rows = [training_rows(data) for data in (ours, theirs)]
    assert len(rows[0]) == len(rows[1])
    assert all(np.array_equal(a, b) for a, b in zip(*rows, strict=True))


def test_shuffling_the_future_is_noticed_where_it_is_asked_for(tiny: PreparedData) -> None:
    settings = EvaluateConfig()
    ours = eval_requests(tiny, Split.TEST, settings)
    theirs = eval_requests(with_other_future(tiny, Split.TEST), Split.TEST, settings)
    assert not np.array_equal(ours.truth.items, theirs.truth.items)


def test_shuffling_the_test_window_changes_no_baseline(tiny: PreparedData) -> None:
    ours, theirs = (EventLog.before(data, Split.TEST) for data in (tiny, with_other_future(tiny, Split.TEST)))
    for name in ("user_idx", "item_idx", "query_idx", "kind", "ts"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))


def test_shuffling_what_comes_after_a_request_changes_no_model_input(tiny: PreparedData) -> None:
    settings, model = EvaluateConfig(), ModelConfig(max_length=32)
    asked = eval_requests(tiny, Split.TEST, settings)
    browsing = asked.select(np.flatnonzero(asked.query_idx == 0))
    changed = replace(browsing, events=_events(with_other_future(tiny, Split.TEST)))
    ours, theirs = (collate(part.histories(), None, model, part.query_idx, part.now_us) for part in (browsing, changed))
    assert torch.equal(ours.item_idx, theirs.item_idx)
    assert torch.equal(ours.ts, theirs.ts)


def test_a_planted_feature_of_the_future_is_caught(tiny: PreparedData) -> None:
    """A history that reaches one event too far holds the answer: the guard that every case passes must fail then."""
    honest = eval_requests(tiny, Split.TEST, EvaluateConfig())
    assert not any(reaches_into_truth(honest.histories(), honest.now_us))
    planted = replace(honest, end=honest.end + 1)
    assert all(reaches_into_truth(planted.histories(), honest.now_us))


def ranking_features(log: EventLog, data: PreparedData, recommender: Recommender) -> torch.Tensor:
    """Features of the candidates of the test requests without a search, with everything counted over `log`."""
    settings, vectors = bundles.CONFIG, recommender.retriever.dense.vectors
    sources = fit_sources(FitContext(settings.retrieval, data, log, vectors, recommender.ranking_features.item_text))
    activity = Activity.fit(log, data.meta.num_items, settings.retrieval.half_life_days)
    ranking_features = RankingFeatures(Catalogue(data.items), activity, vectors, None, sources)
    retriever = Retriever(recommender.bundle.model, recommender.retriever.query_encoder, sources, Fusion(), 30)
    asked = eval_requests(data, Split.TEST, settings.evaluate)
    browsing = asked.select(np.flatnonzero(asked.query_idx == 0)[:40])
    retrieval_queries = [
        RetrievalQuery(history, now_us=int(now))
        for history, now in zip(browsing.histories(), browsing.now_us, strict=True)
    ]
    return ranking.batch(retriever.retrieve(retrieval_queries), ranking_features, 30).features


def test_a_ranking_feature_of_the_future_is_caught(tiny_bundle: Path) -> None:
    """The check: features must stay as they are when the future is another one. What counts the future too fails it."""
    data = PreparedData.open(tiny_bundle.parent / "data")
    other, recommender = with_other_future(data, Split.TEST), Recommender.open(tiny_bundle)

    def changes(planted: bool) -> bool:
        logs = [
            EventLog.select(each, each.sequences.split >= Split.TRAIN) if planted else EventLog.before(each, Split.TEST)
            for each in (data, other)
        ]
        ours, theirs = (ranking_features(log, data, recommender) for log in logs)
        return not torch.equal(ours, theirs)

    assert not changes(planted=False)
    assert changes(planted=True)


def test_a_baseline_fitted_on_the_future_is_caught_by_its_impossible_figure(tiny: PreparedData) -> None:
    """Counting the test window too makes popularity better than popularity can be: this is how a leak looks."""
    asked = eval_requests(tiny, Split.TEST, EvaluateConfig())
    honest, leaking = (
        Popularity.fit(log, tiny.meta.num_items, baselines.RECENT_DAYS / 30)
        for log in (EventLog.before(tiny, Split.TEST), EventLog.select(tiny, tiny.sequences.split >= Split.TRAIN))
    )
    figures = []
    for popularity in (honest, leaking):
        top = popularity._order[None, :10].repeat(len(asked), axis=0)
        figures.append(metrics.means(metrics.per_case(top, asked.truth, (10,)))["ndcg@10"])
    assert figures[1] > figures[0]


def test_windows_of_time_do_not_overlap(tiny: PreparedData) -> None:
    events, meta = tiny.sequences, tiny.meta
    assert events.ts[events.split == Split.TRAIN].max() < meta.validation_start_ts
    assert events.ts[events.split == Split.VALIDATION].min() >= meta.validation_start_ts
    assert events.ts[events.split == Split.VALIDATION].max() < meta.test_start_ts
    assert events.ts[events.split == Split.TEST].min() >= meta.test_start_ts


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_no_request_is_made_after_its_own_answer(tiny: PreparedData, split: Split) -> None:
    asked = eval_requests(tiny, split, EvaluateConfig())
    events = tiny.sequences
    for case in range(len(asked)):
        own = slice(int(asked.end[case]), int(events.offsets[asked.user[case] + 1]))
        answered = events.ts[own][np.isin(events.item_idx[own], asked.truth.of(case))]
        assert len(answered)
        assert answered.min() >= asked.now_us[case]


def reaches_into_truth(histories: list, now_us: NDArray[np.int64]) -> list[bool]:
    """Whether each history holds an event that is not older than its request."""
    return [bool((history.ts >= now).any()) for history, now in zip(histories, now_us, strict=True)]


def _events(data: PreparedData) -> History:
    events = data.sequences
    return History(events.item_idx, events.query_idx, events.event, events.ts)
