"""The generated shop's raw files: an export as shops make them, with the dirt that such exports have.

    catalogue.jsonl             one product per line
    events-2025-03-01.csv.gz    one week of the log each, named by its first day
    users.csv                   a row per user, where tastes follow groups: the group, and columns that say nothing

Some lines are broken on purpose (`DIRT`): neither user nor session, an unknown event kind, a time that cannot be read,
a line cut short, a line exported twice. `prepare` must reject each of them and nothing else.
"""

import csv
import gzip
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from txrec.simulator.catalogue import Catalogue, Product
from txrec.simulator.log import DAY_S, Log
from txrec.storage import make_folder

START = datetime(2025, 3, 1, tzinfo=UTC)
HEADER = ("time", "visitor", "action", "sku", "phrase", "session", "request", "amount")
ACTIONS = {"view": "product_view", "search": "search", "click": "click", "cart": "add_to_cart", "purchase": "order"}
DIRT: tuple[str, ...] = ("missing user", "unknown event", "bad time", "line cut short", "duplicate", "missing item")
DIRT_FRAC = 0.002
BROKEN_PRODUCTS = ('{"sku": "SKU999001", "name": "Broken', '{"name": "Product without a number", "price": 9.5}')


def write(folder: Path, catalogue: Catalogue, log: Log, rng: np.random.Generator) -> None:
    """Writes all raw files; the same arguments give the same bytes."""
    make_folder(folder)
    lines = [json.dumps(_product_row(product), ensure_ascii=False) for product in catalogue.products]
    (folder / "catalogue.jsonl").write_text("\n".join([*lines, *BROKEN_PRODUCTS]) + "\n", encoding="utf-8")
    week = log.second // (7 * DAY_S)
    for number in np.unique(week):
        first_day = START + timedelta(days=7 * int(number))
        rows = np.flatnonzero(week == number)
        _write_week(folder / f"events-{first_day:%Y-%m-%d}.csv.gz", rows, catalogue, log, rng)


def write_users(folder: Path, group: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Writes the users table: `style` is the group of tastes, `age` and `plan` have nothing to do with tastes."""
    age, plan = rng.integers(18, 80, len(group)), rng.integers(3, size=len(group))
    with (folder / "users.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("visitor", "style", "age", "plan", "segments"))
        for user, (style, years, number) in enumerate(zip(group, age, plan, strict=True)):
            segments = "newsletter" if number else ""
            writer.writerow((user_id(user), f"style-{style}", years, ("basic", "plus", "gold")[number], segments))


def user_id(user: int) -> str:
    """The raw id of a user."""
    return f"u{user:05d}"


def _product_row(product: Product) -> dict[str, object]:
    return {
        "sku": product.item_id,
        "name": product.title,
        "description": product.description,
        "category": " > ".join(product.category),
        "brand": product.brand,
        "price": product.price,
        "in_stock": product.in_stock,
        "colour": product.colour,
        "size": product.size,
        "model": product.model,
    }


def _write_week(path: Path, rows: NDArray[np.int64], catalogue: Catalogue, log: Log, rng: np.random.Generator) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    spoiled = dict.fromkeys(rng.choice(rows, max(len(DIRT), int(DIRT_FRAC * len(rows)))).tolist())
    dirt = {row: DIRT[number % len(DIRT)] for number, row in enumerate(spoiled)}
    for row in rows.tolist():
        fields = _event_row(row, catalogue, log)
        writer.writerow(fields)
        if row in dirt:
            writer.writerow(_spoilt(fields, dirt[row]))
    with gzip.GzipFile(path, "wb", compresslevel=3, mtime=0) as file:
        file.write(text.getvalue().encode())


def _event_row(row: int, catalogue: Catalogue, log: Log) -> list[object]:
    item, request, event = log.item[row], log.request[row], log.event[row]
    product = catalogue.products[item] if item >= 0 else None
    return [
        f"{START + timedelta(seconds=int(log.second[row])):%Y-%m-%dT%H:%M:%SZ}",
        user_id(log.user[row]),
        ACTIONS[event],
        product.item_id if product else "",
        log.query[row] or "",
        f"s{log.session[row]}",
        f"r{request}" if request >= 0 else "",
        product.price if product and event == "purchase" else "",
    ]


def _spoilt(fields: list[object], how: str) -> list[object]:
    """A broken copy of a good line: the log itself stays whole."""
    time, visitor, action, *rest = fields
    match how:
        case "missing user":
            return [time, "", action, *rest[:2], "", *rest[3:]]  # nor a session, which would stand for the user
        case "unknown event":
            return [time, visitor, "heartbeat", *rest]
        case "bad time":
            return ["not recorded", visitor, action, *rest]
        case "line cut short":
            return fields[:3]
        case "missing item":
            return [time, visitor, ACTIONS["view"], "", *rest[1:]]
        case _:
            return fields
