"""The loop's values from their sections of the configuration."""

from txrec.config import (
    DecisionConfig,
    ExperimentConfig,
    ExperimentsConfig,
    ExplorationConfig,
    FigureConfig,
    MonitorConfig,
)
from txrec.errors import ConfigError
from txrec.loop.attribution.attribution import Windows
from txrec.loop.experiments.assignment import Experiment, Ramp, Variant, check
from txrec.loop.experiments.experiments import Figure, Rules
from txrec.loop.exploration.exploration import Bounds
from txrec.schema import parse_instant


def windows(config: MonitorConfig) -> Windows:
    """Windows of attribution."""
    hours = {"view": config.view_h, "click": config.click_h, "cart": config.cart_h, "purchase": config.purchase_h}
    return Windows(hours, config.attribution, config.reformulation_s)


def bounds(config: ExplorationConfig) -> Bounds:
    """Bounds of exploration."""
    return Bounds(**config.model_dump())


def rules(config: DecisionConfig) -> Rules:
    """Decision rules of an experiment."""
    return Rules(
        primary=_figure(config.primary),
        guards=tuple(_figure(guard) for guard in config.guards),
        alpha=config.alpha,
        guard_alpha=config.guard_alpha,
        min_users=config.min_users,
        max_users=config.max_users,
        expected_users=config.expected_users,
    )


def experiments(config: ExperimentsConfig) -> tuple[Experiment, ...]:
    """The running experiments.

    Raises:
        ConfigError: segments of one layer overlap, a name is there twice, or a beginning is no instant.
    """
    parsed = tuple(_experiment(one) for one in config.running)
    check(parsed)
    return parsed


def _experiment(config: ExperimentConfig) -> Experiment:
    names = [variant.name for variant in config.variants]
    if len(set(names)) < len(names):
        raise ConfigError(f"experiments: {config.name!r} has two variants of one name: {', '.join(names)}")
    return Experiment(
        name=config.name,
        variants=tuple(Variant(one.name, one.weight, one.version) for one in config.variants),
        layer=config.layer,
        start=config.start,
        share=config.share,
        start_us=parse_instant(config.begins, f"experiments.{config.name}.begins") if config.begins else 0,
        ramp=tuple(Ramp(step.after_h, step.share) for step in config.ramp),
    )


def _figure(config: FigureConfig) -> Figure:
    return Figure(config.name, config.window_h, config.higher_is_better, config.margin)
