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

from pydantic import Field
from ray import serve as ray_serve
from ray.serve import Application, Deployment
from ray.serve.schema import LoggingConfig

from serve.deployments import Ingress, Ranker, Retriever
from serve.keys import VARIABLE, Keys
from serve.models import BundleSource, RegistrySource
from serve.opening import open_bundle
from txrec import object_storage
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
    """A bundle or a registry folder, or a registry at `s3://`, `gs://` or `az://`."""
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
    registered = not (named / bundles.MANIFEST).is_file()
    place = object_storage.place_of(named)
    return bind(RegistrySource(place) if registered else partial(open_bundle, str(path)), config)


def bind(source: BundleSource, config: ServeConfig) -> Application:
    """Binds the deployments around a model source, or the one model that a function opens."""
    ranker = _replicated(Ranker, config.num_rankers).bind(source, config) if config.num_rankers else None
    retriever = _replicated(Retriever, config.num_retrievers).bind(source, ranker, config)
    registry = source.path if isinstance(source, RegistrySource) else ""
    keys = Keys.read(
        config.keys_file, os.environ.get(VARIABLE, "")
    )  # bad ones are reported here, before anything starts
    return _replicated(Ingress, config.num_ingresses).bind(retriever, config, registry, keys)


def resolve(path: Path) -> Path:
    """The bundle that a path means: itself, or a registry's production bundle.

    Raises:
        BundleError: neither.
    """
    path = path.expanduser().absolute()
    if object_storage.uri_of(path) is not None:
        found = registry.Registry(path)
        return found.folder(found.require_production())
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
        ConfigError: the port is taken.
    """
    return launch(build(AppArgs(bundle=str(bundle), **config.model_dump())), config)


def launch(application: Application, config: ServeConfig) -> str:
    """Deploys a bound application at the configured address and waits until it answers."""
    _require_free(config)
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


def _replicated(deployment: Any, num_replicas: int) -> Deployment:
    """Replicas reserve little: the stages of one request run one after another, not at the same time."""
    replicated: Deployment = deployment.options(
        num_replicas=num_replicas,
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=_MAX_ONGOING,
        graceful_shutdown_timeout_s=5.0,
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
