"""A bundle measured: through the serving code, on every case, with slices that add up."""

from pathlib import Path

import numpy as np
import pytest

from tests import tiny_bundle as bundles
from txrec.config import EvaluateConfig
from txrec.config_loader import with_overrides
from txrec.data.prepared import PreparedData
from txrec.errors import ConfigError
from txrec.evals import answering
from txrec.evals.evaluation import Evaluation, behind_baselines, evaluate
from txrec.evals.slice_warnings import MIN_CASES
from txrec.evals.slices import slices
from txrec.recommender.recommender import Event, Recommender, Request
from txrec.schema import EventKind, Split

CONFIG = with_overrides(bundles.CONFIG, {"evaluate.bootstrap": 50, "evaluate.ks": (1, 10)})


@pytest.fixture(scope="module")
def data(tiny_bundle: Path) -> PreparedData:
    return PreparedData.open(tiny_bundle.parent / "data")


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


@pytest.fixture(scope="module")
def found(data: PreparedData, recommender: Recommender) -> Evaluation:
    return evaluate(CONFIG, data, recommender)


def test_every_case_has_an_answer_and_every_system_every_figure(found: Evaluation) -> None:
    assert (found.lists.ranked > 0).all()
    assert {"popularity", "covisitation", "ease"} <= set(found.figures["baselines"])
    for figures in (found.figures["test"], found.figures["retrieval"], *found.figures["baselines"].values()):
        assert {"ndcg@10", "recall@10", "precision@10", "hit_rate@1", "mrr", "map"} <= set(figures)
    together = {"auc", "auc_per_user", "log_loss", "calibration_error", "coverage@10", "gini@10", "novelty@10"}
    assert together | {"popularity_bias@10", "intra_list_diversity@10"} <= set(found.figures["test"])


def test_a_list_is_what_a_request_over_the_same_events_is_answered_with(
    found: Evaluation, data: PreparedData, recommender: Recommender
) -> None:
    keys, texts = data.items.column("item_id").to_pylist(), answering.query_texts(data)
    for case in (0, 7, 100):
        history = found.cases.history(case)
        columns = (history.item_idx, history.query_idx, history.event, history.ts)
        events = tuple(
            Event(EventKind(int(kind)).label, keys[item - 1] if item else None, texts[query] or None, int(ts))
            for item, query, kind, ts in zip(*columns, strict=True)
        )
        query = texts[found.cases.query_idx[case]] or None
        request = Request(events=events, query=query, top_k=10, now_us=int(found.cases.now_us[case]))
        online = [item.item_id for item in recommender.recommend([request])[0].items]
        assert [keys[item - 1] for item in found.lists.ranked[case]] == online


def test_a_bundle_of_other_data_is_asked_in_raw_ids_with_the_same_answers(
    found: Evaluation, data: PreparedData, recommender: Recommender
) -> None:
    renamed = PreparedData(data.path, data.meta.model_copy(update={"fingerprint": "other"}))
    rows = np.arange(40)
    again = answering.ask(recommender, renamed, found.cases.select(rows), 10)
    assert (again.ranked == found.lists.ranked[:40]).all()
    assert (again.retrieved == found.lists.retrieved[:40]).all()


def test_intervals_hold_their_means_and_comparisons_name_every_other_system(found: Evaluation) -> None:
    for name, interval in found.figures["intervals"]["test"].items():
        assert interval["low"] - 1e-12 <= interval["mean"] <= interval["high"] + 1e-12
        assert interval["mean"] == pytest.approx(found.figures["test"][name])
    assert set(found.figures["comparisons"]) == {"retrieval", *found.figures["baselines"]}


def test_slices_of_requests_and_of_items_each_cover_everything_once(found: Evaluation, data: PreparedData) -> None:
    parts = {part.name: part for part in slices(data, found.cases)}
    asked = [len(parts[name].rows) for name in ("with_query", "without_query") if name in parts]
    assert sum(asked) == len(found.cases)
    lengths = [len(part.rows) for name, part in parts.items() if name.startswith("history") or name == "new_user"]
    assert sum(lengths) == len(found.cases)
    kinds = [len(part.truth.items) for name, part in parts.items() if name.endswith("_item")]
    assert sum(kinds) == len(found.cases.truth.items)


def test_every_slice_behind_its_best_baseline_is_warned_of_and_no_other(found: Evaluation) -> None:
    metric, behind = found.metric, set()
    for name, part in found.figures["slices"].items():
        best = max(values[metric] for values in part["baselines"].values())
        if part["num_cases"] >= MIN_CASES and part["test"][metric] < best:
            behind.add(name)
    assert {one["slice"] for one in found.figures["behind_baselines"]} == behind


def test_a_recommender_that_finds_nothing_is_behind_wherever_a_baseline_finds_something(found: Evaluation) -> None:
    nothing = {**found.systems, "test": np.zeros_like(found.systems["test"])}
    warned = behind_baselines(CONFIG, found.data, found.cases, nothing)
    assert {one.slice for one in warned} >= {"without_query", "head_item"}
    assert all(one.value == 0.0 and one.baseline_value > 0.0 for one in warned)


def test_a_slice_of_items_counts_only_its_own_items_as_right(found: Evaluation, data: PreparedData) -> None:
    count = np.append(0, np.asarray(data.items.column("train_count")))
    parts = {part.name: part for part in slices(data, found.cases)}
    assert count[parts["head_item"].truth.items].min() >= count[parts["tail_item"].truth.items].max()


def test_an_unknown_deciding_metric_is_named_with_those_that_exist(
    data: PreparedData, recommender: Recommender
) -> None:
    wrong = with_overrides(CONFIG, {"publish.metric": "ndgc@10"})
    with pytest.raises(ConfigError, match=r"publish.metric = 'ndgc@10': not measured; expected one of .*ndcg@10"):
        evaluate(wrong, data, recommender)


def test_validation_is_measured_on_its_own_cases(data: PreparedData, recommender: Recommender) -> None:
    config = with_overrides(CONFIG, {"evaluate": EvaluateConfig(bootstrap=0, max_cases=20, ks=(10,)).model_dump()})
    found = evaluate(config, data, recommender, Split.VALIDATION)
    assert found.figures["requests"]["split"] == "validation"
    assert found.figures["requests"]["sampled"]
    assert len(found.cases) == 20
    assert found.figures["intervals"] == {}
