"""Real services for tests, on free loopback ports, stopped at the end of the block: PostgreSQL, S3, Redis and Ray."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil
import psycopg
import pytest
import redis as redis_client
from moto.server import ThreadedMotoServer


def absent(what: str) -> NoReturn:
    """Skips the test because a program is not installed; on a CI machine that is a failure."""
    impossible(f"{what} is not installed")


def impossible(reason: str) -> NoReturn:
    """Skips the test because this computer cannot run it; on a CI machine that is a failure."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason}, and CI must run this test")
    pytest.skip(reason)


@contextmanager
def s3(host: str = "127.0.0.1") -> Iterator[str]:
    """Runs an S3 server; yields its address as host:port."""
    server = ThreadedMotoServer(ip_address=host, port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"{host}:{port}"
    finally:
        server.stop()


@contextmanager
def s3_server(host: str = "127.0.0.1") -> Iterator[str]:
    """Runs an S3 server in a process of its own, for tests with many clients; yields its URL."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "--host", host, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(host, port, server)
        yield f"http://{host}:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def use_s3(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Sets the usual variables for a test server of this URL, in this process and those that it starts."""
    for name, value in s3_environment(endpoint).items():
        monkeypatch.setenv(name, value)


def s3_environment(endpoint: str) -> dict[str, str]:
    """The usual variables for a test server of this URL."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextmanager
def postgres() -> Iterator[str]:
    """Runs a PostgreSQL server with a new, empty database; yields its connection string."""
    with tempfile.TemporaryDirectory(prefix="txrec-postgres-") as name:  # pytest's own folders are closed to others
        yield from _postgres_in(Path(name))


def _postgres_in(folder: Path) -> Iterator[str]:
    data, port = folder / "data", free_port()
    _as_user(folder, [_binary("initdb"), "--pgdata", data, "--username=shop", "--auth=trust", "--encoding=UTF8"])
    options = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    with (folder / "log").open("wb") as log:
        command = _command([_binary("postgres"), "-D", data, "-p", port, *options])
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    url = f"postgresql://shop@127.0.0.1:{port}/postgres"
    try:
        _wait_for(url, server)
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # fast shutdown: open connections are cut
        server.wait(timeout=30)


@contextmanager
def redis(folder: Path | None = None, port: int = 0, cluster: bool = False, host: str = "127.0.0.1") -> Iterator[str]:
    """Runs a Redis server that writes every command to disk before it answers; yields its URL.

    Args:
        folder: holds its data; without, they are gone in the end.
        port: 0 = any.
        cluster: makes it a Redis Cluster of one node that holds all slots.
        host: address that it listens on, without a password.
    """
    program = shutil.which("redis-server")
    if program is None:
        absent("Redis (redis-server)")
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="txrec-redis-") as own:
        options = [
            "--bind",
            host,
            "--protected-mode",
            "no",
            "--dir",
            str(folder or own),
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ]
        if cluster:
            options += ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        command = [str(program), "--port", str(port), *options]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for_port(host, port, server)
            if cluster:
                _assign_all_slots(port)
            yield f"redis://{host}:{port}/0"
        finally:
            server.terminate()
            server.wait(timeout=30)


def _assign_all_slots(port: int) -> None:
    node = redis_client.Redis(port=port, decode_responses=True)
    node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
    deadline = time.monotonic() + 120
    while "cluster_state:ok" not in str(node.execute_command("CLUSTER", "INFO")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    node.close()


RAY = Path(sys.executable).parent / "ray"


@dataclass(frozen=True)
class Head:
    """The first machine of a Ray cluster."""

    address: str
    """host:port, as `RAY_ADDRESS` takes it."""
    dashboard: str
    """URL of the dashboard, which takes jobs."""


def ray_environment() -> dict[str, str]:
    """Environment of commands that run on a `ray_head`: the caller's, without the settings of other clusters."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    return {**kept, **own, "PATH": f"{RAY.parent}:{kept['PATH']}"}


@contextmanager
def ray_head() -> Iterator[Head]:
    """Runs `ray start --head`; only this cluster is stopped."""
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # Ray's socket paths must be short
    gcs, dashboard = free_port(), free_port()
    command = [sys.executable, str(Path(__file__).with_name("forking.py")), "ray.scripts.scripts"]
    command += ["start", "--head", "--block"]
    command += [f"--port={gcs}", f"--temp-dir={folder}"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    command += [f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}"]
    log = Path(folder) / "start.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=ray_environment(), stdout=output, stderr=output, start_new_session=True, cwd=folder
        )
    head = Head(f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}")
    try:
        _wait_for_dashboard(head, process, log)
        yield head
    finally:
        _kill_with_children(process)
        shutil.rmtree(folder, ignore_errors=True)


def _kill_with_children(process: "subprocess.Popen[bytes]") -> None:
    """Ends a cluster at once; asked to stop, it takes up to half a minute."""
    ours = [*psutil.Process(process.pid).children(recursive=True), process]
    for one in ours:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait(timeout=60)


def _wait_for_dashboard(head: Head, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"{head.dashboard}/api/jobs/", timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)


def wait_for_port(host: str, port: int, server: "subprocess.Popen[bytes]") -> None:
    """Waits until a server that was just started takes connections."""
    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _binary(name: str) -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    on_path = shutil.which(name)
    if not found and not on_path:
        absent(f"PostgreSQL ({name})")
    return found[-1] if found else Path(str(on_path))


def _command(parts: list[object]) -> list[str]:
    """PostgreSQL refuses to run as root: then it runs as the user that its package made."""
    become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    return [*become, *(str(part) for part in parts)]


def _as_user(folder: Path, parts: list[object]) -> None:
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    subprocess.run(_command(parts), check=True, capture_output=True, cwd=folder)


def _wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
