"""Served slates of a prepared data set, copied from the server's export (`data.slates`)."""

from pathlib import Path

import polars as pl

from txrec.config import DataConfig
from txrec.data.formats import files
from txrec.errors import DataError

FILE = "slates.parquet"
REQUIRED = ("request_id", "variant", "ts", "user_id", "query", "item_ids")
OPTIONAL = ("scores", "exploration")


def write(cfg: DataConfig, folder: Path) -> int:
    """Copies the slates that the configuration names into a prepared data set; how many. Memory stays bounded.

    Raises:
        DataError: there is no such file, it is no Parquet, or a column is missing.
    """
    if not cfg.slates:
        return 0
    paths = [file.path for file in files.find(cfg.root, cfg.slates)]
    try:
        table = pl.scan_parquet(paths)
        names = table.collect_schema().names()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{paths[0]}: not a Parquet file of slates (data.slates): {error}") from None
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise DataError(
            f"{paths[0]}: column {missing[0]!r} is missing; columns there: {', '.join(names)}; expected what"
            " `txrec export-events --impressions` writes"
        )
    chosen = table.select([*REQUIRED, *(name for name in OPTIONAL if name in names)])
    chosen.sink_parquet(folder / FILE)
    return int(pl.scan_parquet(folder / FILE).select(pl.len()).collect().item())


def read(folder: Path) -> pl.DataFrame | None:
    """The slates of a prepared data set; None without any."""
    file = folder / FILE
    if not file.is_file():
        return None
    slates = pl.read_parquet(file)
    return slates if slates.height else None
