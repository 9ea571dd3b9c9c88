"""Decisions about everything that is being tried on served traffic: experiments of a server, others, and the canary."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from txrec.config import DecisionConfig, ExperimentsConfig
from txrec.loop import settings
from txrec.loop.attribution.attribution import HOUR_US, Windows, credit
from txrec.loop.experiments.confidence import Moments
from txrec.loop.experiments.experiments import ExperimentDecision, decide
from txrec.loop.experiments.interleaving import SHARED, InterleavingRules, decide_interleaving, user_preferences
from txrec.loop.experiments.served_experiments import StoredExperiment
from txrec.loop.experiments.user_outcomes import EVENT_FIGURES, canary_exposures, exposures, moments, recorded_exposures

Log = tuple[pl.DataFrame, pl.DataFrame]
"""Slates as `attribution.slates_of` gives them, and events as `attribution.events_of` does."""


def decisions(
    config: ExperimentsConfig,
    log: Log,
    now_us: int,
    canary_share: float | None = None,
    served: Sequence[StoredExperiment] = (),
) -> tuple[ExperimentDecision, ...]:
    """Decisions of all running experiments, and of the canary that is served now.

    Args:
        config: experiments that the shop's own code serves, and what decides them and the canary.
        log: served slates and the events that followed.
        now_us: microseconds since 1970 UTC.
        canary_share: share of the users that the canary answers; None = there is none.
        served: experiments of the server; those that have ended are left out.
    """
    made: list[ExperimentDecision] = []
    for experiment in settings.experiments(config):
        shares = {variant.name: variant.weight for variant in experiment.variants}
        made += _split(experiment.name, config, exposures(log[0], experiment), log, shares, now_us)
    for stored in served:
        if stored.standing.state == "running":
            made += decide_served(stored, log, now_us)
    if canary_share:
        made += canary_decision(config, log, now_us, canary_share)
    return tuple(made)


def canary_decision(config: DecisionConfig, log: Log, now_us: int, share: float) -> tuple[ExperimentDecision, ...]:
    """The decision about the latest canary, if it has answered anybody.

    Args:
        config: what decides.
        log: served slates and the events that followed.
        now_us: microseconds since 1970 UTC.
        share: of the users that the canary answers.
    """
    canary = log[0].filter(pl.col("variant") == "canary").sort("ts")
    if not canary.height:
        return ()
    version = str(canary["model_version"][-1])
    shares = {"production": 1 - share, "canary": share}
    return _split(f"canary {version}", config, canary_exposures(log[0], version), log, shares, now_us)


def decide_served(stored: StoredExperiment, log: Log, now_us: int) -> tuple[ExperimentDecision, ...]:
    """One decision per variant of a server's experiment that is not the control.

    Args:
        stored: the experiment.
        log: served slates with `experiments` and `teams`, and the events that followed.
        now_us: microseconds since 1970 UTC.
    """
    spec = stored.spec
    exposed = recorded_exposures(log[0], spec.name)
    if spec.kind == "interleaving":
        return (_interleaved(stored, exposed, log, now_us),)
    return _split(spec.name, spec.decision, exposed, log, {one.name: one.weight for one in spec.variants}, now_us)


def _split(
    name: str, config: DecisionConfig, exposed: pl.DataFrame, log: Log, shares: dict[str, float], now_us: int
) -> tuple[ExperimentDecision, ...]:
    rules = settings.rules(config)
    counts = dict(exposed.group_by("variant").len().iter_rows())
    assigned = {variant: int(counts.get(variant, 0)) for variant in shares}
    none = Moments.of([])
    figures = {}
    for figure in (rules.primary, *rules.guards):
        past = config.past_h if figure == rules.primary else 0.0
        sums = moments(exposed, *log, figure, now_us, past)
        figures[figure.name] = {variant: sums.get(variant, none) for variant in shares}
    return decide(name, rules, figures, assigned, shares)


def _interleaved(stored: StoredExperiment, exposed: pl.DataFrame, log: Log, now_us: int) -> ExperimentDecision:
    """The decision from the preferences of users whose window is over."""
    config, (control, variant) = stored.spec.decision, stored.spec.variants
    figure = config.primary
    window_us = int(figure.window_h * HOUR_US)
    ready = exposed.filter(pl.col("since") + window_us <= now_us).with_row_index("number")
    teams = (
        log[0]
        .join(ready, on="user_id")
        .filter(pl.col("ts") - pl.col("since") <= window_us)
        .select("request_id", "number", team="teams", place=pl.int_ranges(pl.col("teams").list.len()))
        .explode("team", "place", empty_as_null=False)
    )
    kinds = EVENT_FIGURES.get(figure.name, EVENT_FIGURES["clicks"])
    credits_ = credit(log[0], log[1], Windows(dict.fromkeys(kinds, figure.window_h)))
    weight = pl.col("value") if figure.name == "revenue" else pl.col("weight")
    rows = credits_.join(teams, on=["request_id", "place"]).select("number", "team", weight=weight)
    users = np.append(rows["number"].to_numpy().astype(np.int64), np.arange(ready.height))  # those without credit too
    team = np.append(rows["team"].to_numpy().astype(np.int64), np.full(ready.height, SHARED))
    weights = np.append(rows["weight"].to_numpy(), np.zeros(ready.height))
    rules = InterleavingRules(config.alpha, config.min_users, config.max_users, config.expected_users)
    preferences = Moments.of(user_preferences(users, team, weights))
    return decide_interleaving(stored.spec.name, (control.name, variant.name), preferences, rules)
