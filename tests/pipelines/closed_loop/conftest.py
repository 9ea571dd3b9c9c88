"""A tiny run with a version in production, as `txrec loop` finds it."""

import shutil
from pathlib import Path

import pytest

from pipelines import evaluate
from tests import tiny_bundle as bundles
from txrec.config import Config
from txrec.config_loader import with_overrides
from txrec.online.sqlite_history import SqliteHistory
from txrec.registry.gate import Decision
from txrec.registry.registry import Registry


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Config:
    """A run whose candidate has been evaluated, and which is v1 in production."""
    root = tmp_path_factory.mktemp("runs")
    config = with_overrides(bundles.CONFIG, {"runs_root": str(root), "evaluate.bootstrap": 20})
    shutil.copytree(tiny_bundle.parent / "data", config.data_dir)
    shutil.copytree(tiny_bundle, config.candidate_dir)
    evaluate.run(config)
    registry = Registry(config.registry_dir)
    with registry.locked() as version:
        registry.add(config.candidate_dir, {}, Decision(version, "ndcg@10", 0.2, 0.0, 10))
    return config


@pytest.fixture
def config(evaluated: Config, tmp_path: Path) -> Config:
    moved = with_overrides(
        evaluated,
        {
            "runs_root": str(tmp_path),
            "serve.state": str(tmp_path / "history.sqlite"),
            "experiments.min_users": 20,
            "experiments.expected_users": 100,
            "experiments.past_h": 0,
            "experiments.primary.window_h": 1,
            "loop.canary_share": 0.5,
            "loop.keep_versions": 2,
        },
    )
    shutil.copytree(evaluated.run_dir, moved.run_dir, symlinks=True)
    SqliteHistory(tmp_path / "history.sqlite").close()
    return moved
