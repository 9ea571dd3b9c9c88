"""Live drift of a run: the last day of its server's log compared with the training log of the production bundle."""

import polars as pl

from pipelines.closed_loop.served_log import ServedLog
from txrec.config import Config
from txrec.loop.attribution.attribution import slates_of
from txrec.loop.drift.live_drift import LiveDrift, TrafficDrift
from txrec.loop.drift.traffic import TrafficProfile
from txrec.registry.registry import Registry
from txrec.schema import DAY_US

_COLUMNS = (
    "request_id",
    "variant",
    "ts",
    "user_id",
    "item_ids",
    "model_version",
    "scores",
    "query",
    "fallback",
    "placement",
)
_SPAN_US = 30 * DAY_US
"""Time before the day whose slates define the usual scores."""


def live_drift(config: Config, log: ServedLog, now_us: int) -> TrafficDrift:
    """The last day of a log compared with the training log of the production bundle.

    Args:
        config: of the run.
        log: slates and events.
        now_us: latest end of the day, microseconds since 1970 UTC; the day ends with the last row before.

    Raises:
        BundleError: the bundle's traffic profile is damaged.
    """
    registry = Registry(config.registry_dir)
    version = registry.production
    if not config.serve.monitor.drift_alpha or version is None:
        return TrafficDrift("not judged", "no version is in production" if version is None else "drift_alpha = 0")
    profile = TrafficProfile.read(registry.folder(version))
    if profile is None:
        return TrafficDrift("not judged", f"the training log of {version} has no times, or too few days", version)
    known = set(log.slates.collect_schema().names())
    latest = (pl.col("ts") <= now_us) & (pl.col("ts") > now_us - _SPAN_US)
    slates = slates_of(log.slates.filter(latest).select(name for name in _COLUMNS if name in known).collect())
    events = log.events.filter(latest).collect()
    ends = [int(frame.select(pl.col("ts").max()).item()) for frame in (slates, events) if frame.height]
    if not ends:
        return TrafficDrift("not judged", "there is no traffic", version)
    return LiveDrift(profile, version, config.serve.monitor.drift_alpha).look(slates, events, max(ends) + 1)
