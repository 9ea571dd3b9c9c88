"""One log and one catalogue, written as forty shops and public data sets would write them."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

NUM_EVENTS, NUM_USERS, NUM_ITEMS = 400, 23, 17
START = datetime(2024, 4, 3, 8, 15, tzinfo=UTC)
_KINDS = ("view", "view", "cart", "view", "purchase")
WORDS = (
    "Lamp",
    "Chair",
    "Kettle",
    "Towel",
    "Mirror",
    "Basket",
    "Candle",
    "Vase",
    "Rug",
    "Shelf",
    "Stool",
    "Clock",
    "Bowl",
    "Tray",
    "Cushion",
    "Blanket",
    "Frame",
)
BRANDS = ("Nordik", "Hausmann", "Belle")


@dataclass(frozen=True)
class Row:
    """An event."""

    user: int
    item: int
    kind: str
    at: datetime
    query: str
    order: int
    amount: float

    @property
    def seconds(self) -> int:
        """Since 1970."""
        return int(self.at.timestamp())


@dataclass(frozen=True)
class Expected:
    """The first rows as a right declaration reads them."""

    events: dict[str, int]
    users: int = NUM_USERS
    items: int = NUM_ITEMS
    first: str = "2024-04-03 08:15"
    """Time of the first event."""
    titles: int = NUM_ITEMS
    """Products with a title in the catalogue or the log."""
    profiles: int = 0
    """Users of users tables."""
    columns: dict[str, str] = field(default_factory=dict)
    """Canonical = source column that must be declared somewhere."""


def rows_of(kinds: Sequence[str] = _KINDS, searches: bool = False) -> list[Row]:
    """The log, every kind in turn."""
    rows = []
    for number in range(NUM_EVENTS):
        item = (number * 7 + number // 11) % NUM_ITEMS
        kind = "search" if searches and number % 10 == 9 else kinds[number % len(kinds)]
        at = START + timedelta(minutes=37 * number)
        query = f"{WORDS[item].lower()} red" if kind == "search" else ""
        rows.append(Row(number % NUM_USERS, item, kind, at, query, 5000 + number // 3, 4.5 + item))
    return rows


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """Events by kind."""
    made: dict[str, int] = {}
    for row in rows:
        made[row.kind] = made.get(row.kind, 0) + 1
    return made


def csv_text(header: Sequence[str] | None, rows: Iterable[Sequence[Any]], delimiter: str = ",", **options: Any) -> str:
    """A table as delimited text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=options.pop("end", "\n"), **options)
    if header:
        writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def json_lines(rows: Iterable[dict[str, Any]]) -> str:
    """Records, one per line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def title_of(item: int) -> str:
    """Title of a product."""
    return f"{WORDS[item]} {('red', 'large', 'oak')[item % 3]}"


def catalogue_csv(sku: Callable[[int], str] = lambda item: f"P{item:03d}", head: Sequence[str] = ()) -> str:
    """The catalogue as a plain CSV."""
    names = head or ("product_id", "title", "category", "brand", "price")
    return csv_text(
        names, ([sku(i), title_of(i), f"Home > {WORDS[i]}s", BRANDS[i % 3], 4.5 + i] for i in range(NUM_ITEMS))
    )


Files = dict[str, str | bytes]
Case = Callable[[], tuple[Files, Expected]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Registers a case by its name."""
    CASES[function.__name__.strip("_")] = function
    return function


def write(folder: Path, files: Files) -> list[str]:
    """Writes the files of a case; returns their paths."""
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return [str(folder / name) for name in files]
