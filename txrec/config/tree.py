"""The whole configuration, and its fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, model_validator

from txrec import object_storage
from txrec.config.closed_loop import ExperimentsConfig, LoopConfig
from txrec.config.evaluating import EvaluateConfig, ExposureConfig, PublishConfig
from txrec.config.files import DataConfig
from txrec.config.preparing import ChecksConfig, PrepareConfig
from txrec.config.section import CHECKPOINT, FINE_TUNING_LR, Section
from txrec.config.serving import SampleConfig, ServeConfig
from txrec.config.training import (
    ModelConfig,
    ObjectiveConfig,
    PretrainConfig,
    RankerConfig,
    RetrievalConfig,
    TextConfig,
    TrainConfig,
    TuneConfig,
)


class Config(Section):
    """The whole tree."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run: its files live in `runs_root/name`."""
    runs_root: str = "runs"
    """Folder of all runs: a local path, or `s3://`, `gs://` or `az://` with a bucket."""
    seed: int = 0
    """Seed of everything random."""
    data: DataConfig = DataConfig()
    """Places of the raw tables."""
    prepare: PrepareConfig = PrepareConfig()
    """Reading, cleaning, splitting."""
    text: TextConfig = TextConfig()
    """Tokenizer and text encoder."""
    model: ModelConfig = ModelConfig()
    """Item encoder, history decoder, retrieval head."""
    pretrain: PretrainConfig = PretrainConfig()
    """Text pre-training."""
    train: TrainConfig = TrainConfig()
    """Training of the history model."""
    ranker: RankerConfig = RankerConfig()
    """The ranker."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """Worth of clicks, carts and purchases by which slates are ordered, unless a placement or a request says another;
    e.g. {click = 0.1, purchase = 1, revenue = 0.02}."""
    retrieval: RetrievalConfig = RetrievalConfig()
    """Candidate sources."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Measuring."""
    publish: PublishConfig = PublishConfig()
    """The promotion gate."""
    serve: ServeConfig = ServeConfig()
    """The HTTP application."""
    sample: SampleConfig = SampleConfig()
    """The demonstration's request."""
    tune: TuneConfig = TuneConfig()
    """Hyperparameter search."""
    checks: ChecksConfig = ChecksConfig()
    """Comparison of a preparation with the last one."""
    experiments: ExperimentsConfig = ExperimentsConfig()
    """Experiments on served traffic."""
    exposure: ExposureConfig = ExposureConfig()
    """Exposure of product groups."""
    loop: LoopConfig = LoopConfig()
    """Retraining of a served shop."""

    @model_validator(mode="before")
    @classmethod
    def _default_finetuning_lr(cls, tree: Any) -> Any:
        text, pretrain = (tree.get(name, {}) for name in ("text", "pretrain"))
        if not (isinstance(text, Mapping) and isinstance(pretrain, Mapping)):
            return tree
        if not str(text.get("encoder", "")).startswith(CHECKPOINT):
            return tree
        return {**tree, "pretrain": {"lr": FINE_TUNING_LR, **pretrain}}

    @property
    def run_dir(self) -> Path:
        """Folder of this run's files on this machine; of a run in object storage, its working copy."""
        return object_storage.local_path(self.runs_root) / self.name

    @property
    def data_dir(self) -> Path:
        """Prepared tables, written by `prepare`."""
        return self.run_dir / "data"

    @property
    def checkpoints_dir(self) -> Path:
        """`text/`, `history/`, `ranker/` checkpoints."""
        return self.run_dir / "checkpoints"

    @property
    def candidate_dir(self) -> Path:
        """The complete but unpublished bundle that `train` writes, `evaluate` measures and `publish` registers."""
        return self.run_dir / "candidate"

    @property
    def reports_dir(self) -> Path:
        """metrics.json, data.json, report.html ..."""
        return self.run_dir / "reports"

    @property
    def registry_dir(self) -> Path:
        """Published versions and the production pointer."""
        return self.run_dir / "registry"


def fingerprint(*parts: Any) -> str:
    """Sixteen hex digits that change whenever one of the parts (sections, dicts, strings) changes."""
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
