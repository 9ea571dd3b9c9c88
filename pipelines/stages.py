"""The stages in order, and which of them are still valid: a stage is redone when its settings or its input changed."""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from rich.console import RenderableType

import txrec
from pipelines.runs import run_files
from pipelines.runs.stage_settings import settings_of
from txrec import object_storage
from txrec.config import Config, fingerprint
from txrec.progress import Progress, silent
from txrec.registry.registry import Registry
from txrec.storage import write_text


class Summary(Protocol):
    """Result of a stage, for the terminal."""

    def headline(self) -> str:
        """One line: the figures that matter most."""

    def render(self) -> RenderableType:
        """The whole of it, for a terminal."""


@dataclass(frozen=True)
class Stage:
    """One step from raw log to published bundle."""

    name: str
    title: str
    """A short sentence for people."""
    after: str | None
    """The stage whose result it reads."""
    is_there: Callable[[Config], bool]
    """True where its result exists."""
    makes_version: bool = False
    """True where each run makes a new version of the bundle, whatever its input: what was measured is another one."""

    def run(self, config: Config, progress: Progress = silent, **options: Any) -> Summary:
        """Runs the stage's Ray job; its module is imported only now."""
        module = importlib.import_module(f"pipelines.{self.name}")
        summary: Summary = module.run(config, progress, **options)
        return summary


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "prepare",
            "read, clean and split the log",
            None,
            lambda c: (c.data_dir / "meta.json").is_file(),
        ),
        Stage(
            "pretrain",
            "pre-train the text encoder",
            "prepare",
            lambda c: c.text.encoder == "none" or (c.checkpoints_dir / "text").is_dir(),
        ),
        Stage(
            "train",
            "train the recommender",
            "pretrain",
            lambda c: (c.candidate_dir / "manifest.json").is_file(),
            makes_version=True,
        ),
        Stage(
            "evaluate",
            "measure the candidate next to baselines",
            "train",
            lambda c: (c.reports_dir / "metrics.json").is_file(),
        ),
        Stage(
            "publish",
            "register the candidate and decide by the gate",
            "evaluate",
            lambda c: Registry(c.registry_dir).production is not None,
        ),
    )
}


def key(config: Config, stage: Stage) -> str:
    """Fingerprint of everything that a stage's result follows from: settings, input, version of txrec."""
    settings = settings_of(config, stage.name)
    if stage.after is None:
        from txrec.data.sources.sources import source_fingerprint

        synonyms = config.text.synonyms
        changed = synonyms.stat().st_mtime_ns if synonyms is not None and synonyms.is_file() else 0
        return fingerprint(txrec.__version__, settings, source_fingerprint(config.data), changed)
    return fingerprint(txrec.__version__, settings, key(config, STAGES[stage.after]))


@dataclass(frozen=True)
class Record:
    """A finished stage, as kept in the run's folder."""

    key: str
    headline: str
    seconds: float


def finished(config: Config, stage: Stage) -> Record | None:
    """The stage's record if its result is there and still valid."""
    record = _records(config).get(stage.name)
    if record is None or record.key != key(config, stage) or not stage.is_there(config):
        return None
    return record


def execute(config: Config, stage: Stage, progress: Progress = silent, **options: Any) -> tuple[Summary, Record]:
    """Runs a stage, with the options of its own `run`, and records it.

    Its old record goes first, so that an interrupted run is never taken for valid; where it makes a new version, the
    records of the stages after it go too.
    """
    names = list(STAGES)
    outdated = names[names.index(stage.name) :] if stage.makes_version else [stage.name]
    _save(config, {name: record for name, record in _records(config).items() if name not in outdated})
    object_storage.share(_file(config))
    started = monotonic()
    summary = stage.run(config, progress, **options)
    record = Record(key(config, stage), summary.headline(), monotonic() - started)
    _save(config, {**_records(config), stage.name: record})
    run_files.share(config)
    return summary, record


def _file(config: Config) -> Path:
    return config.run_dir / run_files.STAGES_FILE


def _records(config: Config) -> dict[str, Record]:
    if not _file(config).is_file():
        return {}
    return {name: Record(**record) for name, record in json.loads(_file(config).read_text(encoding="utf-8")).items()}


def _save(config: Config, records: dict[str, Record]) -> None:
    plain = {name: vars(record) for name, record in records.items()}
    write_text(_file(config), json.dumps(plain, indent=2))
