"""Machines of a cluster before a command works on them: package, host names, shared files, object storage.

Each machine answers one small task; the first thing that it lacks is the command's error. A cluster of one machine
needs no check, because the driver's own errors say the same.
"""

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.distributed import cluster
from txrec import __version__, object_storage, objects
from txrec.config import CHECKPOINT, Config
from txrec.errors import ClusterError, StorageError, TxrecError

TIMEOUT_S = 60.0
"""Longest wait for the machines' answers, seconds."""
_PROBE = ".seen-"


@dataclass(frozen=True)
class View:
    """Observations of one machine."""

    version: str
    """Version of txrec."""
    address: str
    """Address that its own host name resolves to; empty = none."""
    absent: tuple[str, ...]
    """Configured paths that do not exist there."""
    storage_error: str
    """Error of object storage as seen from there; empty = none."""


def require_ready(config: Config) -> None:
    """Checks every machine of the cluster that this process is connected to.

    Raises:
        ClusterError: a machine lacks the package, or cannot be reached by its name.
        StorageError: a machine does not see the run's folder or a source, or cannot use object storage.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if len(nodes) < 2:
        return
    with ExitStack() as stack:
        settings = _shared(config, stack)
        uri = object_storage.uri_of(config.run_dir)
        tasks = {node["NodeManagerHostname"]: _ask(node["NodeID"], tuple(settings), uri) for node in nodes}
        for name, answer in tasks.items():
            require(config, name, _answer(name, answer), settings)


def look(paths: tuple[str, ...], uri: str | None) -> View:
    """Observations of this machine; runs in a task there."""
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        address = ""
    error = ""
    try:
        if uri is not None:
            objects.stat(f"{uri}/stages.json")
    except StorageError as refused:
        error = str(refused)
    return View(__version__, address, tuple(path for path in paths if not os.path.exists(path)), error)


def require(config: Config, machine: str, view: View, settings: dict[str, str]) -> None:
    """Raises the error of the first thing that a machine lacks.

    Args:
        config: of the command.
        machine: name of the machine.
        view: observations of a machine.
        settings: key of the configuration by path.

    Raises:
        ClusterError: see `require_ready`.
        StorageError: see `require_ready`.
    """
    if view.version != __version__:
        raise ClusterError(
            f"machine {machine}: has txrec {view.version}, the driver {__version__}; install the same version on all,"
            " or submit the command as a job with --working-dir"
        )
    if view.storage_error:
        raise StorageError(f"machine {machine}: {view.storage_error}")
    for path in view.absent:
        shown = Path(path).parent if Path(path).name.startswith(_PROBE) else path
        raise StorageError(
            f"{settings[path]} = {shown}: the machine {machine} does not see it, only the driver does; set"
            f" {settings[path]} to object storage (s3://, gs://, az://) or to a folder that every machine mounts"
        )
    if config.train.num_workers > 1 and (not view.address or view.address.startswith("127.")):
        resolved = f"resolves to {view.address} there" if view.address else "does not resolve there"
        raise ClusterError(
            f"machine {machine}: its own name {resolved}, so workers of one training cannot reach each other; put the"
            " names and addresses of all machines into /etc/hosts of each, or set train.num_workers=1"
        )


def _ask(node: str, paths: tuple[str, ...], uri: str | None) -> Any:
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    task: Any = ray.remote(look).options(
        num_cpus=0, max_retries=0, scheduling_strategy=here, runtime_env=cluster.EXCHANGE_POOL
    )
    return task.remote(paths, uri)


def _answer(machine: str, answer: Any) -> View:
    try:
        view: View = ray.get(answer, timeout=TIMEOUT_S)
    except TxrecError:
        raise
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if "No module named" in line]
        if lines:
            missing = lines[-1].partition("No module named")[2].strip().strip("'\"")
            raise ClusterError(
                f"machine {machine}: its Python has no module {missing}; install txrec there, or submit the command as"
                " a job with --working-dir"
            ) from None
        reason = str(error).strip().splitlines()[-1][:200]
        raise ClusterError(
            f"machine {machine}: does not answer ({reason}); see `ray status`, restart Ray there"
        ) from None
    return view


def _shared(config: Config, stack: ExitStack) -> dict[str, str]:
    """Local paths that every machine must see, with the key of the setting that names them."""
    settings = {}
    if not objects.is_uri(config.runs_root):
        settings[str(stack.enter_context(_probe(Path(config.runs_root))))] = "runs_root"
    if not objects.is_uri(config.data.root):
        if config.data.shop is not None:
            settings[str(stack.enter_context(_probe(Path(config.data.root))))] = "data.root"
        elif _reads_below_root(config) and Path(config.data.root).exists():
            settings[config.data.root] = "data.root"
    encoder = config.text.encoder.removeprefix(CHECKPOINT)
    if encoder != config.text.encoder and Path(encoder).exists():
        settings[encoder] = "text.encoder"
    return settings


def _reads_below_root(config: Config) -> bool:
    sources = (*config.data.events, *config.data.items, *config.data.judgments)
    return any(source.path and "://" not in source.path and not Path(source.path).is_absolute() for source in sources)


@contextmanager
def _probe(folder: Path) -> Iterator[Path]:
    """An empty file in a folder, to be looked for by other machines."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{_PROBE}{uuid.uuid4().hex}"
    file.touch()
    try:
        yield file
    finally:
        file.unlink()
