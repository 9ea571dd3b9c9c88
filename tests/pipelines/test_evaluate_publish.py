"""Evaluate, publish, compare and look after versions, over a tiny run; neither job needs Ray."""

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipelines import evaluate, models, publish
from pipelines.evaluate import EvaluateSummary
from tests import judged
from tests import tiny_bundle as bundles
from txrec.config import Config
from txrec.config_loader import with_overrides
from txrec.data.prepared import PreparedData
from txrec.errors import ConfigError, StageError
from txrec.evals import evaluation, report
from txrec.evals.bootstrap import Interval, Paired
from txrec.evals.evaluation import PromotionMetric, deciding
from txrec.evals.slice_warnings import SliceWarning
from txrec.recommender.recommender import Recommender
from txrec.registry.registry import Registry

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Config:
    """A run whose data and candidate are there and nothing else."""
    root = tmp_path_factory.mktemp("runs")
    config = with_overrides(bundles.CONFIG, {"runs_root": str(root), "evaluate.bootstrap": 50})
    shutil.copytree(tiny_bundle.parent / "data", config.data_dir)
    shutil.copytree(tiny_bundle, config.candidate_dir)
    return config


@pytest.fixture(scope="module")
def summary(config: Config) -> EvaluateSummary:
    return evaluate.run(config)


def shown(renderable: object) -> str:
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(renderable)
    return console.export_text()


def with_value(config: Config, root: Path, **fields: object) -> Config:
    """The same run elsewhere, with other settings."""
    moved = with_overrides(config, {"runs_root": str(root), **fields})
    shutil.copytree(config.run_dir, moved.run_dir, symlinks=True, dirs_exist_ok=True)
    return moved


def test_metrics_json_holds_the_recommender_beside_the_baselines(config: Config, summary: EvaluateSummary) -> None:
    figures = json.loads((config.reports_dir / "metrics.json").read_text())
    assert {"test", "retrieval", "baselines", "slices", "intervals", "comparisons", "requests"} <= set(figures)
    assert 0 < figures["test"]["ndcg@10"] <= 1
    assert figures["baselines"]["popularity"]["ndcg@10"] < figures["baselines"]["covisitation"]["ndcg@10"]


def test_the_summary_names_the_figure_its_interval_and_the_best_baseline(summary: EvaluateSummary) -> None:
    assert re.match(
        r"ndcg@10 [01]\.\d{4} \([01]\.\d{4} to [01]\.\d{4}\), best baseline covisitation [01]\.\d{4}",
        summary.headline(),
    )
    text = shown(summary.render())
    assert "txrec" in text
    assert "tail item" in text


def test_a_slice_behind_a_baseline_is_on_the_terminal_in_the_report_and_in_the_gates_record(
    config: Config, summary: EvaluateSummary, tmp_path: Path
) -> None:
    behind = SliceWarning("tail_item", "ndcg@10", 50, 0.1, "bm25", 0.3, Paired(Interval(-0.2, -0.3, -0.1), 0.001))
    figures = {**summary.figures, "behind_baselines": [behind.to_dict()]}
    assert "warning: tail item: ndcg@10 0.1000 behind bm25 0.3000" in shown(replace(summary, figures=figures).render())
    data, recommender = PreparedData.open(config.data_dir), Recommender.open(config.candidate_dir)
    measured = evaluation.evaluate(config, data, recommender)
    measured.figures["behind_baselines"] = figures["behind_baselines"]
    assert "tail item: ndcg@10 0.1000 behind bm25 0.3000" in report.page(config, measured)
    moved = with_value(config, tmp_path)
    file = moved.reports_dir / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"behind_baselines": figures["behind_baselines"]}))
    made = publish.run(moved)
    assert "behind a baseline in tail item" in made.headline()
    assert "tail item: ndcg@10 0.1000 behind bm25 0.3000" in shown(made.render())


def test_a_test_part_too_small_to_measure_by_is_on_the_terminal_and_in_the_report(
    config: Config, tmp_path: Path
) -> None:
    warning = "the test part holds events of 7 users; figures over fewer than 100 say little"
    moved = with_value(config, tmp_path)
    moved.reports_dir.mkdir(parents=True, exist_ok=True)
    (moved.reports_dir / "data.json").write_text(json.dumps({"warnings": [warning]}))
    summary = evaluate.run(moved)
    assert f"warning: {warning}" in shown(summary.render())
    assert warning in (moved.reports_dir / "report.html").read_text()
    assert json.loads((moved.reports_dir / "metrics.json").read_text())["data_warnings"] == [warning]


def test_every_case_is_kept_with_its_figures(config: Config, summary: EvaluateSummary) -> None:
    table = pq.read_table(config.reports_dir / "cases.parquet")
    assert table.num_rows == summary.figures["requests"]["num_cases"]
    assert sum(table["ndcg@10"].to_pylist()) / table.num_rows == pytest.approx(summary.figures["test"]["ndcg@10"])


def test_judged_pairs_come_first_and_the_rest_says_what_counts_as_wrong(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {
        "test": {"ndcg@10": 0.9336, "auc": 0.741},
        "baselines": {"bm25": {"ndcg@10": 0.9327, "auc": 0.6226}},
        "intervals": {"test": {"ndcg@10": {"mean": 0.9336, "low": 0.9291, "high": 0.938}}},
        "comparisons": {"bm25": {"p_value": 0.456}},
    }
    monkeypatch.setattr(evaluate, "judged", lambda *_: {"num_pairs": 14_564, "num_queries": 2_299, **figures})
    pairs = [{"path": "grades.csv", "columns": {"query": "q", "item_id": "i", "grade": "g"}}]
    graded = with_value(config, tmp_path, **{"data.judgments": pairs, "evaluate.bootstrap": 0})
    summary = evaluate.run(graded)
    start = "judged pairs 0.9336 (bm25 0.9327), ROC-AUC 0.7410 (bm25 0.6226); whole catalogue ndcg@10"
    assert summary.headline().startswith(start)
    text = shown(summary.render())
    assert "nobody judged counts as wrong" in text
    assert re.search(r"txrec +0.9336 +0.9291 to 0.9380 +0.7410", text)
    assert re.search(r"bm25 +0.9327 +0.6226 +0.456", text)
    page = (graded.reports_dir / "report.html").read_text()
    assert "14,564 pairs of 2,299 queries" in page
    assert page.index("0.9291 to 0.9380") < page.index("Beside the baselines")
    assert "decides whether a bundle is promoted" not in page  # there is a log: it decides
    assert "Judged pairs" not in (config.reports_dir / "report.html").read_text()


def test_the_page_fetches_nothing_and_runs_nothing(config: Config, summary: EvaluateSummary) -> None:
    page = (config.reports_dir / "report.html").read_text()
    assert len(page) < 5_000_000
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#)[^"]+', page)
    assert page.count("<svg") >= 5
    assert "what really followed" in page
    assert 'class="hit"' in page


def test_titles_of_the_shop_cannot_inject_markup(config: Config, summary: EvaluateSummary, tmp_path: Path) -> None:
    hostile = with_value(config, tmp_path)
    items = pq.read_table(hostile.data_dir / "items.parquet")
    titles = ["<script>alert(1)</script>"] * items.num_rows
    pq.write_table(
        items.set_column(items.schema.get_field_index("title"), "title", [titles]), hostile.data_dir / "items.parquet"
    )
    evaluate.run(with_overrides(hostile, {"evaluate.bootstrap": 0}))
    assert "<script" not in (hostile.reports_dir / "report.html").read_text()


def test_an_evaluation_needs_a_candidate(config: Config, tmp_path: Path) -> None:
    empty = with_overrides(config, {"runs_root": str(tmp_path)})
    shutil.copytree(config.data_dir, empty.data_dir)
    with pytest.raises(StageError, match="run `txrec train CONFIG` first"):
        evaluate.run(empty)


def test_a_bundle_compared_with_itself_differs_in_nothing(config: Config) -> None:
    found = evaluate.compare(config, "candidate", str(config.candidate_dir))
    assert found.figures[0] == found.figures[1]
    assert found.paired.p_value == 1
    assert "+0.0000" in found.headline()
    assert "difference" in shown(found.render())


def test_two_bundles_are_compared_slice_by_slice_each_with_its_own_figures(
    config: Config, summary: EvaluateSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, other = Recommender.open, tmp_path / "without-ranker"
    other.mkdir()

    def opened(path: Path) -> Recommender:
        recommender = real(config.candidate_dir)
        if path == other:
            recommender.ranker = None
        return recommender

    monkeypatch.setattr(evaluate, "Recommender", SimpleNamespace(open=opened))
    found = evaluate.compare(config, "candidate", str(other))
    assert found.figures[0]["ndcg@10"] == pytest.approx(summary.figures["test"]["ndcg@10"])
    assert found.figures[1]["ndcg@10"] == pytest.approx(summary.figures["retrieval"]["ndcg@10"])
    assert found.figures[0]["ndcg@10"] != found.figures[1]["ndcg@10"]
    parts = {part.name: part for part in found.slices}
    assert {"without_query", "head_item", "tail_item"} <= set(parts)
    unsearched = parts["without_query"]  # the last day of the tiny log has no searches
    assert unsearched.num_cases == found.num_cases
    assert [unsearched.first, unsearched.second] == pytest.approx([one["ndcg@10"] for one in found.figures])
    assert (
        parts["tail_item"].first != parts["tail_item"].second or parts["head_item"].first != parts["head_item"].second
    )
    assert "by slice" in shown(found.render())
    back = evaluate.compare(config, str(other), "candidate")
    assert back.figures == found.figures[::-1]
    assert [(part.second, part.first) for part in back.slices] == [(part.first, part.second) for part in found.slices]


def test_an_evaluation_compares_with_the_bundle_in_production_where_there_is_one(
    config: Config, summary: EvaluateSummary, tmp_path: Path
) -> None:
    assert "production" not in summary.figures
    run = with_value(config, tmp_path)
    publish.run(run)
    again = evaluate.run(run)
    assert again.figures["production"]["bundle"] == "v1"
    assert again.figures["production"]["ndcg@10"] == again.figures["test"]["ndcg@10"]  # it is the same bundle
    assert again.figures["comparisons"]["production"]["p_value"] == 1
    assert "production" not in again.figures["baselines"]
    assert "in production (v1)" in shown(again.render())
    assert "bundle in production" in (run.reports_dir / "report.html").read_text()
    (Registry(run.registry_dir).folder() / "items.parquet").unlink()
    damaged = evaluate.run(run)
    assert "production" not in damaged.figures
    assert "not compared with production" in shown(damaged.render())


def test_a_gate_needs_a_metric_with_a_figure_a_request(
    config: Config, summary: EvaluateSummary, tmp_path: Path
) -> None:
    run = with_value(config, tmp_path, **{"publish.metric": "auc"})
    with pytest.raises(ConfigError, match=r"publish\.metric = 'auc': not measured; expected one of hit_rate@1"):
        publish.run(run)


def test_a_version_in_production_that_cannot_be_opened_holds_nobody_back(
    config: Config, summary: EvaluateSummary, tmp_path: Path
) -> None:
    run = with_value(config, tmp_path)
    publish.run(run)
    (Registry(run.registry_dir).folder() / "items.parquet").unlink()
    decision = publish.run(run).decision
    assert re.match(
        r"promote v2: ndcg@10 [01]\.\d{4}, v1 in production cannot be opened, .*items\.parquet", str(decision)
    )
    assert Registry(run.registry_dir).production == "v2"


def test_publishing_promotes_the_first_and_then_what_is_not_worse(
    config: Config, summary: EvaluateSummary, tmp_path: Path
) -> None:
    run = with_value(config, tmp_path, **{"publish.smoke_queries": ("kettle", "tent")})
    first = publish.run(run)
    assert str(first.decision).startswith("promote v1: ndcg@10")
    second = publish.run(run)
    number = r"[01]\.\d{4}"
    told = f"{number} >= {number} required; 95 % interval {number} to {number}; best baseline covisitation {number}"
    assert re.fullmatch(f"promote v2: ndcg@10 {told}", second.headline())
    assert second.decision.interval.low <= second.decision.value <= second.decision.interval.high
    assert second.decision.over_production.p_value == 1
    over = second.decision.value - summary.figures["baselines"]["covisitation"]["ndcg@10"]
    assert second.decision.over_baseline.difference.mean == pytest.approx(over)
    assert "best baseline, covisitation" in shown(second.render())
    assert second.decision.production == "v1"
    assert second.decision.num_cases == summary.figures["requests"]["num_cases"]
    manifest = json.loads((run.registry_dir / "production" / "manifest.json").read_text())
    assert manifest["version"] == "v2"
    assert manifest["metrics"]["test"]["ndcg@10"] == pytest.approx(summary.figures["test"]["ndcg@10"])
    assert manifest["gate"]["required"] == pytest.approx((second.decision.production_value or 0) * 0.99)
    table = shown(models.models(run))
    assert "v2 production" in table
    assert f"{summary.figures['test']['mrr']:.4f}" in table
    assert "promote v2: ndcg@10" in table
    assert models.rollback(run) == "production: v2 -> v1"
    assert models.activate(run, "v2") == "production: v1 -> v2"


def test_a_worse_candidate_is_kept_out_unless_forced(
    config: Config, summary: EvaluateSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_value(config, tmp_path)
    publish.run(run)
    real = deciding

    def halved(config: Config, data: PreparedData, recommender: Recommender, *others: Any) -> PromotionMetric:
        """Halves the candidate's figures and leaves those of production as they are."""
        found = real(config, data, recommender, *others)
        share = 0.5 if recommender.bundle.path == run.candidate_dir else 1.0
        return replace(found, values=found.values * share)

    monkeypatch.setattr(publish, "deciding", halved)
    kept = publish.run(run)
    assert re.match(r"keep v1, not v2: ndcg@10 [01]\.\d{4} < [01]\.\d{4} required", str(kept.decision))
    assert Registry(run.registry_dir).production == "v1"
    forced = publish.run(run, force=True)
    assert str(forced.decision).startswith("promote v3 by force")
    assert Registry(run.registry_dir).versions()[2].manifest.gate["forced"] is True
    assert Registry(run.registry_dir).production == "v3"


def test_an_evaluation_of_another_candidate_is_not_published(
    config: Config, summary: EvaluateSummary, tmp_path: Path
) -> None:
    run = with_value(config, tmp_path)
    figures = json.loads((run.reports_dir / "metrics.json").read_text())
    figures["requests"]["bundle"] = "20200101T000000-00000000"
    (run.reports_dir / "metrics.json").write_text(json.dumps(figures))
    with pytest.raises(StageError, match="run `txrec evaluate CONFIG` again"):
        publish.run(run)


def test_where_there_is_no_log_judged_pairs_decide(tmp_path: Path) -> None:
    pairs = [{"path": "grades.csv", "columns": {"query": "q", "item_id": "i", "grade": "g"}}]
    fields = {
        "runs_root": str(tmp_path),
        "data.judgments": pairs,
        "evaluate.bootstrap": 50,
        "publish.metric": "precision@5",
    }
    run = with_overrides(judged.CONFIG, fields)
    run.data_dir.mkdir(parents=True)
    judged.judged_bundle(run.candidate_dir, judged.judged_data(run.data_dir))
    figures = evaluate.run(run).figures
    own, best = (part["ndcg@10"] for part in (figures["judged"]["test"], figures["judged"]["baselines"]["bm25"]))
    assert own > figures["test"]["precision@5"]
    assert "NDCG@10 within the judged pairs decides" in (run.reports_dir / "report.html").read_text()
    first, second = publish.run(run), publish.run(run)
    told = f"ndcg@10 of judged pairs {own:.4f}, nothing in production to compare with; 95 % interval"
    assert str(first.decision).startswith(f"promote v1: {told}")
    assert str(first.decision).endswith(f"best baseline bm25 {best:.4f}")
    assert second.decision.value == second.decision.production_value == pytest.approx(own)
    assert second.decision.over_baseline.difference.mean == pytest.approx(own - best)
    assert "ndcg@10 of judged pairs" in shown(models.models(run))
    again = evaluate.run(run)
    assert again.figures["judged"]["production"]["ndcg@10"] == pytest.approx(own)
    assert "bundle in production" in shown(again.render())
    compared = evaluate.compare(run, "v1", "candidate")
    assert compared.headline().startswith("ndcg@10 of judged pairs of v1 minus candidate: +0.0000")
    (run.reports_dir / "metrics.json").write_text(json.dumps({**again.figures, "judged": {}}))
    with pytest.raises(StageError, match="no judged pair lies in the test part"):
        publish.run(run)
