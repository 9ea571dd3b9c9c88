"""Connecting to Ray: the cluster that is there, or a quiet local one that ends with the block."""

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.distributed import termination
from txrec.errors import ClusterError

# Ray reads these when it is imported or started. Whatever the caller set wins.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",  # 1.6 times the requests per second of the default
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",  # a second port that nobody uses, and 30 s of draining it at the end
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_idle_worker_killing_time_threshold_ms": "20000",  # by default 1 s: every step would start its workers anew
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # it aborts on SIGTERM; Python's faulthandler prints stacks of crashes
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # by default 2 s, which a worker waits for each of its reports
}
_LOCAL_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process per training; nobody takes this machine away
}

# Ray Data keeps the map and the reduce tasks of an exchange in worker pools of their own by these variables. The driver
# sets both, so that they share one pool, and tasks that ask for this environment run there too: a worker takes seconds
# and 150 MiB to start.
EXCHANGE_POOL = {"env_vars": {"RAY_DATA_SHUFFLE_MAP_WORKER": "1", "RAY_DATA_SHUFFLE_REDUCE_WORKER": "1"}}


def set_environment() -> None:
    """Sets what Ray reads from the environment; to be called before anything imports Ray.

    On Linux Ray's own ports cannot be bound to loopback, so every call on a local cluster's ports must carry a secret
    that this process makes up. Ray fixes its authentication mode when it is imported: where that has happened already
    (a notebook, a test) the local cluster runs without the secret.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if os.environ.get("RAY_ADDRESS") or "RAY_AUTH_MODE" in os.environ:
        return
    if "ray" in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "disabled"
    else:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextmanager
def connect(dashboard: bool = False) -> Iterator[None]:
    """Makes Ray usable inside the block.

    An initialised Ray is used as it is. `RAY_ADDRESS` (set inside `ray job submit`, or by the user) names a cluster to
    join. Otherwise a local one starts and is shut down at the end of the block.

    Args:
        dashboard: start the local cluster's dashboard; Ray Tune frees stopped trials only with it.

    Raises:
        ClusterError: the cluster that `RAY_ADDRESS` names does not answer.
    """
    set_environment()
    import ray

    if ray.is_initialized():
        yield
        return
    if dashboard:  # a trial brings several processes that only wait, which Ray warns of on small machines
        os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "8")
    if os.environ.get("RAY_ADDRESS"):
        _join()
    else:
        for name, value in _LOCAL_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with _port_of_its_own() as port, termination.handler_kept():
            ray.init(
                address="local",
                include_dashboard=dashboard,
                runtime_env={"env_vars": {**EXCHANGE_POOL["env_vars"], "RAY_ADDRESS": f"127.0.0.1:{port}"}},
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    _hush()
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _port_of_its_own() -> Iterator[int]:
    """Port of the local cluster that starts in the block, known beforehand so that its processes can be told.

    Ray Train asks for the state of its controller without saying of which cluster; where several run on a machine, it
    finds none and never frees the resources of a stopped trial.
    """
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    os.environ["RAY_GCS_SERVER_PORT"] = str(port)
    try:
        yield port
    finally:
        del os.environ["RAY_GCS_SERVER_PORT"]  # other clusters that this process's children start have their own


def _join() -> None:
    """Connects to the cluster that `RAY_ADDRESS` names.

    Raises:
        ClusterError: there is none, or it refuses this process.
    """
    import ray
    from ray.exceptions import AuthenticationError

    place = f"RAY_ADDRESS = {os.environ['RAY_ADDRESS']}"
    try:
        with termination.handler_kept():
            ray.init(address="auto", runtime_env=EXCHANGE_POOL, log_to_driver=False, logging_level=logging.ERROR)
    except AuthenticationError:
        raise ClusterError(
            f"{place}: the cluster refuses this process; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or put its token"
            " into ~/.ray/auth_token"
        ) from None
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ClusterError(
            f"{place}: no Ray cluster answers ({reason}); start one with `ray up FILE` or `ray start --head`, or unset"
            " RAY_ADDRESS to work on this machine alone"
        ) from None


def _hush() -> None:
    """Ray Data and Ray Train draw their own bars and tables; txrec has one display of its own."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train", "ray.tune", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
