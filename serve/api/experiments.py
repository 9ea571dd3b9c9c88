"""HTTP bodies of experiments."""

from pydantic import Field

from serve.api.base import Body, Reply
from txrec.loop.experiments.served_experiments import StoredExperiment


class StopRequest(Body):
    """Reason of stopping an experiment."""

    reason: str = Field("stopped over HTTP", min_length=1, max_length=2_000)
    """Text for people."""


class ExperimentsReply(Reply):
    """Experiments, by start."""

    experiments: list[StoredExperiment]
    """All of them, those that have ended too."""
