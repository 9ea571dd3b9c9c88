"""Commands around a served shop: published versions, exports of the server's log, monitor, and the retraining loop."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.command_line.arguments import ConfigPath, Overrides, load_run, ready_cluster
from pipelines.runs import run_files
from txrec import object_storage
from txrec.errors import ConfigError

app = typer.Typer()


@app.command()
def models(
    config: ConfigPath,
    action: Annotated[str, typer.Argument(metavar="[list|activate|rollback]", help="What to do.")] = "list",
    version: Annotated[str, typer.Argument(help="For activate and rollback, e.g. v3.")] = "",
) -> None:
    """List the published versions, put one into production, or go back to the one before."""
    from pipelines import models as job

    cfg, console = load_run(config, parts=run_files.NONE), Console(highlight=False)
    if action == "list":
        console.print(job.models(cfg))
    elif action == "activate" and version:
        console.print(job.activate(cfg, version))
    elif action == "rollback":
        console.print(job.rollback(cfg, version))
    else:
        raise ConfigError(
            f"models {action} {version}".rstrip() + ": expected list, activate VERSION, rollback [VERSION]"
        )


@app.command()
def export_events(
    config: ConfigPath,
    overrides: Overrides = None,
    out: Annotated[
        str,
        typer.Option(help="Parquet file for the events; a source of `txrec prepare`; local or s3://, gs://, az://."),
    ] = "events.parquet",
    impressions: Annotated[str | None, typer.Option(help="Parquet file for the slates that were shown.")] = None,
) -> None:
    """Write what users did over HTTP since the server keeps it, for the next training."""
    cfg = load_run(config, overrides or [], run_files.NONE)
    from pipelines.closed_loop import export

    Console(highlight=False).print(export.run(cfg, object_storage.local_path(out), _place(impressions)).headline())


@app.command()
def export_judgments(
    config: ConfigPath,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Parquet file; a judgments source of `txrec prepare`.")] = Path(
        "judgments.parquet"
    ),
) -> None:
    """Write the grades that people gave to query-product pairs over HTTP or in the console."""
    cfg = load_run(config, overrides or [])
    from pipelines.closed_loop import export

    Console(highlight=False).print(export.run_judgments(cfg, out).headline())


@app.command()
def monitor(
    config: ConfigPath,
    overrides: Overrides = None,
    impressions: Annotated[
        str | None, typer.Option(help="Exported slates (Parquet file or folder); default: the server's store.")
    ] = None,
    events: Annotated[str | None, typer.Option(help="Exported events; belongs to --impressions.")] = None,
) -> None:
    """Join served slates with the events that followed; write monitor.html and monitor.json, decide experiments."""
    from pipelines.closed_loop import monitor as job
    from pipelines.command_line.display import Display
    from pipelines.command_line.runner import show

    cfg = load_run(config, overrides or [], run_files.MONITORED)
    show("monitor", Display(), lambda progress: job.run(cfg, _place(impressions), _place(events), progress))


@app.command()
def loop(
    config: ConfigPath,
    overrides: Overrides = None,
    once: Annotated[bool, typer.Option("--once", help="Look once and return, for cron.")] = False,
) -> None:
    """Retrain a served shop when it is due: export, prepare, train, evaluate, publish, canary, decide."""
    from pipelines.closed_loop import loop as job
    from pipelines.command_line.display import Display
    from pipelines.command_line.runner import run_through

    cfg, display = load_run(config, overrides or []), Display()
    with ready_cluster(cfg):
        tools = job.tools(
            cfg,
            lambda settings, stage: run_through(settings, stage, display),
            lambda entry: display.console.print(f"round {entry.round}, {entry.step}: {entry.text}"),
        )
        job.run(cfg, tools, once)


@app.command()
def simulate(
    config: ConfigPath,
    overrides: Overrides = None,
    url: Annotated[str, typer.Option(help="Running server, e.g. http://127.0.0.1:8000; default: in process.")] = "",
    visits: Annotated[int, typer.Option(min=1, help="Visits in all.")] = 10_000,
    threads: Annotated[int, typer.Option(min=1, help="Requests at the same time.")] = 16,
    drift_after: Annotated[int, typer.Option(min=0, help="Visits before tastes and catalogue change.")] = 0,
    drift_tastes: Annotated[float, typer.Option(min=0, max=1, help="Share of the users whose taste changes.")] = 0.0,
    new_products: Annotated[float, typer.Option(min=0, max=1, help="Share of the products wanted only then.")] = 0.0,
) -> None:
    """Let the users of the generated shop visit a running server: they search, click, buy and come back."""
    from pipelines import simulate as job
    from pipelines.command_line.display import Display
    from pipelines.command_line.runner import show

    cfg = load_run(config, overrides or [], run_files.NONE)
    plan = job.Plan(
        visits, threads=threads, drift_after=drift_after, drift_tastes=drift_tastes, new_products=new_products
    )
    key = os.environ.get("TXREC_API_KEY", "")
    show("simulate", Display(), lambda progress: job.run(cfg, plan, url, key, progress))


def _place(named: str | None) -> Path | None:
    """Path of a local file or folder, or of the working copy of one in object storage; None for None."""
    return object_storage.local_path(named) if named else None
