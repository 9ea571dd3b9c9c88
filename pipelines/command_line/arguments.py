"""Arguments that the commands share, and the steps around a job: configuration, cluster and display."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.distributed import cluster
from pipelines.runs import run_files
from txrec.config import Config
from txrec.config_loader import load, with_absolute_paths
from txrec.progress import Progress

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file, e.g. configs/demo.toml.")]
Bundle = Annotated[str, typer.Option(help="A bundle or registry folder; default: the run's production bundle.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Dotted overrides, e.g. train.max_epochs=5.")
]
Again = Annotated[bool, typer.Option("--again", help="Run even if the earlier result is still valid.")]


def load_run(path: Path, overrides: Sequence[str] = (), parts: Sequence[str] = run_files.ALL) -> Config:
    """The configuration of a command, its paths absolute; of a run in object storage the parts that it reads come."""
    config = with_absolute_paths(load(path, overrides))
    run_files.fetch(config, parts)
    return config


@contextmanager
def ready_cluster(config: Config, dashboard: bool = False) -> Iterator[None]:
    """A cluster whose machines can do the work of this configuration."""
    with cluster.connect(dashboard):
        from pipelines.distributed import machines

        machines.require_ready(config)
        yield


def show_job(config: Config, name: str, job: Callable[[Progress], Any]) -> None:
    """Runs a job that is no stage on Ray, under the display."""
    from pipelines.command_line.display import Display
    from pipelines.command_line.runner import show

    with ready_cluster(config):
        show(name, Display(), job)
