"""Hyperparameter search space and results: dimensions, trials, importance, best configuration, report.

`pipelines.tune` runs the trials. Here is the space (`tune.space` of the configuration, checked before any work), the
record of the trials, and the three files that a search leaves in `reports/tune/`: `best.toml`, which `txrec train`
takes; `trials.parquet`, one row a trial; `report.html`, which needs no network.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w
from pydantic import BaseModel

from txrec.config import Config
from txrec.config_loader import with_overrides
from txrec.errors import ConfigError, TrainingError
from txrec.report.page import markup, render

SECTIONS: tuple[str, ...] = ("model", "train", "pretrain", "text", "seed")
"""Sections that a trial can vary: everything between prepared data and validation."""
_FIXED = {"text.vocab_size": "the tokenizer is fitted by prepare", "train.validate_every": "every epoch is validated"}
_KINDS = ("loguniform", "uniform", "randint", "choice", "grid")
GOOD_FRAC, LEAST_GOOD = 0.1, 3
"""Share and least number of best trials that importance compares with all of them."""
TRIALS_FILE, BEST_FILE, REPORT_FILE = "trials.parquet", "best.toml", "report.html"


@dataclass(frozen=True)
class Dimension:
    """One thing that varies."""

    key: str
    """Dotted path in the configuration."""
    kind: str
    """Distribution of values: loguniform, uniform, randint (inclusive at both ends), choice, grid."""
    values: tuple[Any, ...]
    """(low, high), or the values of choice and grid."""


@dataclass(frozen=True)
class Trial:
    """One configuration that was tried."""

    trial_id: str
    params: Mapping[str, Any]
    """Dotted path = value."""
    state: Literal["running", "finished", "stopped", "failed"]
    """stopped: given up early, because others were better at that epoch."""
    score: float | None = None
    """Best validation figure; None if there is none."""
    epochs: int = 0
    seconds: float = 0.0
    error: str = ""
    """Error of a failed trial."""


@dataclass(frozen=True)
class Search:
    """Result of a search."""

    metric: str
    """Validation metric, larger is better."""
    dimensions: tuple[Dimension, ...]
    trials: tuple[Trial, ...] = field(default=())
    own: Mapping[str, Any] = field(default_factory=dict)
    """Dotted path = value of the configuration as it stands; empty where it lies outside of the space."""

    @property
    def as_configured(self) -> Trial | None:
        """The trial of the configuration as it stands, the one to beat; None if it was not tried."""
        return next((trial for trial in self.trials if self.own and dict(trial.params) == dict(self.own)), None)

    @property
    def best(self) -> Trial:
        """The trial with the highest score.

        Raises:
            TrainingError: every trial failed; names the error of the first one.
        """
        scored = [trial for trial in self.trials if trial.score is not None and math.isfinite(trial.score)]
        if not scored:
            first = next((trial for trial in self.trials if trial.error), None)
            reason = f"; the first one, {dict(first.params)}: {first.error}" if first else ""
            raise TrainingError(f"none of {len(self.trials)} trials reached a validation{reason}")
        return max(scored, key=lambda trial: trial.score or 0.0)

    def count(self, state: str) -> int:
        """Number of trials in a state."""
        return sum(trial.state == state for trial in self.trials)


def space(config: Config) -> tuple[Dimension, ...]:
    """The dimensions of `tune.space`.

    Raises:
        ConfigError: nothing to search, an unknown path (names the nearest), a path that trials cannot vary, or a range
            that makes no sense.
    """
    if not config.tune.space:
        raise ConfigError('tune.space is empty; e.g. [tune.space] "train.lr" = {loguniform = [1e-4, 1e-2]}')
    return tuple(_dimension(config, key, dict(rule)) for key, rule in config.tune.space.items())


def _dimension(config: Config, key: str, rule: dict[str, Any]) -> Dimension:
    where = f'tune.space "{key}"'
    if len(rule) != 1 or next(iter(rule)) not in _KINDS:
        raise ConfigError(f"{where} = {rule}: expected one of {', '.join(_KINDS)}, e.g. {{choice = [32, 64]}}")
    kind, values = next(iter(rule.items()))
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f"{where}: {kind} = {values!r}: expected a list")
    _check_key(config, key, values[0])
    if kind == "grid" and config.tune.search == "optuna":
        raise ConfigError(f'{where}: grid goes with tune.search = "grid" or "random"; use choice with optuna')
    if kind not in ("choice", "grid"):
        if config.tune.search == "grid":
            raise ConfigError(f'{where}: tune.search = "grid" needs grid or choice, not {kind}')
        _check_range(where, kind, values)
    return Dimension(key, kind, tuple(values))


def own_values(config: Config, dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """Values of the configuration itself in every dimension; empty if some of them lie outside of the space."""
    own = {dimension.key: _value(config, dimension.key) for dimension in dimensions}
    return own if all(_is_inside(own[dimension.key], dimension) for dimension in dimensions) else {}


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return list(value) if isinstance(value, tuple) else value


def _is_inside(value: Any, dimension: Dimension) -> bool:
    if dimension.kind in ("choice", "grid"):
        return value in dimension.values
    return isinstance(value, int | float) and bool(dimension.values[0] <= value <= dimension.values[1])


def _check_key(config: Config, key: str, value: Any) -> None:
    if key in _FIXED:
        raise ConfigError(f'tune.space "{key}" cannot vary: {_FIXED[key]}')
    if not _exists(config, key):
        with_overrides(config, {key: value})  # an unknown key explains itself
        raise ConfigError(f'tune.space "{key}" is a section; name one of its keys')
    if key.split(".", maxsplit=1)[0] not in SECTIONS:
        raise ConfigError(f'tune.space "{key}" has no influence on a trial; these sections do: {", ".join(SECTIONS)}')


def _exists(config: Config, key: str) -> bool:
    node: Any = config
    for part in key.split("."):
        if part not in getattr(type(node), "model_fields", {}):
            return False
        node = getattr(node, part)
    return not isinstance(node, BaseModel)


def _check_range(where: str, kind: str, values: Sequence[Any]) -> None:
    numbers = len(values) == 2 and all(isinstance(value, int | float) for value in values)
    if not numbers or values[0] >= values[1] or (kind == "loguniform" and values[0] <= 0):
        positive = " above 0" if kind == "loguniform" else ""
        raise ConfigError(f"{where}: {kind} = {list(values)}: expected [low, high] with low < high{positive}")


def write(search: Search, config: Config, folder: Path) -> None:
    """Writes `best.toml`, `trials.parquet` and `report.html` into a folder.

    Raises:
        TrainingError: no trial reached a validation; `trials.parquet` is written all the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_trials(search, folder / TRIALS_FILE)
    write_best(search, config, folder / BEST_FILE)
    write_report(search, folder / REPORT_FILE)


def write_best(search: Search, config: Config, file: Path) -> None:
    """The best trial's configuration as TOML: what differs from the defaults, under the run's own name."""
    best = search.best
    tree = with_overrides(config, best.params).model_dump(mode="json", exclude_defaults=True)
    tree.pop("tune", None)
    tree |= {"runs_root": _portable(config.runs_root)} if "runs_root" in tree else {}
    if "root" in tree.get("data", {}):
        tree["data"]["root"] = _portable(config.data.root)
    settings = ", ".join(f"{key} = {json.dumps(value)}" for key, value in best.params.items())
    own = search.as_configured
    before = f"; as configured {own.score:.4f}" if own is not None and own.score is not None else ""
    comment = (
        f"# Best of {len(search.trials)} trials: validation {search.metric} {best.score:.4f} with {settings}{before}\n"
    )
    file.write_text(comment + tomli_w.dumps(_without_none(tree)), encoding="utf-8")


def _portable(path: str) -> str:
    """A path below the working directory as relative to it, so that the file is good in another checkout."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _without_none(tree: Any) -> Any:
    """Values without None, which TOML cannot hold: those fields stay at their defaults."""
    if isinstance(tree, dict):
        return {key: _without_none(value) for key, value in tree.items() if value is not None}
    return tree


def write_trials(search: Search, file: Path) -> None:
    """One row a trial: id, state, score, epochs, seconds, error, and a column for each dimension."""
    columns: dict[str, list[Any]] = {
        "trial_id": [trial.trial_id for trial in search.trials],
        "state": [trial.state for trial in search.trials],
        search.metric: [trial.score for trial in search.trials],
        "epochs": [trial.epochs for trial in search.trials],
        "seconds": [trial.seconds for trial in search.trials],
        "error": [trial.error for trial in search.trials],
    }
    for dimension in search.dimensions:
        columns[dimension.key] = _column([trial.params.get(dimension.key) for trial in search.trials])
    pq.write_table(pa.table(columns), file)


def _column(values: list[Any]) -> list[Any]:
    """A choice may mix types or hold lists; such a column is written as JSON."""
    kinds = {type(value) for value in values}
    plain = len(kinds) == 1 and kinds <= {int, float, str, bool}
    return values if plain or kinds == {int, float} else [json.dumps(value) for value in values]


def importance(search: Search) -> dict[str, float]:
    """Importance of each dimension for the score, summing to 1 (PED-ANOVA, Watanabe et al. 2023), most first.

    Empty with fewer than four scored trials: nothing can be said then.
    """
    import optuna

    study = _study(search)
    if len(study.trials) < 4:
        return {}
    good = max(GOOD_FRAC, LEAST_GOOD / len(study.trials))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=good, evaluate_on_local=False)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _study(search: Search) -> Any:
    """The scored trials as an Optuna study, for its analyses."""
    import optuna
    from optuna.distributions import BaseDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions: dict[str, BaseDistribution] = {d.key: _distribution(d) for d in search.dimensions}
    study = optuna.create_study(direction="maximize")
    for trial in search.trials:
        if trial.score is None or not math.isfinite(trial.score):
            continue
        params = {d.key: _plain(trial.params[d.key], d) for d in search.dimensions}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=trial.score))
    return study


def _distribution(dimension: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    low, high = dimension.values[0], dimension.values[-1]
    if dimension.kind == "randint":
        return IntDistribution(low, high)
    if dimension.kind in ("uniform", "loguniform"):
        return FloatDistribution(low, high, log=dimension.kind == "loguniform")
    return CategoricalDistribution([_plain(value, dimension) for value in dimension.values])


def _plain(value: Any, dimension: Dimension) -> Any:
    return json.dumps(value) if dimension.kind in ("choice", "grid") and isinstance(value, list | tuple) else value


def write_report(search: Search, file: Path) -> None:
    """A page with the best configuration, parallel coordinates, importance, progress and every trial."""
    import optuna.visualization as plots
    import plotly.graph_objects as go

    study, target = _study(search), f"validation {search.metric}"
    figures = {
        "Every trial a line": plots.plot_parallel_coordinate(study, target_name=target),
        "The best so far": plots.plot_optimization_history(study, target_name=target),
    }
    weights = importance(search)
    if weights:
        bars = go.Bar(x=list(weights.values())[::-1], y=list(weights)[::-1], orientation="h", marker_color=_COLOUR)
        figures["Importance (PED-ANOVA)"] = go.Figure(bars, {"xaxis_title": "share of what explains the score"})
    pictures = [
        figure.update_layout(title=title, template="plotly_white", margin_l=160).to_html(
            full_html=False, include_plotlyjs=index == 0, default_height="400px"
        )
        for index, (title, figure) in enumerate(figures.items())
    ]
    keys = [dimension.key for dimension in search.dimensions]
    page = render(
        "search.html.j2",
        search=search,
        lead=_lead(search),
        settings=[(key, _shown(value)) for key, value in search.best.params.items()],
        pictures=[markup(picture) for picture in pictures],
        head=["trial", "state", search.metric, "epochs", "s", *keys],
        trials=[(trial, _cells(search, trial)) for trial in sorted(search.trials, key=lambda t: -(t.score or 0.0))],
    )
    file.write_text(page, encoding="utf-8")


_COLOUR = "#1f5fa8"


def _lead(search: Search) -> str:
    counts = ", ".join(f"{search.count(state)} {state}" for state in ("finished", "stopped", "failed"))
    best, own = search.best, search.as_configured
    configured = "" if own is None or own.score is None else f"; the configuration as it stood {own.score:.4f}"
    return f"{len(search.trials)} trials: {counts}. Best {best.score:.4f}, trial {best.trial_id}{configured}:"


def _cells(search: Search, trial: Trial) -> list[str]:
    score = "-" if trial.score is None else f"{trial.score:.4f}"
    name = "as configured" if trial is search.as_configured else trial.trial_id
    params = [_shown(trial.params.get(dimension.key)) for dimension in search.dimensions]
    return [name, trial.state, score, str(trial.epochs), f"{trial.seconds:.0f}", *params]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
