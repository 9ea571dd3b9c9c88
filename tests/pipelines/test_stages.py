"""Which stages are still valid: decided from settings, input and output, without Ray."""

import os
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.text import Text

import txrec
from pipelines import stages
from pipelines.runs import stage_settings
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


_RESULTS = {
    "prepare": "data/meta.json",
    "pretrain": "checkpoints/text",
    "train": "candidate/manifest.json",
    "evaluate": "reports/metrics.json",
    "publish": "registry/production",
}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that ran; each only touches its output."""
    names: list[str] = []

    def run(stage: stages.Stage, config: Config, progress: Progress) -> _Done:
        names.append(stage.name)
        result = config.run_dir / _RESULTS[stage.name]
        result.parent.mkdir(parents=True, exist_ok=True)
        if stage.name == "publish":
            result.unlink(missing_ok=True)
            result.symlink_to("v1")
        elif result.suffix:
            result.touch()
        else:
            result.mkdir(exist_ok=True)
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


def test_a_bundle_that_is_trained_again_is_measured_again(config: Config, ran: list[str]) -> None:
    _execute_all(config)
    stages.execute(config, stages.STAGES["train"])
    assert _valid(config) == ["prepare", "pretrain", "train"]


def test_tables_that_are_prepared_again_alike_leave_the_later_stages_valid(config: Config, ran: list[str]) -> None:
    _execute_all(config)
    stages.execute(config, stages.STAGES["prepare"])
    assert _valid(config) == ["prepare", "pretrain", "train", "evaluate", "publish"]


def test_an_interrupted_stage_is_not_taken_for_finished(
    config: Config, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _execute_all(config)

    def interrupted(*_: object) -> _Done:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages.Stage, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stages.execute(config, stages.STAGES["train"])
    assert "train" not in _valid(config)


def test_every_field_of_the_configuration_has_a_row_and_every_row_a_field() -> None:
    assert stage_settings.fields_without_row() == []
    assert stage_settings.rows_without_field() == []


def test_a_new_field_without_a_row_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {field: first for field, first in stage_settings.FIRST_STAGE.items() if field != "train.lr"}
    monkeypatch.setattr(stage_settings, "FIRST_STAGE", {**rows, "train.old": "train"})
    assert stage_settings.fields_without_row() == ["train.lr"]
    assert stage_settings.rows_without_field() == ["train.old"]


CHANGED = {
    "evaluate.bootstrap": (77, ["prepare", "pretrain", "train"]),
    "evaluate.ks": ((1, 10), ["prepare", "pretrain", "train"]),
    "evaluate.target_events": (("click",), ["prepare", "pretrain"]),
    "train.mlflow_uri": ("file:///elsewhere", ["prepare", "pretrain", "train", "evaluate", "publish"]),
    "train.max_failures": (9, ["prepare", "pretrain", "train", "evaluate", "publish"]),
    "train.lr": (0.5, ["prepare", "pretrain"]),
    "model.dim": (128, ["prepare", "pretrain"]),
    "text.dim": (64, ["prepare"]),
    "text.vocab_size": (500, []),
    "publish.margin": (0.5, ["prepare", "pretrain", "train", "evaluate"]),
    "publish.metric": ("mrr", ["prepare", "pretrain", "train"]),
    "seed": (5, ["prepare"]),
    "serve.port": (9, ["prepare", "pretrain", "train", "evaluate", "publish"]),
}


@pytest.mark.parametrize("field", CHANGED)
def test_a_changed_setting_outdates_the_first_stage_that_reads_it_and_those_after(
    field: str, config: Config, ran: list[str]
) -> None:
    value, valid = CHANGED[field]
    _execute_all(config)
    assert _valid(with_overrides(config, {field: value})) == valid


def test_a_run_that_moved_with_its_files_is_still_valid(config: Config, ran: list[str], tmp_path: Path) -> None:
    _execute_all(config)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("raw", "runs"):
        (tmp_path / name).rename(moved / name)
    places = {"data.root": str(moved / "raw"), "runs_root": str(moved / "runs")}
    assert _valid(with_overrides(config, places)) == ran


def test_another_version_of_the_program_invalidates_everything(
    config: Config, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _execute_all(config)
    keys = {stage.name: stages.key(config, stage) for stage in stages.STAGES.values()}
    monkeypatch.setattr(txrec, "__version__", "99.0")
    assert _valid(config) == []
    assert all(stages.key(config, stage) != keys[stage.name] for stage in stages.STAGES.values())


def test_a_later_stage_depends_on_the_version_by_itself(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stages.key(config, stages.STAGES["pretrain"])
    earlier = stages.key(config, stages.STAGES["prepare"])
    real = stages.key
    monkeypatch.setattr(stages, "key", lambda config, stage: earlier)  # the stage before it stays as it is
    monkeypatch.setattr(txrec, "__version__", "99.0")
    assert real(config, stages.STAGES["pretrain"]) != before


def test_a_changed_file_of_synonyms_invalidates_everything(config: Config, ran: list[str], tmp_path: Path) -> None:
    synonyms = tmp_path / "synonyms.csv"
    with_synonyms = with_overrides(config, {"text.synonyms": str(synonyms)})
    assert _valid(with_synonyms) == []  # not there yet
    _execute_all(with_synonyms)
    assert _valid(with_synonyms) == ran
    synonyms.write_text("sofa,couch\n")
    assert _valid(with_synonyms) == []
    _execute_all(with_synonyms)
    assert len(_valid(with_synonyms)) == 5
    os.utime(synonyms, ns=(5, 5))
    assert _valid(with_synonyms) == []


def test_a_stage_runs_the_function_of_its_module_with_everything_that_it_is_given(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []

    def run(*arguments: object, **options: object) -> _Done:
        calls.append((*arguments, options))
        return _Done()

    module = types.ModuleType("pipelines.pretrain")
    vars(module)["run"] = run
    monkeypatch.setitem(sys.modules, "pipelines.pretrain", module)

    def progress(phase: str, step: int, total: int | None, **figures: float) -> None:
        raise AssertionError("nothing to show")

    summary, record = stages.execute(config, stages.STAGES["pretrain"], progress, force=True)
    assert summary == _Done()
    assert calls == [(config, progress, {"force": True})]
    assert record.headline == "done"


def test_a_record_holds_headline_and_seconds_and_is_read_back(
    config: Config, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((100.0, 107.5))
    monkeypatch.setattr(stages, "monotonic", lambda: next(clock))
    _, record = stages.execute(config, stages.STAGES["prepare"])
    assert (record.headline, record.seconds) == ("done", 7.5)
    assert stages.finished(config, stages.STAGES["prepare"]) == record


def test_records_that_were_cut_short_are_never_left(config: Config, ran: list[str]) -> None:
    stages.execute(config, stages.STAGES["prepare"])
    beside = [path.name for path in config.run_dir.iterdir() if "stages.json" in path.name]
    assert beside == ["stages.json"]
