"""`txrec audience`: the users most likely to want an item, a category or a query, by Ray Data actors over all users.

Every actor opens the bundle once and scores parts of the users; a part returns no more than the best of its users, and
the best of all parts so far are kept. So memory depends on the number of users wanted, not on that of all.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from rich.console import RenderableType
from rich.table import Table

from pipelines.distributed import actor_pool
from pipelines.recommend import bundle_folder
from txrec import object_storage
from txrec.config import Config
from txrec.errors import ConfigError
from txrec.progress import Progress, silent
from txrec.recommender.bundle import Bundle
from txrec.recommender.lists.audiences import AudienceAnswer, AudienceRequest, KnownUsers, Member, Target, best_of
from txrec.recommender.recommender import Recommender
from txrec.registry import bundle_cache
from txrec.storage import replace_file, require_writable

PART_USERS = 4_096

MEMBERS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),  # see txrec.recommender.lists.audiences
        pa.field("events", pa.int64(), nullable=False),  # of the user on products of the target
        pa.field("purchases", pa.int64(), nullable=False),  # of them, purchases
    ]
)


@dataclass(frozen=True)
class AudienceSummary:
    """Result of an audience job."""

    file: Path
    bundle: str
    target: str
    num_items: int
    num_members: int
    num_users: int
    """Users who were considered."""
    users_per_s: float
    """Start of the actors included."""

    def headline(self) -> str:
        """One line: users, target, place."""
        place = object_storage.place_of(self.file)
        return f"{self.num_members:,} of {self.num_users:,} users for {self.target} -> {place}"

    def render(self) -> RenderableType:
        """Table for a terminal."""
        table = Table("audience", "", box=None, pad_edge=False, header_style="dim")
        table.add_row("bundle", self.bundle)
        table.add_row("target", f"{self.target}, {self.num_items:,} products")
        table.add_row("users considered", f"{self.num_users:,}")
        table.add_row("users chosen", f"{self.num_members:,}")
        table.add_row("users per second, start included", f"{self.users_per_s:,.0f}")
        table.add_row("written to", object_storage.place_of(self.file))
        return table


def run(
    config: Config, request: AudienceRequest, out: Path, bundle: str = "", progress: Progress = silent
) -> AudienceSummary:
    """Scores every user of a bundle and of its users table for a target, and writes the best.

    Args:
        config: names the registry whose production bundle answers.
        request: the target, and how many users.
        out: `.parquet` or `.csv`.
        bundle: folder of a bundle or of a registry, or a registered version, instead of production.
        progress: called after every part.

    Raises:
        ConfigError: `out` has another suffix.
        UnknownItemError: an item that the catalogue does not hold.
        RequestError: a target without products.
        StorageError: `out` cannot be written.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"{out}: expected a file that ends in .parquet or .csv")
    require_writable(out)
    folder = bundle_folder(config, bundle)
    recommender = Recommender.open(folder)
    target = Target.of(recommender, request)  # wrong targets are reported here, before anything starts
    num_users = len(KnownUsers.of(recommender))
    started = time.monotonic()
    starts = list(range(0, num_users, PART_USERS))
    parts = _answers(starts, object_storage.place_of(folder), request) if starts else iter(())
    best, considered = merged(parts, request.top_n, len(starts), progress)
    _write(best, out)
    return AudienceSummary(
        file=out,
        bundle=Bundle.open(folder, verify=False).manifest.version,
        target=described(request),
        num_items=len(target.item_idx),
        num_members=best.num_rows,
        num_users=considered,
        users_per_s=num_users / max(time.monotonic() - started, 1e-9),
    )


def described(request: AudienceRequest) -> str:
    """The target in words."""
    if request.items:
        return f"item {', '.join(request.items)}"
    return f"category {request.category!r}" if request.category else f"query {request.query!r}"


def merged(
    parts: Iterable[AudienceAnswer], top_n: int, num_parts: int, progress: Progress = silent
) -> tuple[pa.Table, int]:
    """The best users of all parts as MEMBERS, and how many users were considered; holds `top_n` users and one part."""
    best, considered = MEMBERS.empty_table(), 0
    for number, part in enumerate(parts, start=1):
        considered += part.num_users
        rows = pa.Table.from_pylist([member._asdict() for member in part.members], schema=MEMBERS)
        both = pa.concat_tables([best, rows])
        best = both.sort_by([("score", "descending"), ("user_id", "ascending")]).slice(0, top_n).combine_chunks()
        progress("parts", number, num_parts, users=considered)
    return best, considered


class Scorer:
    """A Ray Data actor: opens the bundle once, then finds the best users of parts."""

    def __init__(self, bundle: str, request: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(1)  # one actor per core
        self._recommender = Recommender.open(bundle_cache.bring(object_storage.local_path(bundle)))
        self._request = AudienceRequest(**{**request, "items": tuple(request["items"])})
        self._target = Target.of(self._recommender, self._request)
        self._users = KnownUsers.of(self._recommender)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Answers of the parts that start at the users named in `batch`, as plain lists."""
        answers = [self.part(int(start)) for start in batch["start"]]
        columns = {
            name: [[getattr(one, name) for one in answer.members] for answer in answers] for name in MEMBERS.names
        }
        return {**columns, "num_users": [answer.num_users for answer in answers]}

    def part(self, start: int) -> AudienceAnswer:
        """The best users of one part."""
        users = self._users.part(start, start + PART_USERS)
        return best_of(self._recommender, users, self._request, self._target)


def _answers(starts: list[int], bundle: str, request: AudienceRequest) -> Iterator[AudienceAnswer]:
    """Runs the actors over the parts; answers come as they are done."""
    done = actor_pool.answers(Scorer, (bundle, asdict(request)), [{"start": start} for start in starts])
    for row in done.iter_rows():
        yield answer_of(row)


def answer_of(row: dict[str, Any]) -> AudienceAnswer:
    """A part's answer from its row."""
    members = zip(*(row[name] for name in MEMBERS.names), strict=True)
    return AudienceAnswer(
        tuple(Member(str(user), float(score), int(events), int(bought)) for user, score, events, bought in members),
        int(row["num_users"]),
    )


def _write(members: pa.Table, out: Path) -> None:
    with replace_file(out) as fresh:
        if out.suffix == ".csv":
            pa_csv.write_csv(members, fresh)
        else:
            pq.write_table(members, fresh)
    object_storage.share(out)
