"""The one configuration tree, shared by TOML files, the command line, Ray Train, Ray Tune and Serve.

Everything is frozen and unknown keys are errors. A component receives its own section (`HistoryDecoder(cfg.model)`),
never copied fields. `load` reads a TOML file, lays dotted overrides over it and names file, key and value when one of
them cannot be used.

section.py           base of every section of the configuration
files.py             configuration of a shop's files: sources, columns, times, joins and rules
preparing.py         configuration of the preparation: cleaning, split, and checks against the last one
training.py          configuration of models and their training, retrieval included, and of the search of settings
evaluating.py        configuration of evaluation, exposure and the promotion gate
serving.py           configuration of the server: exploration, monitoring, resources, sample request
closed_loop.py       configuration of experiments and of the loop that retrains
tree.py              the whole configuration, and its fingerprint
"""

from txrec.config.closed_loop import (
    DecisionConfig,
    ExperimentConfig,
    ExperimentsConfig,
    FigureConfig,
    FigureName,
    LoopConfig,
    RampConfig,
    VariantConfig,
)
from txrec.config.evaluating import EvaluateConfig, ExposureConfig, ExposureLimit, PublishConfig
from txrec.config.files import (
    DataConfig,
    JoinConfig,
    LongConfig,
    RuleConfig,
    ShopConfig,
    SourceConfig,
    SplitTextConfig,
    TimeConfig,
)
from txrec.config.preparing import ChecksConfig, PrepareConfig, SplitConfig
from txrec.config.section import CHECKPOINT, FINE_TUNING_LR, Section
from txrec.config.serving import ExplorationConfig, MonitorConfig, SampleConfig, ServeConfig
from txrec.config.training import (
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PretrainConfig,
    RankerConfig,
    RetrievalConfig,
    TextConfig,
    TrainConfig,
    TuneConfig,
    WarmStartConfig,
)
from txrec.config.tree import Config, fingerprint

__all__ = [
    "CHECKPOINT",
    "FINE_TUNING_LR",
    "ChecksConfig",
    "Config",
    "DataConfig",
    "DecisionConfig",
    "EvaluateConfig",
    "ExperimentConfig",
    "ExperimentsConfig",
    "ExplorationConfig",
    "ExposureConfig",
    "ExposureLimit",
    "FigureConfig",
    "FigureName",
    "JoinConfig",
    "LongConfig",
    "LoopConfig",
    "ModelConfig",
    "MonitorConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "PrepareConfig",
    "PretrainConfig",
    "PublishConfig",
    "RampConfig",
    "RankerConfig",
    "RetrievalConfig",
    "RuleConfig",
    "SampleConfig",
    "Section",
    "ServeConfig",
    "ShopConfig",
    "SourceConfig",
    "SplitConfig",
    "SplitTextConfig",
    "TextConfig",
    "TimeConfig",
    "TrainConfig",
    "TuneConfig",
    "VariantConfig",
    "WarmStartConfig",
    "fingerprint",
]
