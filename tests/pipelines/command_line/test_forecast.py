"""Forecasts of the time of stages, from prepared data without Ray."""

from pathlib import Path

import pytest

from pipelines.command_line import forecast as module
from pipelines.command_line.forecast import START_S, forecast
from tests import tiny_bundle as bundles
from txrec.config import Config
from txrec.config_loader import with_overrides


@pytest.fixture
def config(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(module, "slowness", lambda: 1.0)
    monkeypatch.setattr(Config, "data_dir", property(lambda _: tiny_bundle.parent / "data"))
    return bundles.CONFIG


def seconds(config: Config, stage: str) -> float:
    likely = forecast(config, stage)
    assert likely is not None
    return likely - START_S


def test_training_is_forecast_by_its_epochs_and_examples(config: Config) -> None:
    once = seconds(with_overrides(config, {"train.max_epochs": 1, "ranker.mode": "off"}), "train")
    thrice = seconds(with_overrides(config, {"train.max_epochs": 3, "ranker.mode": "off"}), "train")
    assert once > 0
    assert thrice == pytest.approx(3 * once)
    assert seconds(with_overrides(config, {"train.max_epochs": 1, "ranker.mode": "on"}), "train") > once


def test_pretraining_is_forecast_by_its_steps_and_their_limit(config: Config) -> None:
    once, twice, endless = (
        seconds(with_overrides(config, {"pretrain.contrastive_epochs": epochs}), "pretrain") for epochs in (1, 2, 999)
    )
    assert twice == pytest.approx(2 * once)
    limited = with_overrides(config, {"pretrain.contrastive_epochs": 999, "pretrain.max_steps": 1})
    assert 0 < seconds(limited, "pretrain") < endless


def test_evaluation_is_forecast_by_its_requests(config: Config) -> None:
    whole = seconds(with_overrides(config, {"evaluate.max_cases": 0}), "evaluate")
    assert 0 < seconds(with_overrides(config, {"evaluate.max_cases": 10}), "evaluate") < whole


def test_preparation_is_forecast_by_the_size_of_the_files(tmp_path: Path, config: Config) -> None:
    log = tmp_path / "clicks.csv"
    log.write_text("user_id,item_id\n" + "a,1\n" * 1_000)
    shop = Config.model_validate(
        {"name": "shop", "data": {"root": str(tmp_path), "events": [{"path": "clicks.csv"}]}},
    )
    small = seconds(shop, "prepare")
    log.write_text("user_id,item_id\n" + "a,1\n" * 10_000)
    assert seconds(shop, "prepare") == pytest.approx(10 * small, rel=0.01)


def test_a_slower_machine_takes_longer(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    here = seconds(config, "train")
    monkeypatch.setattr(module, "slowness", lambda: 2.0)
    assert seconds(config, "train") == pytest.approx(2 * here)


def test_the_time_of_publishing_and_of_foreign_encoders_is_not_forecast(config: Config) -> None:
    assert forecast(config, "publish") is None
    assert forecast(with_overrides(config, {"text.encoder": "none"}), "pretrain") is None
