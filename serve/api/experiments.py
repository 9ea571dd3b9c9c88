"""HTTP bodies of experiments."""

from pydantic import Field

from serve.api.common import Body, Reply
from txrec.loop.served import StoredExperiment


class StopRequest(Body):
    """Why an experiment is stopped."""

    reason: str = Field("stopped over HTTP", min_length=1, max_length=2_000)
    """For people."""


class ExperimentsReply(Reply):
    """Experiments, by start."""

    experiments: list[StoredExperiment]
    """All of them, those that have ended too."""
