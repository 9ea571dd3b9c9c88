"""Prepares on a Ray cluster of three nodes on this machine, and kills a worker and a node while it does.

    python -m tests.pipelines.prepare_on_nodes CONFIG RANGE_BYTES

Prints what it killed, one line each.
"""

import sys
import threading
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster

from pipelines import prepare
from tests.workers import forked_workers
from txrec.config_loader import load
from txrec.data.formats import files

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20}


def say(line: str) -> None:
    """Writes a line at once, also from a thread."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class KillWorker(threading.Thread):
    """Kills the first process that works on a task of the preparation."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.005):
            for process in psutil.Process().children(recursive=True):
                try:
                    title = " ".join(process.cmdline())
                except psutil.Error:  # it has ended
                    continue
                if title.startswith("ray::") and ("event_rows" in title or "HashShuffle" in title):
                    process.kill()
                    say(f"killed worker {title.split('(')[0]}")
                    return


def main() -> None:
    files.RANGE_BYTES = int(sys.argv[2])
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    nodes = [cluster.add_node(**NODE) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    killer = KillWorker()

    def progress(phase: str, step: int, total: int | None, **_: float) -> None:
        if phase.startswith("reading"):
            killer.start()
        elif phase.startswith("counting") and nodes:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            say("killed node")

    try:
        report = prepare.run(load(sys.argv[1]), progress)
        killer.over.set()
        say(f"kept {report.total.kept}")
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    with forked_workers():
        main()
