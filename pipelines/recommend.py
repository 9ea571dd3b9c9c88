"""`txrec recommend`: slates for many users at once, into Parquet, by Ray Data actors that run the serving code.

    out/
    ├── _job.json            description of the job: bundle, users, settings
    ├── _users.parquet       the users, one row group per part
    └── part-00000.parquet   RECOMMENDATIONS, one row per user; a part is written whole or not at all

Readers of a Parquet folder skip names that begin with an underscore, so that the folder is one table of slates.
Memory stays bounded: parts are read, answered and written one by one. A job that was killed is started again with the
same command and computes only the parts that are missing.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from rich.console import RenderableType
from rich.table import Table

from pipelines.distributed import actor_pool
from txrec import object_storage, objects
from txrec.config import Config
from txrec.errors import ConfigError, DataError
from txrec.progress import Progress, silent
from txrec.recommender.bundle import MANIFEST, Bundle
from txrec.recommender.recommender import Recommender, Request, Slate
from txrec.registry import bundle_cache
from txrec.registry.registry import Registry
from txrec.storage import replace_file, require_writable, write_text

PART_USERS = 1_024
BATCH = 32
"""Users encoded together; those with histories of similar length, so that little of a batch is padding."""

RECOMMENDATIONS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        # one entry per item, best first; all lists of a row have the same length
        pa.field("item_id", pa.list_(pa.string())),
        pa.field("score", pa.list_(pa.float32())),
        pa.field("source", pa.list_(pa.string())),
        pa.field("fallback", pa.string()),  # null, or the reason of a simpler answer
    ]
)


@dataclass(frozen=True)
class RecommendSummary:
    """Result of a batch job."""

    folder: Path
    bundle: str
    num_users: int
    num_parts: int
    reused_parts: int
    """Parts that an earlier run had written."""
    unknown_users: int
    """Among those answered in this run: users without a history, who got popular items."""
    users_per_s: float
    """Seconds of this run, start of the actors included."""
    num_actors: int
    """Actors that may run at once."""
    actor_users_per_s: float
    """Users per second of one actor while it was answering."""

    def headline(self) -> str:
        """One line: users, speed, place."""
        place = object_storage.place_of(self.folder)
        return f"{self.num_users:,} users in {self.num_parts:,} parts ({self.users_per_s:,.0f} users/s) -> {place}"

    def render(self) -> RenderableType:
        """Table for a terminal."""
        table = Table("batch recommendation", "", box=None, pad_edge=False, header_style="dim")
        table.add_row("bundle", self.bundle)
        table.add_row("users", f"{self.num_users:,}")
        table.add_row("of them without a history", f"{self.unknown_users:,} (in this run)")
        table.add_row("parts", f"{self.num_parts:,}, {self.reused_parts:,} from an earlier run")
        table.add_row("users per second, start included", f"{self.users_per_s:,.0f}")
        table.add_row("an actor once started", f"{self.actor_users_per_s:,.0f}, of {self.num_actors}")
        table.add_row("written to", object_storage.place_of(self.folder))
        return table


@dataclass(frozen=True)
class BatchOptions:
    """Options of the slates of a batch job."""

    top_k: int = 25
    """Items per user."""
    bundle: str = ""
    """Folder of a bundle or of a registry, or a registered version, instead of production."""
    exclude_seen: bool = False
    """Leave out the items of the user's history."""


def run(
    config: Config,
    users: str,
    out: Path,
    options: BatchOptions = BatchOptions(),
    progress: Progress = silent,
) -> RecommendSummary:
    """Computes a slate for every user and writes one row per user.

    Args:
        config: names the registry whose production bundle answers.
        users: `all` (every user whose history came with the bundle) or a file: one raw user id per line, or `.parquet`
            or `.csv` with a column `user_id`; local or in object storage.
        out: folder to be written; may hold the parts of an interrupted run of the same job.
        options: of the slates.
        progress: called after every part.

    Raises:
        ConfigError: `out` holds another job.
        DataError: the users cannot be read.
        StorageError: `out` cannot be written.
    """
    require_writable(out / "_job.json")
    folder = bundle_folder(config, options.bundle)
    object_storage.fetch(out)
    version = Bundle.open(folder).manifest.version
    source = folder / "users.parquet" if users == "all" else object_storage.fetch(object_storage.local_path(users))
    job = {
        "bundle": version,
        "users": users,
        "users_sha256": _sha256(source),
        "top_k": options.top_k,
        "exclude_seen": options.exclude_seen,
    }
    num_users, num_parts = _begin(out, job, source)
    missing = [part for part in range(num_parts) if not _part(out, part).is_file()]
    started = time.monotonic()
    settings = (object_storage.place_of(folder), object_storage.place_of(out), options.top_k, options.exclude_seen)
    done = _answer(missing, settings, num_parts, progress)
    return RecommendSummary(
        folder=out,
        bundle=version,
        num_users=num_users,
        num_parts=num_parts,
        reused_parts=num_parts - len(missing),
        unknown_users=done.unknown,
        users_per_s=done.users / max(time.monotonic() - started, 1e-9),
        num_actors=done.num_actors,
        actor_users_per_s=done.users / max(done.seconds, 1e-9),
    )


@dataclass(frozen=True)
class Done:
    """Counts over parts."""

    users: int = 0
    unknown: int = 0
    seconds: float = 0.0
    """Sum over the actors, without their start."""
    num_actors: int = 1


class Answerer:
    """A Ray Data actor: opens the bundle once, then turns parts of the users into parts of the answer."""

    def __init__(self, bundle: str, out: str, top_k: int, exclude_seen: bool) -> None:
        import torch

        torch.set_num_threads(1)  # one actor per core
        self._recommender = Recommender.open(bundle_cache.bring(object_storage.local_path(bundle)))
        self._out = object_storage.local_path(out)
        object_storage.fetch(self._out / "_users.parquet")
        self._top_k, self._exclude_seen = top_k, exclude_seen

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Answers the parts named in `batch` and returns the counts of each."""
        done = [self.write(int(part)) for part in batch["part"]]
        return {name: [getattr(each, name) for each in done] for name in ("users", "unknown", "seconds")}

    def write(self, part: int) -> Done:
        """Answers one part of the users."""
        started = time.monotonic()
        column = pq.ParquetFile(self._out / "_users.parquet").read_row_group(part).column("user_id")
        users: list[str] = column.to_pylist()
        slates = self._slates(users)
        target = _part(self._out, part)
        with replace_file(target) as fresh:
            pq.write_table(_table(users, slates), fresh)
        object_storage.share(target)
        return Done(len(users), sum(slate.fallback is not None for slate in slates), time.monotonic() - started)

    def _slates(self, users: list[str]) -> list[Slate]:
        """Slates in the order of the users, computed in the order of the lengths of their histories."""
        by_length = sorted(range(len(users)), key=lambda row: self._recommender.history_length(users[row]))
        slates: dict[int, Slate] = {}
        for start in range(0, len(users), BATCH):
            rows = by_length[start : start + BATCH]
            slates.update(
                zip(rows, self._recommender.recommend([self._request(users[row]) for row in rows]), strict=True)
            )
        return [slates[row] for row in range(len(users))]

    def _request(self, user: str) -> Request:
        return Request(user_id=user, top_k=self._top_k, exclude_seen=self._exclude_seen)


def _answer(parts: list[int], settings: tuple[str, str, int, bool], num_parts: int, progress: Progress) -> Done:
    """Runs the actors over the parts."""
    if not parts:
        return Done()
    actors = actor_pool.num_actors(len(parts))
    done = actor_pool.answers(Answerer, settings, [{"part": part} for part in parts])
    total = Done(num_actors=actors)
    for count, row in enumerate(done.iter_rows(), start=num_parts - len(parts) + 1):
        total = Done(total.users + row["users"], total.unknown + row["unknown"], total.seconds + row["seconds"], actors)
        progress("parts", count, num_parts, users=total.users)
    return total


def _table(users: list[str], slates: list[Slate]) -> pa.Table:
    return pa.Table.from_pydict(
        {
            "user_id": users,
            "item_id": [[item.item_id for item in slate.items] for slate in slates],
            "score": [[item.score for item in slate.items] for slate in slates],
            "source": [[item.source for item in slate.items] for slate in slates],
            "fallback": [slate.fallback for slate in slates],
        },
        schema=RECOMMENDATIONS,
    )


def bundle_folder(config: Config, bundle: str) -> Path:
    """The folder of a bundle that a command names: production, a registered version, or the folder itself."""
    folder = object_storage.local_path(bundle)
    if objects.is_uri(bundle):
        return bundle_cache.bring(folder) if objects.exists(f"{bundle}/{MANIFEST}") else Registry(folder).folder()
    if not bundle or not folder.is_dir():
        return Registry(config.registry_dir).folder(bundle)
    return folder if (folder / MANIFEST).is_file() else Registry(folder).folder()


def _begin(out: Path, job: dict[str, Any], source: Path) -> tuple[int, int]:
    """Writes the job's description and its users, or finds those of the same job; returns users and parts."""
    described = out / "_job.json"
    if described.is_file() and json.loads(described.read_text(encoding="utf-8")) != job:
        raise ConfigError(f"{out}: holds the parts of another job, see {described}; give another --out or remove it")
    if not described.is_file() and any(out.glob("part-*.parquet")):
        raise ConfigError(f"{out}: holds parts without {described.name} next to them; give another --out or remove it")
    if not described.is_file():
        schema = pa.schema([RECOMMENDATIONS.field("user_id")])
        with replace_file(out / "_users.parquet") as fresh, pq.ParquetWriter(fresh, schema) as writer:
            for table in _in_parts(_user_ids(source)):
                writer.write_table(table, row_group_size=PART_USERS)
        object_storage.share(out / "_users.parquet")
        write_text(described, json.dumps(job, indent=2))
        object_storage.share(described)
    meta = pq.read_metadata(out / "_users.parquet")
    return meta.num_rows, meta.num_row_groups


def _user_ids(source: Path) -> Iterator[pa.Array]:
    """The user ids of a file, a batch at a time."""
    try:
        if source.suffix == ".parquet":
            file = pq.ParquetFile(source)
            if "user_id" not in file.schema_arrow.names:
                raise KeyError(f"it has the columns {', '.join(file.schema_arrow.names)}")
            for batch in file.iter_batches(columns=["user_id"]):
                yield batch.column(0).cast(pa.string())
            return
        lines = source.suffix != ".csv"
        reading = pa_csv.ReadOptions(column_names=["user_id"] if lines else None)
        parsing = pa_csv.ParseOptions(delimiter="\x01" if lines else ",", quote_char=False if lines else '"')
        converting = pa_csv.ConvertOptions(column_types={"user_id": pa.string()}, include_columns=["user_id"])
        for batch in pa_csv.open_csv(source, reading, parsing, converting):
            yield batch.column(0)
    except (pa.ArrowException, KeyError, OSError) as error:
        raise DataError(
            f"{source}: cannot be read as users: {error}; expected one user id per line, or .parquet or .csv with a"
            " column user_id"
        ) from None


def _in_parts(batches: Iterator[pa.Array]) -> Iterator[pa.Table]:
    """The same ids in tables of exactly PART_USERS rows, the last one excepted."""
    waiting = pa.array([], pa.string())
    for batch in batches:
        waiting = pa.concat_arrays([waiting, batch])
        whole = len(waiting) - len(waiting) % PART_USERS
        if whole:
            yield _ids_table(waiting.slice(0, whole))
            waiting = waiting.slice(whole)
    if len(waiting):
        yield _ids_table(waiting)


def _ids_table(ids: pa.Array) -> pa.Table:
    return pa.table([ids], schema=pa.schema([RECOMMENDATIONS.field("user_id")]))


def _part(out: Path, part: int) -> Path:
    return out / f"part-{part:05d}.parquet"


def _sha256(file: Path) -> str:
    if not file.is_file():
        raise DataError(f"{file}: no such file; expected `all`, or a file of user ids")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
