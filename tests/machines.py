"""Machines made of Linux namespaces, for tests of a cluster whose machines share nothing but the network.

A machine is a network, process, mount, host name and IPC namespace with an SSH server: an address of its own on a
bridge that exists for the test alone, its own process table, /tmp, /dev/shm, /run and home folder. Of this computer it
sees the system's programs, the Python environment (read-only, as if installed there) and neither this checkout nor
/tmp.

Only root can make namespaces, and only on Linux. `unavailable` says what is missing.
"""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).parent.parent
PROGRAMS = {"ip": "iproute2", "sshd": "openssh-server", "ssh-keygen": "openssh-client", "rsync": "rsync"}
"""Programs that machines are made with, and Debian's packages of them."""
SSH_OPTIONS = (
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5",
    "-o", "LogLevel=ERROR",
)  # fmt: skip
"""Machines live for one test, so nobody knows their host keys."""
_NO_TERMINAL = ("bash: cannot set terminal process group", "bash: no job control")
ENVIRONMENT = Path(sys.prefix).resolve()
"""The Python environment that is installed on every machine."""
_START = r"""
set -e
hostname "$name"; mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/sshd /run/machine /run/environment /run/python
cp -r "$folder/." /run/machine; chmod 600 /run/machine/host_key
mount --bind "$environment" /run/environment; mount --bind "$python" /run/python
for hidden in /root /tmp /dev/shm $checkouts; do
  if [ -d "$hidden" ]; then mount -t tmpfs -o size=4g,mode=1777 tmpfs "$hidden"; fi  # else it was in one of the others
done
chmod 700 /root
mkdir -p "$environment" "$python" /root/.ssh
mount --bind /run/environment "$environment"; mount -o remount,ro,bind "$environment"
mount --bind /run/python "$python"; mount -o remount,ro,bind "$python"
cp /run/machine/key.pub /root/.ssh/authorized_keys; chmod -R go= /root/.ssh
cp /run/machine/bashrc /root/.bashrc; ln -s "$environment" /root/venv
mount --bind /run/machine/hosts /etc/hosts
exec "$sshd" -D -e -f /run/machine/sshd_config
"""


def unavailable() -> str:
    """Why machines cannot be made here; empty if they can."""
    if platform.system() != "Linux" or os.geteuid() != 0:
        return "machines of namespaces need root on Linux"
    missing = sorted(package for program, package in PROGRAMS.items() if not _program(program))
    if missing:
        return f"machines of namespaces need the packages {', '.join(missing)}"
    tried = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    return f"the system makes no namespaces: {tried.stderr.decode().strip()}" if tried.returncode else ""


@dataclass(frozen=True)
class Machine:
    """A machine that runs."""

    name: str
    address: str
    key: Path
    """Private SSH key of its root."""

    def run(self, command: str, timeout_s: float = 120) -> "subprocess.CompletedProcess[str]":
        """Runs a command of its shell, with the environment of its logins."""
        done = subprocess.run(
            [*self._ssh(), f"bash -ic {shlex.quote(command)}"],
            capture_output=True, text=True, check=False, timeout=timeout_s, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        lines = [line for line in done.stderr.splitlines() if not line.startswith(_NO_TERMINAL)]
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout, "\n".join(lines))

    def kill(self) -> None:
        """Ends every process of the machine at once, as if its plug were pulled."""
        inside = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True)
        subprocess.run(["kill", "-9", *inside.stdout.split()], check=False, capture_output=True)

    def answers(self) -> bool:
        """Whether its SSH server takes connections."""
        return subprocess.run([*self._ssh(), "true"], capture_output=True, check=False).returncode == 0

    def _ssh(self) -> list[str]:
        return ["ssh", "-i", str(self.key), *SSH_OPTIONS, f"root@{self.address}"]


@dataclass(frozen=True)
class Machines:
    """Machines on one bridge, and this computer's address on it."""

    here: str
    all: tuple[Machine, ...]
    key: Path


@contextmanager
def machines(
    count: int, folder: Path, environment: Mapping[str, str], files: Mapping[str, Path] = MappingProxyType({})
) -> Iterator[Machines]:
    """Starts machines and stops whatever still runs on them at the end.

    Args:
        count: of machines.
        folder: for their keys and settings.
        environment: variables of every login.
        files: of every machine, by their paths below /run/machine.
    """
    net, tag = f"10.213.{os.getpid() % 250}", f"{os.getpid() % 100_000}"
    key = folder / "key"
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key"))
    made = [Machine(f"m{tag}-{number}", f"{net}.{number}", key) for number in range(1, count + 1)]
    with ExitStack() as stack:
        bridge = f"br{tag}"
        _run("ip", "link", "add", bridge, "type", "bridge")
        stack.callback(_run, "ip", "link", "del", bridge)
        _run("ip", "addr", "add", f"{net}.254/24", "dev", bridge)
        _run("ip", "link", "set", bridge, "up")
        for machine in made:
            _connect(machine, bridge, stack)
        for machine in made:
            own = folder / machine.name
            for name, file in files.items():
                (own / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, own / name)
            stack.enter_context(_started(machine, made, folder, environment))
        for machine in made:
            _wait_for(machine)
        yield Machines(f"{net}.254", tuple(made), key)


def _connect(machine: Machine, bridge: str, stack: ExitStack) -> None:
    """Gives a machine its network namespace, on the bridge."""
    outside = f"v{machine.name}"
    _run("ip", "netns", "add", machine.name)
    stack.callback(_run, "ip", "netns", "del", machine.name)
    _run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
    _run("ip", "link", "set", outside, "master", bridge, "up")
    _run("ip", "-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", "eth0")
    for device in ("eth0", "lo"):
        _run("ip", "-n", machine.name, "link", "set", device, "up")


@contextmanager
def _started(machine: Machine, made: list[Machine], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    own = folder / machine.name
    own.mkdir(exist_ok=True)
    for name in ("key.pub", "host_key"):
        shutil.copy(folder / name, own / name)
    (own / "hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{each.address} {each.name}\n" for each in made))
    exports = (f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    (own / "bashrc").write_text("".join(exports) + "source ~/venv/bin/activate\n")
    lines = (f"ListenAddress {machine.address}", "HostKey /run/machine/host_key", "PermitRootLogin yes",
             "PasswordAuthentication no", "StrictModes no", "UsePAM no", "MaxStartups 100", "MaxSessions 100",
             "Subsystem sftp internal-sftp")  # fmt: skip
    (own / "sshd_config").write_text("\n".join(lines) + "\n")
    variables = {
        "name": machine.name,
        "folder": str(own),
        "environment": str(ENVIRONMENT),
        "python": sys.base_prefix,
        "checkouts": " ".join(sorted(_checkouts())),
        "sshd": str(_program("sshd")),
    }
    command = ["ip", "netns", "exec", machine.name, "unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts"]
    with (folder / f"{machine.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--ipc", "--mount-proc", "bash", "-c", _START],
            env={"PATH": os.environ["PATH"], **variables}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield
    finally:
        machine.kill()
        process.kill()
        process.wait(timeout=30)


def _wait_for(machine: Machine) -> None:
    deadline = time.monotonic() + 120
    while not machine.answers():
        log = machine.key.parent / f"{machine.name}.log"
        assert time.monotonic() < deadline, f"{machine.name} does not answer: {log.read_text()[-2000:]}"
        time.sleep(0.1)


def _checkouts() -> set[str]:
    """This checkout, and the one that the environment was installed from."""
    installed = metadata.distribution("txrec").read_text("direct_url.json")
    source = json.loads(installed)["url"].removeprefix("file://") if installed else str(ROOT)
    return {str(ROOT), source}


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
