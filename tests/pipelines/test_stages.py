"""Which stages are still valid: decided from settings, input and output, without Ray."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.text import Text

from pipelines import stages
from txrec.config import Config
from txrec.config_loader import with_overrides
from txrec.progress import Progress


@dataclass(frozen=True)
class _Done:
    def headline(self) -> str:
        return "done"

    def render(self) -> Text:
        return Text("done")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "clicks.csv").write_text("user_id,item_id\na,1\n")
    return Config.model_validate(
        {
            "name": "shop",
            "runs_root": str(tmp_path / "runs"),
            "data": {"root": str(tmp_path / "raw"), "events": [{"path": "clicks.csv"}]},
        }
    )


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that ran; each only touches its output."""
    names: list[str] = []

    def run(stage: stages.Stage, config: Config, progress: Progress) -> _Done:
        names.append(stage.name)
        stage.output(config).parent.mkdir(parents=True, exist_ok=True)
        stage.output(config).touch()
        return _Done()

    monkeypatch.setattr(stages.Stage, "run", run)
    return names


def _execute_all(config: Config) -> None:
    for stage in stages.STAGES.values():
        stages.execute(config, stage)


def _valid(config: Config) -> list[str]:
    return [stage.name for stage in stages.STAGES.values() if stages.finished(config, stage)]


def test_nothing_is_valid_before_anything_ran(config: Config) -> None:
    assert _valid(config) == []


def test_every_stage_is_valid_after_a_whole_run(config: Config, ran: list[str]) -> None:
    _execute_all(config)
    assert ran == ["prepare", "pretrain", "train", "evaluate", "publish"]
    assert _valid(config) == ran


def test_a_setting_invalidates_its_stage_and_those_after_it(config: Config, ran: list[str]) -> None:
    _execute_all(config)
    changed = with_overrides(config, {"train.lr": 0.5})
    assert _valid(changed) == ["prepare", "pretrain"]


def test_a_changed_source_file_invalidates_everything(config: Config, ran: list[str]) -> None:
    _execute_all(config)
    (Path(config.data.root) / "clicks.csv").write_text("user_id,item_id\na,1\nb,2\n")
    assert _valid(config) == []


def test_a_missing_output_invalidates_its_stage(config: Config, ran: list[str]) -> None:
    _execute_all(config)
    (config.candidate_dir / "manifest.json").unlink()
    assert "train" not in _valid(config)


def test_an_interrupted_stage_is_not_taken_for_finished(config: Config, ran: list[str], monkeypatch) -> None:
    _execute_all(config)

    def interrupted(*_: object) -> _Done:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages.Stage, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stages.execute(config, stages.STAGES["train"])
    assert "train" not in _valid(config)
