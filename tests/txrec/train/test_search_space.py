"""The search space, the record of a search and the files it leaves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from txrec.config import Config, TuneConfig
from txrec.config_loader import load
from txrec.errors import ConfigError, TrainingError
from txrec.train import search_space
from txrec.train.search_space import Dimension, Search, Trial


def _config(space: dict[str, dict[str, Any]], search: str = "optuna") -> Config:
    return Config(name="shop", seed=3, tune=TuneConfig.model_validate({"space": space, "search": search}))


def _search() -> Search:
    dimensions = (
        Dimension("train.lr", "loguniform", (1e-4, 1e-2)),
        Dimension("model.dim", "choice", (32, 64)),
        Dimension("train.target_events", "choice", (["click"], ["click", "purchase"])),
    )
    trials = [
        Trial(
            f"t{i}",
            {"train.lr": 10 ** (-4 + i / 4), "model.dim": 32 + 32 * (i % 2), "train.target_events": ["click"]},
            "finished" if i % 3 else "stopped",
            score=0.1 + 0.02 * i,
            epochs=i,
            seconds=1.5,
        )
        for i in range(8)
    ]
    params = {"train.lr": 1e-2, "model.dim": 64, "train.target_events": ["click", "purchase"]}
    failed = Trial("t8", params, "failed", error="ConfigError: <dim> is odd")
    return Search("ndcg@10", dimensions, (*trials, failed))


def test_every_kind_of_range_is_understood() -> None:
    dimensions = search_space.space(
        _config(
            {
                "train.lr": {"loguniform": [1e-4, 1e-2]},
                "model.dropout": {"uniform": [0.0, 0.5]},
                "model.num_layers": {"randint": [1, 4]},
                "train.loss": {"choice": ["full", "sampled"]},
            }
        )
    )
    assert [(d.key, d.kind, d.values) for d in dimensions] == [
        ("train.lr", "loguniform", (1e-4, 1e-2)),
        ("model.dropout", "uniform", (0.0, 0.5)),
        ("model.num_layers", "randint", (1, 4)),
        ("train.loss", "choice", ("full", "sampled")),
    ]


@pytest.mark.parametrize(
    ("space", "search", "message"),
    [
        ({}, "optuna", "tune.space is empty"),
        ({"train.lrr": {"choice": [1]}}, "optuna", "did you mean train.lr"),
        ({"train": {"choice": [{"lr": 1e-3}]}}, "optuna", "train.* is a section"),
        ({"train.lr": {"normal": [0, 1]}}, "optuna", "expected one of loguniform"),
        ({"train.lr": {"uniform": [1e-2, 1e-4]}}, "optuna", "low < high"),
        ({"train.lr": {"loguniform": [0, 1]}}, "optuna", "above 0"),
        ({"train.lr": {"choice": 3}}, "optuna", "expected a list"),
        ({"train.lr": {"grid": [1e-3]}}, "optuna", 'goes with tune.search = "grid"'),
        ({"train.lr": {"uniform": [1e-4, 1e-2]}}, "grid", "needs grid or choice"),
        ({"prepare.min_user_events": {"choice": [1, 2]}}, "optuna", "no influence on a trial"),
        ({"text.vocab_size": {"choice": [500]}}, "optuna", "fitted by prepare"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_before_any_work(
    space: dict[str, dict[str, Any]], search: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        search_space.space(_config(space, search))


def test_the_best_configuration_is_toml_that_loads_as_the_trial_was(tmp_path: Path) -> None:
    config = _config({"train.lr": {"loguniform": [1e-4, 1e-2]}})
    search_space.write_best(_search(), config, tmp_path / "best.toml")
    best = load(tmp_path / "best.toml")
    assert best.name == "shop"
    assert best.seed == 3
    assert best.train.lr == pytest.approx(10 ** (-4 + 7 / 4))
    assert best.model.dim == 64
    assert best.train.target_events == ("click",)
    assert best.tune.space == {}
    assert "validation ndcg@10 0.2400" in (tmp_path / "best.toml").read_text()


def test_the_configuration_as_it_stands_is_the_one_to_beat_where_the_space_includes_it() -> None:
    inside = _config({"train.lr": {"loguniform": [1e-4, 1e-2]}, "model.num_layers": {"choice": [1, 2, 3]}})
    own = search_space.own_values(inside, search_space.space(inside))
    assert own == {"train.lr": 2e-3, "model.num_layers": 2}
    outside = _config({"train.lr": {"loguniform": [1e-4, 1e-3]}, "model.num_layers": {"choice": [1, 2, 3]}})
    assert search_space.own_values(outside, search_space.space(outside)) == {}
    trials = (Trial("a", {**own, "train.lr": 1e-3}, "finished", 0.2), Trial("b", dict(own), "finished", 0.1))
    assert Search("ndcg@10", (), trials, own).as_configured is trials[1]
    assert Search("ndcg@10", (), trials).as_configured is None


def test_what_was_configured_is_said_beside_what_was_found(tmp_path: Path) -> None:
    search = _search()
    search = replace(search, own=search.trials[2].params)
    search_space.write(search, _config({}), tmp_path)
    assert "as configured 0.1400" in (tmp_path / "best.toml").read_text()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "the configuration as it stood 0.1400" in page
    assert page.count("<td>as configured</td>") == 1


def test_every_shipped_configuration_survives_being_written(tmp_path: Path) -> None:
    search = Search("ndcg@10", (Dimension("train.lr", "choice", (1e-3,)),), (Trial("a", {}, "finished", 0.5),))
    for file in sorted((Path(__file__).parents[2] / "configs").glob("*.toml")):
        config = load(file)
        search_space.write_best(search, config, tmp_path / file.name)
        assert load(tmp_path / file.name) == config.model_copy(update={"tune": TuneConfig()}), file.name


def test_every_trial_is_a_row_of_the_table(tmp_path: Path) -> None:
    search = _search()
    search_space.write_trials(search, tmp_path / "trials.parquet")
    rows = pq.read_table(tmp_path / "trials.parquet").to_pylist()
    assert len(rows) == 9
    assert rows[7]["ndcg@10"] == pytest.approx(0.24)
    assert rows[8] == {
        "trial_id": "t8",
        "state": "failed",
        "ndcg@10": None,
        "epochs": 0,
        "seconds": 0.0,
        "error": "ConfigError: <dim> is odd",
        "train.lr": 1e-2,
        "model.dim": 64,
        "train.target_events": '["click", "purchase"]',
    }


def test_importance_goes_to_what_moves_the_score() -> None:
    weights = search_space.importance(_search())
    assert sum(weights.values()) == pytest.approx(1.0)
    assert max(weights, key=lambda key: weights[key]) == "train.lr"
    assert search_space.importance(Search("ndcg@10", _search().dimensions, _search().trials[:3])) == {}


def test_the_page_needs_no_network_and_names_failed_trials(tmp_path: Path) -> None:
    search_space.write_report(_search(), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "parcoords" in page
    assert "Importance (PED-ANOVA)" in page
    assert "ConfigError: &lt;dim&gt; is odd" in page
    assert "<script src=" not in page
    assert 'rel="stylesheet"' not in page


def test_a_search_in_which_everything_failed_says_why() -> None:
    search = Search("ndcg@10", (), (Trial("a", {"model.dim": 3}, "failed", error="ConfigError: model.dim = 3"),))
    with pytest.raises(TrainingError, match=r"none of 1 trials.*model\.dim = 3"):
        _ = search.best
