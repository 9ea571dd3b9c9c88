"""The command line: parse, call, print. Installed as `txrec`; also `python -m pipelines`."""

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import tomli_w
import typer
from rich.console import Console

from pipelines import cluster, runs
from txrec import __version__, object_storage
from txrec.config import Config
from txrec.config_loader import load, with_absolute_paths
from txrec.errors import ConfigError, TxrecError
from txrec.progress import Progress

app = typer.Typer(
    name="txrec",
    help="Product recommender and product search for a shop's own logs.\n\n"
    "Every command takes a configuration file and any number of dotted overrides:\n\n"
    "    txrec train configs/demo.toml train.max_epochs=5 model.dim=128\n\n"
    "Stages run in the order prepare, pretrain, train, evaluate, publish; a command first runs the stages before it"
    " whose result is missing or was made with other settings or data.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file, e.g. configs/demo.toml.")]
Bundle = Annotated[str, typer.Option(help="A bundle or registry folder; default: the run's production bundle.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Dotted overrides, e.g. train.max_epochs=5.")
]
Again = Annotated[bool, typer.Option("--again", help="Run even if the earlier result is still valid.")]


def main() -> None:
    """Runs the command line; an error of the user's is one message and an exit code, never a traceback."""
    cluster.set_environment()
    try:
        app()
    except TxrecError as error:
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"error: {error}", style="red")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a command, its paths absolute and, in object storage, its files fetched."""
    config = with_absolute_paths(load(path, overrides))
    runs.fetch(config)
    return config


def _stage_command(name: str, text: str) -> None:
    """Registers a verb that runs one stage."""

    def command(config: ConfigPath, overrides: Overrides = None, again: Again = False) -> None:
        _run_through(name, _load(config, overrides or []), again)

    command.__doc__ = text
    app.command(name)(command)


def _run_through(name: str, config: Config, again: bool, **options: Any) -> None:
    from pipelines.display import Display
    from pipelines.runner import run_through

    with cluster.connect():
        run_through(config, name, Display(), again, **options)


@app.command()
def prepare(
    config: ConfigPath,
    overrides: Overrides = None,
    accept: Annotated[
        str, typer.Option(metavar="REASON", help="Accept a log that differs from the last preparation; recorded.")
    ] = "",
    again: Again = False,
) -> None:
    """Read, validate, clean and split the log; write the prepared tables and the data report."""
    _run_through("prepare", _load(config, overrides or []), again or bool(accept), accept=accept)


_stage_command("pretrain", "Pre-train the text encoder on catalogue and query text, then fine-tune it on clicks.")
_stage_command("train", "Train the history model and the ranker; write a complete, unpublished bundle.")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"txrec {__version__}")
        raise typer.Exit


@app.command()
def evaluate(
    config: ConfigPath,
    overrides: Overrides = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Lay two bundles side by side: versions such as v1, `candidate`, or folders."),
    ] = None,
    off_policy: Annotated[
        str,
        typer.Option(
            metavar="BUNDLE",
            help="Estimate what a bundle (`candidate`, a version, a folder) would have earned on served slates.",
        ),
    ] = "",
    reward: Annotated[
        str, typer.Option(help="Of --off-policy, per place: click, cart, purchase or revenue.")
    ] = "click",
    again: Again = False,
) -> None:
    """Measure the trained bundle on the test part, beside baselines; write metrics.json and report.html."""
    cfg = _load(config, overrides or [])
    if off_policy:
        _off_policy(cfg, off_policy, reward)
        return
    if compare is None:
        _run_through("evaluate", cfg, again)
        return
    from pipelines import evaluate as stage

    first, second = compare
    _show("compare", lambda progress: stage.compare(cfg, first, second, progress))


def _off_policy(config: Config, bundle: str, reward: str) -> None:
    from pipelines import off_policy as job
    from pipelines.display import Display
    from pipelines.runner import show

    rewards = get_args(job.Reward)
    if reward not in rewards:
        raise ConfigError(f"--reward {reward}: expected one of {', '.join(rewards)}")
    show("off-policy", Display(), lambda progress: job.run(config, bundle, reward, progress=progress))  # type: ignore[arg-type]


@app.command()
def publish(
    config: ConfigPath,
    overrides: Overrides = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote whatever the gate says; the manifest records it.")
    ] = False,
    again: Again = False,
) -> None:
    """Register the trained bundle as a new version and promote it if it is not worse than production."""
    _run_through("publish", _load(config, overrides or []), again or force, force=force)


@app.command()
def tune(config: ConfigPath, overrides: Overrides = None) -> None:
    """Search hyperparameters over `tune.space` on validation; write the best configuration as TOML."""
    from pipelines.display import Display
    from pipelines.runner import run_through, show

    cfg, display = _load(config, overrides or []), Display()
    with cluster.connect(dashboard=True):
        run_through(cfg, "pretrain", display)
        from pipelines import tune as job

        show("tune", display, lambda progress: job.run(cfg, progress, display.below))


@app.command()
def recommend(
    config: ConfigPath,
    overrides: Overrides = None,
    users: Annotated[str, typer.Option(help="A file of user ids, or `all`.")] = "all",
    out: Annotated[str, typer.Option(help="Folder for the Parquet files, or s3://, gs://, az://.")] = "recommendations",
    top_k: Annotated[int, typer.Option(min=1, help="Items per user.")] = 25,
    bundle: Bundle = "",
    exclude_seen: Annotated[bool, typer.Option("--exclude-seen", help="Leave out what a user already had.")] = False,
) -> None:
    """Recommend to many users at once and write Parquet; run again after an interruption, it goes on."""
    cfg = _load(config, overrides or [])
    from pipelines import recommend as job

    options, folder = job.BatchOptions(top_k, bundle, exclude_seen), object_storage.local_path(out)
    _show("recommend", lambda progress: job.run(cfg, users, folder, options, progress))


@app.command()
def models(
    config: ConfigPath,
    action: Annotated[str, typer.Argument(metavar="[list|activate|rollback]", help="What to do.")] = "list",
    version: Annotated[str, typer.Argument(help="For activate and rollback, e.g. v3.")] = "",
) -> None:
    """List the published versions, put one into production, or go back to the one before."""
    from pipelines import registry

    cfg, console = _load(config), Console(highlight=False)
    if action == "list":
        console.print(registry.models(cfg))
    elif action == "activate" and version:
        console.print(registry.activate(cfg, version))
    elif action == "rollback":
        console.print(registry.rollback(cfg, version))
    else:
        raise ConfigError(
            f"models {action} {version}".rstrip() + ": expected list, activate VERSION, rollback [VERSION]"
        )


@app.command("config")
def show_config(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="TOML file, e.g. configs/demo.toml.")] = None,
    overrides: Overrides = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Print every setting with its meaning instead, as Markdown.")
    ] = False,
) -> None:
    """Print the whole configuration as it is used, defaults included, as TOML."""
    from txrec import config_reference

    if reference:
        typer.echo(config_reference.reference(), nl=False)
    elif config is None:
        raise ConfigError("config: expected a configuration file, e.g. configs/demo.toml, or --reference")
    else:
        typer.echo(tomli_w.dumps(config_reference.effective(load(config, overrides or []))), nl=False)


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
    cfg = _load(config, overrides or [])
    from pipelines import export

    Console(highlight=False).print(
        export.run(
            cfg, object_storage.local_path(out), object_storage.local_path(impressions) if impressions else None
        ).headline()
    )


@app.command()
def export_judgments(
    config: ConfigPath,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Parquet file; a judgments source of `txrec prepare`.")] = Path(
        "judgments.parquet"
    ),
) -> None:
    """Write the grades that people gave to query-product pairs over HTTP or in the console."""
    cfg = _load(config, overrides or [])
    from pipelines import export

    Console(highlight=False).print(export.run_judgments(cfg, out).headline())


@app.command()
def monitor(
    config: ConfigPath,
    overrides: Overrides = None,
    impressions: Annotated[
        Path | None, typer.Option(help="Exported slates (Parquet file or folder); default: the server's store.")
    ] = None,
    events: Annotated[Path | None, typer.Option(help="Exported events; belongs to --impressions.")] = None,
) -> None:
    """Join served slates with the events that followed; write monitor.html and monitor.json, decide experiments."""
    from pipelines import monitor as job
    from pipelines.display import Display
    from pipelines.runner import show

    cfg = _load(config, overrides or [])
    show("monitor", Display(), lambda progress: job.run(cfg, impressions, events, progress))


def _show(name: str, job: Callable[[Progress], Any]) -> None:
    """Runs a job that is no stage on Ray, under the display."""
    from pipelines.display import Display
    from pipelines.runner import show

    with cluster.connect():
        show(name, Display(), job)


@app.command()
def demo(
    config: ConfigPath,
    overrides: Overrides = None,
    once: Annotated[bool, typer.Option("--once", help="Stop after the example request.")] = False,
    again: Again = False,
) -> None:
    """Run every stage, serve the result, answer one example request; serve until Ctrl-C."""
    from pipelines.demo import answer
    from pipelines.display import Display
    from pipelines.runner import run_through

    cfg = _load(config, overrides or [])
    display = Display()
    with cluster.connect():
        run_through(cfg, "publish", display, again)
        _serve(cfg, object_storage.place_of(cfg.registry_dir), display, lambda url: answer(cfg, url, display), once)


@app.command()
def serve(
    config: ConfigPath,
    overrides: Overrides = None,
    bundle: Bundle = "",
) -> None:
    """Serve the production bundle over HTTP, with the console at /console, until Ctrl-C."""
    from pipelines.display import Display

    cfg = _load(config, overrides or [])
    with cluster.connect():
        _serve(cfg, bundle or object_storage.place_of(cfg.registry_dir), Display(), lambda _: None, once=False)


def _serve(config: Config, bundle: str, display: Any, ready: Callable[[str], None], once: bool) -> None:
    import serve.app

    stopped = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with display.console.status("starting the server"):
            url = serve.app.start(bundle, config.serve)
        try:
            ready(url)
            display.console.print(f"\nAPI      {url}/docs")
            if config.serve.console:
                display.console.print(f"Console  {url}/console")
            if not once:
                display.console.print("[dim]Ctrl-C stops everything")
                stopped.wait()
                display.console.print("stopping")
        finally:
            serve.app.stop()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
