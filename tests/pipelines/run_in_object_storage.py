"""A run whose every file is in object storage, by the command line, on one Ray cluster; prints what the commands print.

    python -m tests.pipelines.run_in_object_storage CONFIG SLATES FOLDER

The driver gets an empty folder of working copies before each group of commands, as if it ran on another machine.
"""

import os
import sys
from pathlib import Path

import serve.app
from pipelines.__main__ import app
from pipelines.distributed import cluster
from tests.workers import forked_workers
from txrec.client import Client
from txrec.config_loader import load


def main() -> None:
    config, slates, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    os.environ["TXREC_CACHE"] = str(folder / "workers")  # of everything that Ray starts
    with forked_workers(), cluster.connect():
        on_machine(folder / "first")
        txrec("publish", config)
        on_machine(folder / "second")
        txrec("train", config)
        txrec("recommend", config, "--out", slates, "--top-k", "5")
        txrec("evaluate", config, "--compare", "candidate", "production")
        on_machine(folder / "third")
        serve_and_swap(config)
        txrec("monitor", config)
        txrec("models", config, "rollback")
        txrec("models", config)


def on_machine(cache: Path) -> None:
    """Sets the driver's folder of working copies."""
    os.environ["TXREC_CACHE"] = str(cache)


def txrec(*arguments: str) -> None:
    """Runs a command of the command line."""
    sys.stdout.write(f"$ txrec {' '.join(arguments)}\n")
    sys.stdout.flush()
    app(list(arguments), standalone_mode=False)


def serve_and_swap(config: str) -> None:
    """Serves the registry, publishes a second version and activates the first one over HTTP."""
    settings = load(config)
    url = serve.app.start(f"{settings.runs_root}/{settings.name}/registry", settings.serve)
    with Client(url, timeout_s=60) as client:
        say("served by", client.search("phone", top_k=3)["model_version"])
        txrec("publish", config, "--force")
        client.activate("v2")
        say("after the swap by", client.search("phone", top_k=3)["model_version"])
        client.activate("v1")
        slate = client.recommend(user_id="u00001", top_k=3)
        say("after going back by", slate["model_version"], len(slate["items"]), "items")
        click = {"user_id": "u00001", "event": "click", "item_id": slate["items"][0]["item_id"]}
        client.log({**click, "request_id": slate["request_id"]})
    serve.app.stop()


def say(*words: object) -> None:
    """Prints a line at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
