"""Endpoints of experiments: start, list, read, stop."""

from typing import Annotated

from fastapi import APIRouter

from serve.api.experiments import ExperimentsReply, StopRequest
from serve.experiments.lifecycle import Experiments
from serve.http.authorization import requires
from serve.http.dependencies import of_app
from serve.http.openapi_errors import ERRORS, EXPERIMENT_CONFLICT, UNKNOWN_EXPERIMENT
from txrec.loop.experiments.served_experiments import ExperimentSpec, StoredExperiment

router = APIRouter(prefix="/v1", tags=["experiments"], responses=ERRORS, dependencies=[requires("admin")])
ExperimentsDep = Annotated[Experiments, of_app("experiments")]


@router.get("/experiments", summary="All experiments")
async def experiments(live: ExperimentsDep) -> ExperimentsReply:
    """State of each, with the latest decision of every variant and its inequality."""
    return ExperimentsReply(experiments=await live.all())


@router.post("/experiments", summary="Start an experiment", status_code=201, responses=EXPERIMENT_CONFLICT)
async def create(body: ExperimentSpec, live: ExperimentsDep) -> StoredExperiment:
    """Every replica opens and tries its versions first; assignment begins on every replica within two seconds.

    Slates of recommend and search take part where the request names its user.
    """
    return await live.create(body)


@router.get("/experiments/{name}", summary="An experiment", responses=UNKNOWN_EXPERIMENT)
async def experiment(name: str, live: ExperimentsDep) -> StoredExperiment:
    """State of the experiment."""
    return await live.get(name)


@router.post("/experiments/{name}:stop", summary="Stop an experiment", responses=UNKNOWN_EXPERIMENT)
async def stop(name: str, live: ExperimentsDep, body: StopRequest | None = None) -> StoredExperiment:
    """Its users get production's answers again; one that has ended stays as it is."""
    return await live.stop(name, (body or StopRequest()).reason)
