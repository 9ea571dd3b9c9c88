"""`txrec tune`: hyperparameter search, Ray Tune over Ray Train, on validation only.

A trial is a small function that starts a `TorchTrainer` with the trial's configuration; its worker trains as that of
`txrec train` does. As many run at once as the cluster holds. The configuration as it stands is tried first, where the
space includes it: it is the one to beat. Trials that do badly are stopped early (ASHA). A search that was killed or
interrupted goes on where it stood: finished trials are kept, those under way go on from their last epoch. A trial that
fails is recorded with its configuration and the search goes on. `reports/tune/` then holds the best configuration, all
trials and a page.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import optuna
import ray
from ray import tune
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter, SearchAlgorithm, Searcher
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch
from rich.markup import escape
from rich.table import Table

from pipelines.distributed import cluster
from pipelines.train import text_folder
from pipelines.training import workers
from pipelines.trial import SCORE, run_trial
from txrec import object_storage
from txrec.config import Config, fingerprint
from txrec.data.prepared import PreparedData
from txrec.progress import Progress, silent
from txrec.train import search_space
from txrec.train.search_space import Dimension, Search, Trial

_WORK_FOLDER = "ray-tune"  # Ray Tune's and the trials' own files; removed when the search is done
_TRIAL_CPUS = 0.25  # the trial's function only waits for its worker
SHOWN_TRIALS = 10
Watch = Callable[[Table], None]


@dataclass(frozen=True)
class TuneSummary:
    """Result of a search."""

    search: Search
    folder: Path
    """Folder of best.toml, trials.parquet and report.html."""
    seconds: float
    """Wall time of this run."""

    def headline(self) -> str:
        """One line: the figures that matter most."""
        best, own = self.search.best, self.search.as_configured
        counts = ", ".join(f"{self.search.count(state)} {state}" for state in ("finished", "stopped", "failed"))
        before = f"; as configured {own.score:.4f}" if own is not None and own.score is not None else ""
        return (
            f"validation {self.search.metric} {best.score:.4f} with {_settings(best.params)}{before}; trials: {counts}"
        )

    def render(self) -> Table:
        """The ten best trials and every failed one."""
        shown = table(self.search)
        files = (search_space.BEST_FILE, search_space.TRIALS_FILE, search_space.REPORT_FILE)
        shown.caption = f"{self.folder}: {', '.join(files)}"
        return shown


def table(search: Search) -> Table:
    """Trials under way, the ten best of the others and every failed one."""
    names = [dimension.key for dimension in search.dimensions]
    heads = (name.replace(".", ".\n", 1) for name in names)
    shown = Table("trial", "state", search.metric, "epochs", "s", *heads, box=None, pad_edge=False, header_style="dim")
    ranked = sorted(search.trials, key=lambda trial: -(trial.score or 0.0))
    running, failed = ([trial for trial in ranked if trial.state == state] for state in ("running", "failed"))
    ended = [trial for trial in ranked if trial.state in ("finished", "stopped")]
    for trial in [*running, *ended[:SHOWN_TRIALS], *failed]:
        score = "-" if trial.score is None else f"{trial.score:.4f}"
        values = [_short(trial.params.get(name)) for name in names]
        name = "as configured" if trial is search.as_configured else trial.trial_id
        state = f"[cyan]{trial.state}[/]" if trial.state == "running" else trial.state
        shown.add_row(name, state, score, str(trial.epochs), f"{trial.seconds:.0f}", *values)
        if trial.error:
            shown.add_row("", f"[red]{escape(trial.error)}")
    return shown


def _settings(params: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in params.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _unseen(_: Table) -> None:
    """A `Watch` that shows nothing."""


def run(config: Config, progress: Progress = silent, watch: Watch = _unseen) -> TuneSummary:
    """Searches `tune.space` and writes `reports/tune/`.

    Args:
        config: what varies around it, and how.
        progress: called whenever a trial begins, validates or ends.
        watch: given the table of all trials then.

    Raises:
        ConfigError: the space cannot be searched.
        StageError: an earlier stage is missing.
        TrainingError: every trial failed.
    """
    started = time.monotonic()
    dimensions = search_space.space(config)
    data = PreparedData.open(config.data_dir)
    if not _pretrains(dimensions):
        text_folder(config)  # says now, not in every trial, that it is missing
    work = config.checkpoints_dir.absolute() / _WORK_FOLDER
    key = fingerprint(data.meta.fingerprint, config.model_dump(mode="json", exclude={"publish", "serve", "sample"}))
    search = Search(config.train.metric, dimensions, own=search_space.own_values(config, dimensions))
    with cluster.connect(dashboard=True):
        results = _fit(config, search, work, key, progress, watch)
    search = replace(search, trials=tuple(_trial(results[index], config) for index in range(len(results))))
    folder = config.reports_dir / "tune"
    try:
        search_space.write(search, config, folder)
        object_storage.share(folder)
    finally:
        workers.remove(work)  # also where every trial failed: the next search must not take them for done
    return TuneSummary(search, folder, time.monotonic() - started)


def _pretrains(dimensions: tuple[Dimension, ...]) -> bool:
    """True where every trial needs a text encoder of its own."""
    return any(dimension.key.split(".")[0] in ("text", "pretrain", "seed") for dimension in dimensions)


def _fit(config: Config, search: Search, work: Path, key: str, progress: Progress, watch: Watch) -> tune.ResultGrid:
    at_once = concurrent(config, ray.cluster_resources())  # type: ignore[no-untyped-call]
    settings = {
        "config": config,
        "pretrains": _pretrains(search.dimensions),
        "threads": max((os.cpu_count() or 1) // (at_once * config.train.num_workers), 1),
    }
    trainable = tune.with_resources(tune.with_parameters(run_trial, **settings), {"CPU": _TRIAL_CPUS})
    total = _num_trials(config, search.dimensions)
    _subscribers[key] = _Subscribers(config, search, total, progress, watch)
    try:
        with _quietly():
            results = _tuner(trainable, config, search, at_once, work, key).fit()
    finally:
        del _subscribers[key]
    progress("trials", total, total)
    return results


def concurrent(config: Config, resources: Mapping[str, float]) -> int:
    """Trials that run at once on a cluster of these resources.

    Never more than fit with their workers: functions that wait would take the CPUs that their own workers wait for.
    """
    train = config.train
    fit = int(resources.get("CPU", 1) / (_TRIAL_CPUS + train.num_workers * train.cpus_per_worker))
    if train.use_gpu:
        fit = min(fit, int(resources.get("GPU", 0)) // train.num_workers)
    return max(min(fit, config.tune.max_concurrent or fit), 1)


def _tuner(trainable: Any, config: Config, search: Search, at_once: int, work: Path, key: str) -> tune.Tuner:
    """A new search, or the one that was interrupted."""
    filesystem, place = workers.storage(work)
    if tune.Tuner.can_restore(f"{place}/{key}", storage_filesystem=filesystem):
        return tune.Tuner.restore(f"{place}/{key}", trainable=trainable, storage_filesystem=filesystem)
    return tune.Tuner(
        trainable,
        param_space={dimension.key: _domain(dimension, config) for dimension in search.dimensions},
        tune_config=_tune_config(config, search, at_once),
        run_config=tune.RunConfig(
            name=key, storage_path=place, storage_filesystem=filesystem, verbose=0, callbacks=[_Watcher(key)]
        ),
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Failed trials are in the summary: no tracebacks and tables of Ray's in between."""
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "2")  # seconds of its record that a killed search loses
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C ends the command; half a search is no result
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _tune_config(config: Config, search: Search, at_once: int) -> tune.TuneConfig:
    longest = max(
        [config.train.max_epochs, *(max(d.values) for d in search.dimensions if d.key == "train.max_epochs")],
    )
    scheduler = ASHAScheduler(
        time_attr="epoch", max_t=longest, grace_period=min(config.tune.grace_epochs, longest), reduction_factor=3
    )
    return tune.TuneConfig(
        metric=SCORE,
        mode="max",
        search_alg=_searcher(config, search, at_once),
        scheduler=scheduler,
        num_samples=1 if config.tune.search == "grid" else config.tune.num_trials,
    )


def _searcher(config: Config, search: Search, at_once: int) -> Searcher | SearchAlgorithm:
    """TPE, or Tune's own random and grid search."""
    crossed = any(_is_crossed(dimension, config) for dimension in search.dimensions)
    first = [dict(search.own)] if search.own and not crossed else None
    if config.tune.search == "optuna":
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return ConcurrencyLimiter(OptunaSearch(points_to_evaluate=first, seed=config.seed), max_concurrent=at_once)
    return BasicVariantGenerator(points_to_evaluate=first, max_concurrent=at_once, random_state=config.seed)


def _is_crossed(dimension: Dimension, config: Config) -> bool:
    """True where every value of it is tried with every draw of the others."""
    return "grid" in (dimension.kind, config.tune.search)


def _domain(dimension: Dimension, config: Config) -> Any:
    low, high = dimension.values[0], dimension.values[-1]
    if dimension.kind == "loguniform":
        return tune.loguniform(low, high)
    if dimension.kind == "uniform":
        return tune.uniform(low, high)
    if dimension.kind == "randint":
        return tune.randint(low, high + 1)
    if _is_crossed(dimension, config):
        return tune.grid_search(list(dimension.values))
    return tune.choice(list(dimension.values))


def _num_trials(config: Config, dimensions: tuple[Dimension, ...]) -> int:
    drawn = 1 if config.tune.search == "grid" else config.tune.num_trials
    return drawn * math.prod(len(dimension.values) for dimension in dimensions if _is_crossed(dimension, config))


def _trial(result: tune.Result, config: Config) -> Trial:
    return _record(_params(result), result.metrics or {}, result.error, config)


def _record(
    params: Mapping[str, Any],
    figures: Mapping[str, Any],
    error: Exception | None,
    config: Config,
    running: bool = False,
) -> Trial:
    score = figures.get(SCORE)
    ended: Literal["finished", "stopped"] = "finished" if figures.get("ended") else "stopped"
    return Trial(
        trial_id=str(figures.get("trial_id", "")),
        params={key: value for key, value in params.items() if key in config.tune.space},
        state="running" if running else "failed" if error else ended,
        score=float(score) if score is not None else None,
        epochs=int(figures.get("epoch", 0)),
        seconds=float(figures.get("time_total_s", 0.0)),
        error=_reason(error),
    )


def _params(result: tune.Result) -> dict[str, Any]:
    """Parameters of a trial; one that failed before its first report has them in its folder only."""
    if result.config:
        return dict(result.config)
    with result.filesystem.open_input_file(f"{result.path}/params.json") as stream:
        return dict(json.loads(stream.read()))


def _reason(error: Exception | None) -> str:
    """The last line of a remote traceback: what went wrong."""
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    return lines[-1] if lines else ""


@dataclass(frozen=True)
class _Subscribers:
    """Subscribers to the reports of a running search."""

    config: Config
    search: Search
    """The search without trials."""
    total: int
    progress: Progress
    watch: Watch


_subscribers: dict[str, _Subscribers] = {}
"""Searches under way in this process; a watcher that Tune unpickled after a restart finds its display here."""


class _Watcher(tune.Callback):
    """Turns Tune's events into progress (trials done, best score, present trial) and a table of all trials."""

    def __init__(self, key: str) -> None:
        self._key = key

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:  # noqa: ARG002
        """A trial begins."""
        self._notify(trials, trial)

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[RayTrial],
        trial: RayTrial,
        result: dict[str, Any],
        **_: Any,
    ) -> None:
        """A trial has validated."""
        self._notify(trials, trial, result, now=result.get(SCORE, 0.0), epoch=result.get("epoch", 0))

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:  # noqa: ARG002
        """A trial has ended or was stopped."""
        self._notify(trials, trial)

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:  # noqa: ARG002
        """A trial has failed."""
        self._notify(trials, trial)

    def _notify(
        self, trials: list[RayTrial], trial: RayTrial, latest: Mapping[str, Any] | None = None, **figures: float
    ) -> None:
        """Notifies subscribers; `latest` is a report that the trial itself does not hold yet."""
        subscribers = _subscribers.get(self._key)
        if subscribers is None:
            return
        begun = [other for other in trials if other.status != RayTrial.PENDING]
        known = [(latest if other is trial else None) or other.last_result or {} for other in begun]
        rows = (_under_way(other, last, subscribers.config) for other, last in zip(begun, known, strict=True))
        search = replace(subscribers.search, trials=tuple(rows))
        failed, running = search.count("failed"), search.count("running")
        scores = [other.score for other in search.trials if other.score is not None]
        best = {f"best_{search.metric}": max(scores)} if scores else {}
        failures = {"failed": failed} if failed else {}
        done = len(begun) - running
        subscribers.progress(f"trial {_settings(trial.config)}", done, subscribers.total, **figures, **best, **failures)
        subscribers.watch(table(search))


def _under_way(trial: RayTrial, last: Mapping[str, Any], config: Config) -> Trial:
    ended = trial.status in (RayTrial.TERMINATED, RayTrial.ERROR)
    error = trial.get_error() if trial.status == RayTrial.ERROR else None
    figures = {**last, "trial_id": trial.trial_id}
    return _record(trial.config, figures, error, config, running=not ended)
