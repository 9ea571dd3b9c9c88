"""Ray Serve application: the deployments, their numbers of replicas, and how they are bound.

    serve run serve.app:build bundle=PATH            PATH is a bundle, or a registry (then its production bundle)
    serve run serve.app:build bundle=PATH console=false num_retrievers=2

`start` and `stop` do the same from a program that is connected to Ray already.
"""

import logging
import os
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

import ray
from pydantic import Field
from ray import serve as ray_serve
from ray.serve import Application, Deployment
from ray.serve.schema import LoggingConfig

from serve.deployment.deployments import Ingress, Ranker, Retriever
from serve.http.api_keys import VARIABLE, Keys
from serve.models.opening import open_bundle
from serve.models.replica_models import BundleSource, RegistrySource
from txrec import object_storage, objects
from txrec.client import ApiError, Client, Retry
from txrec.config import ServeConfig
from txrec.errors import BundleError, ConfigError
from txrec.recommender import bundle as bundles
from txrec.registry import registry

NAME = "txrec"
START_TIMEOUT_S = 180.0
_MAX_ONGOING = 2_000
_QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


class AppArgs(ServeConfig):
    """Arguments of `serve run serve.app:build`: the bundle and every field of the configuration's `[serve]`."""

    bundle: str = Field(min_length=1)
    """A bundle or a registry: a folder, or a place at `s3://`, `gs://` or `az://`."""
    proxy: bool = True
    """`serve run` brings Ray Serve's proxy; see `[serve]`."""


def build(args: AppArgs) -> Application:
    """Binds the deployments around a bundle, whose checksums every replica verifies when it opens it.

    Raises:
        BundleError: there is no bundle.
    """
    named = object_storage.local_path(Path(args.bundle).expanduser() if "://" not in args.bundle else args.bundle)
    path = resolve(named)
    state = args.state or str(registry.state_file(path))
    config = ServeConfig(**args.model_dump(exclude={"bundle", "state"}), state=state)
    place = object_storage.place_of(named)
    device = "cuda" if config.use_gpu else "cpu"
    if path != named.absolute():
        return bind(RegistrySource(place, device), config)
    return bind(partial(open_bundle, place, device), config)


def bind(source: BundleSource, config: ServeConfig) -> Application:
    """Binds the deployments around a model source, or the one model that a function opens."""
    gpus = config.gpus_per_replica if config.use_gpu else 0.0
    ranker = _replicated(Ranker, config.num_rankers, gpus).bind(source, config) if config.num_rankers else None
    retriever = _replicated(Retriever, config.num_retrievers, gpus).bind(source, ranker, config)
    registry = source.path if isinstance(source, RegistrySource) else ""
    keys = Keys.read(
        config.keys_file, os.environ.get(VARIABLE, "")
    )  # bad ones are reported here, before anything starts
    return _replicated(Ingress, config.num_ingresses).bind(retriever, config, registry, keys)


def resolve(path: Path) -> Path:
    """The bundle that a path means, not fetched: itself, or a registry's production bundle.

    Raises:
        BundleError: neither.
    """
    path = path.expanduser().absolute()
    uri = object_storage.uri_of(path)
    if uri is not None:
        return (
            path if objects.exists(f"{uri}/{bundles.MANIFEST}") else path / registry.Registry(path).require_production()
        )
    if (path / bundles.MANIFEST).is_file():
        return path
    production = path / registry.POINTER
    if (production / bundles.MANIFEST).is_file():
        return production.resolve()
    raise BundleError(f"{path}: neither a bundle nor a registry with a production bundle; run `txrec publish CONFIG`")


def start(bundle: Path | str, config: ServeConfig) -> str:
    """Starts the application on the Ray that this process is connected to and waits until it answers.

    Returns:
        Its URL.

    Raises:
        BundleError: there is no bundle.
        ConfigError: the port is taken, or there are too few GPUs.
    """
    return launch(build(AppArgs(bundle=str(bundle), **config.model_dump())), config)


def launch(application: Application, config: ServeConfig) -> str:
    """Deploys a bound application at the configured address and waits until it answers."""
    _require_free(config)
    if config.use_gpu:
        _require_gpus(config, ray.cluster_resources().get("GPU", 0.0))  # type: ignore[no-untyped-call]
    for name in ("ray.serve", "ray._private.worker"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray_serve.start(
        proxy_location="HeadOnly" if config.proxy else "Disabled",
        http_options={"host": config.host, "port": config.port},
        logging_config=_QUIET,
    )
    ray_serve.run(application, name=NAME, route_prefix="/", logging_config=_QUIET)
    url = f"http://{'127.0.0.1' if config.host == '0.0.0.0' else config.host}:{config.port}"  # noqa: S104
    _wait_until_ready(url)
    return url


def stop() -> None:
    """Deletes the application; Ray Serve's own actors end with Ray, as they may serve other applications."""
    ray_serve.delete(NAME)


def _replicated(deployment: Any, num_replicas: int, gpus: float = 0.0) -> Deployment:
    """Replicas reserve little: the stages of one request run one after another, not at the same time."""
    replicated: Deployment = deployment.options(
        num_replicas=num_replicas,
        ray_actor_options={"num_cpus": 0.1} | ({"num_gpus": gpus} if gpus else {}),
        max_ongoing_requests=_MAX_ONGOING,
        graceful_shutdown_timeout_s=5.0,
        graceful_shutdown_wait_loop_s=0.5,  # by default 2 s, which a replica waits also where it is idle
        logging_config=_QUIET,
    )
    return replicated


def _require_free(config: ServeConfig) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise ConfigError(
                f"serve.port = {config.port}: cannot listen on {config.host}:{config.port} ({error.strerror});"
                f" stop what listens there or set another, e.g. serve.port={config.port + 1}"
            ) from None


def _require_gpus(config: ServeConfig, present: float) -> None:
    needed = (config.num_retrievers + config.num_rankers) * config.gpus_per_replica
    if needed > present:
        raise ConfigError(
            f"serve.use_gpu: retrievers and rankers need {needed:g} GPUs ({config.gpus_per_replica:g} each), the"
            f" cluster has {present:g}; lower serve.gpus_per_replica or the numbers of replicas, or set"
            " serve.use_gpu=false"
        )


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with Client(url, timeout_s=10, retry=Retry(attempts=1)) as client:
        while True:
            try:
                client.ready()
                return
            except ApiError as error:
                if time.monotonic() > deadline:
                    raise BundleError(
                        f"the server did not become ready within {START_TIMEOUT_S:g} s: {error}"
                    ) from None
            time.sleep(0.1)
