"""The project's own-machines cluster on machines of namespaces: `ray up` to `ray down`, and what runs in between."""

import json
import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import yaml

from tests import services, worker_client
from tests.machines import ENVIRONMENT, ROOT, SSH_OPTIONS, Machine, Machines, machines
from tests.waiting import wait_until

RAY = Path(sys.executable).parent / "ray"
SMALL = (
    "data.shop.num_items=200", "data.shop.num_users=200", "data.shop.num_events=4000", "prepare.num_partitions=2",
    "evaluate.bootstrap=50", "text.encoder=none", "train.max_epochs=1", "ranker.max_epochs=1",
    "train.cpus_per_worker=2",
)  # fmt: skip
"""Two CPUs per worker: a machine has two, so that workers come to lie on different machines."""


FORKING = {
    f"tests/{name}.py": ROOT / "tests" / f"{name}.py"
    for name in ("__init__", "machine_ray", "worker_client", "worker_server", "workers")
}
"""Files that a machine forks the workers of Ray with."""
FORK_SERVER = f"{ENVIRONMENT}/bin/python -m tests.worker_server"
SOCKET = "/run/workers"


@dataclass(frozen=True)
class OwnMachines:
    """A cluster that `ray up` started, S3 and Redis beside it."""

    machines: Machines
    token: str
    jobs: str
    """URL of the head's job server, forwarded to this computer."""
    state: str
    """URL of Redis."""
    endpoint: str
    """URL of the S3 server."""
    file: Path
    """The cluster file."""

    @property
    def head(self) -> Machine:
        """The machine that drivers of jobs run on."""
        return self.machines.all[0]

    def submit(self, command: str, *settings: str) -> "subprocess.CompletedProcess[str]":
        """`ray job submit` of a command of txrec, from this checkout."""
        return self.ray("job", "submit", *self.submission, "--", *entry(command, *settings))

    def deploy(self, bundle: str) -> None:
        """`serve deploy` of the project's Serve file with a bundle or registry and this cluster's Redis."""
        deployment = yaml.safe_load((ROOT / "deploy" / "serve.yaml").read_text())
        deployment["applications"][0]["args"] |= {"bundle": bundle, "state": self.state}
        file = self.file.with_name("serve.yaml")
        file.write_text(yaml.safe_dump(deployment))
        command = [str(RAY.with_name("serve")), "deploy", str(file), "--address", self.jobs]
        done = subprocess.run(
            command, env=environment(self.token), capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def submission(self) -> tuple[str, ...]:
        """Options of `ray job submit`."""
        return ("--address", self.jobs, "--working-dir", ".", "--runtime-env", "deploy/job.yaml")

    def ray(self, *arguments: str, timeout_s: float = 240) -> "subprocess.CompletedProcess[str]":
        """Runs Ray's own command line on this computer."""
        return subprocess.run(
            [str(RAY), *arguments], cwd=ROOT, env=environment(self.token), capture_output=True, text=True, check=False,
            timeout=timeout_s, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def alive(self) -> set[str]:
        """Addresses of the machines whose Ray node is alive."""
        return {node["node_ip"] for node in self.state_of("nodes") if node["state"] == "ALIVE"}

    def workers(self, job: str) -> list[set[str]]:
        """Addresses of the machines on which the workers of a job's trainings ran, one set per training."""
        addresses = {node["node_id"]: node["node_ip"] for node in self.state_of("nodes")}
        trainings: dict[str, set[str]] = {}
        for actor in self.state_of("actors?detail=true&limit=1000"):
            if actor["class_name"] == "RayTrainWorker" and actor["job_id"] == job:
                trainings.setdefault(actor["placement_group_id"], set()).add(addresses[actor["node_id"]])
        return list(trainings.values())

    def last_job(self) -> str:
        """Id of the job that began last."""
        return max(actor["job_id"] for actor in self.state_of("actors?detail=true&limit=1000"))

    def processes(self, machine: Machine) -> list[str]:
        """Commands that run on a machine beside its SSH and fork servers and this question."""
        lines = machine.run("ps -eo stat=,args=").stdout.splitlines()
        own = ("sshd", "/usr/sbin/sshd", "bash -ic", "ps -eo", FORK_SERVER)
        return [line for line in lines if not line.split(maxsplit=1)[1].startswith(own)]

    def state_of(self, what: str) -> list[dict[str, Any]]:
        """Rows of Ray's state API."""
        request = Request(f"{self.jobs}/api/v0/{what}", headers={"Authorization": f"Bearer {self.token}"})
        with urlopen(request, timeout=30) as answer:
            rows: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
        return rows


def entry(command: str, *settings: str) -> list[str]:
    """A command of txrec on the tiny shop, its run in the bucket."""
    places = ("runs_root=s3://shop/runs", "data.root=s3://shop/raw")
    return ["python", "-m", "pipelines", *command.split(), "configs/demo.toml", *places, *SMALL, *settings]


def environment(token: str) -> dict[str, str]:
    """Of Ray's command line on this computer."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "TXREC_"))}
    return {**kept, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def own_machines(folder: Path) -> Iterator[OwnMachines]:
    """Three machines with Ray on them, by `ray up` of deploy/cluster-own-machines.yaml."""
    token = secrets.token_hex(32)
    login = {**services.s3_environment("http://10.0.0.0"), "PYTHONPATH": "/root/txrec", "OMP_NUM_THREADS": "1"}
    login[worker_client.SOCKET_VARIABLE] = SOCKET
    with ExitStack() as stack:
        made = stack.enter_context(machines(3, folder, login, FORKING))
        with ThreadPoolExecutor() as pool:
            list(pool.map(_fork_workers, made.all))
        state = stack.enter_context(services.redis(host=made.here))
        endpoint = stack.enter_context(services.s3_server(made.here))
        for machine in made.all:
            machine.run(f"sed -i '1i export AWS_ENDPOINT_URL={endpoint}' ~/.bashrc; sed -i '/10.0.0.0/d' ~/.bashrc")
        port = services.free_port()
        own = OwnMachines(made, token, f"http://127.0.0.1:{port}", state, endpoint, _cluster_file(folder, made, token))
        stack.enter_context(_forwarded(own, port))
        yield own


def _fork_workers(machine: Machine) -> None:
    """Starts a machine's fork server, and lets its `ray` use it: a fork spares a worker the imports, seconds each."""
    python, program = f"{ENVIRONMENT}/bin/python", "/run/machine/ray"
    script = f'#!/bin/sh\nexec {python} /run/machine/tests/machine_ray.py "$@"\n'
    done = machine.run(
        f"printf %s {shlex.quote(script)} > {program} && chmod 755 {program} && "
        f"mount --bind {program} {ENVIRONMENT}/bin/ray && cd /run/machine && "
        f"(setsid {FORK_SERVER} {SOCKET} < /dev/null > /run/workers.log 2>&1 &)"
    )
    assert done.returncode == 0, done.stderr
    wait_until("the fork server listens", lambda: machine.run(f"test -S {SOCKET}").returncode == 0, 60, 0.5)


def _cluster_file(folder: Path, made: Machines, token: str) -> Path:
    """The project's file with the addresses, the key and the token of these machines."""
    (folder / "token").write_text(token)
    cluster: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "cluster-own-machines.yaml").read_text())
    head, *workers = (machine.address for machine in made.all)
    cluster["cluster_name"] = f"txrec-{os.getpid()}"
    cluster["provider"] |= {"head_ip": head, "worker_ips": workers}
    cluster["auth"] = {"ssh_user": "root", "ssh_private_key": str(made.key)}
    cluster["file_mounts"]["~/.ray/auth_token"] = str(folder / "token")
    file = folder / "cluster.yaml"
    file.write_text(yaml.safe_dump(cluster))
    return file


@contextmanager
def _forwarded(own: OwnMachines, port: int) -> Iterator[None]:
    """Forwards the head's job server to a port of this computer."""
    tunnel = f"127.0.0.1:{port}:127.0.0.1:8265"
    command = ["ssh", "-i", str(own.machines.key), *SSH_OPTIONS, "-N", "-L", tunnel, f"root@{own.head.address}"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)
