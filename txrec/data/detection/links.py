"""Links between a shop's tables: products of the log in the catalogue, orders with their lines, names of categories."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import polars as pl

from txrec.data.detection import users_tables
from txrec.data.detection.catalogues import declare_items
from txrec.data.detection.columns import Column, is_id, profile
from txrec.data.detection.names import fit, plain_name
from txrec.data.detection.sample import Sample
from txrec.data.detection.table import Table
from txrec.data.detection.tables import classified, declare_orders
from txrec.data.formats import values

_PROPERTIES = ("title", "description", "category", "brand", "price", "available")
_JOINABLE = ("delimiter", "header", "names", "encoding", "ragged")


def linked(tables: list[Table]) -> list[Table]:
    """Links tables to each other by equal values; tables that are joined to others are no sources of their own."""
    tables = [_with_properties(table) for table in tables]
    for table in [one for one in tables if one.kind == "lines"]:
        joined = _joined_lines(table, tables)
        if joined:
            made, other = joined
            tables = [made if one is table else one for one in tables if one is not other]
    for table in [one for one in tables if one.kind == "events"]:
        _take_persons(table, tables)
        _ask_about_users_of_one_order(table)
    _take_known_products(tables)
    _match_products(tables)
    for table in [one for one in tables if one.kind == "items"]:
        _with_family_titles(table)
        used = _with_category_names(table, tables)
        if used is not None:
            tables = [one for one in tables if one is not used]
    _leave_out_other_catalogues(tables)
    for table in [one for one in tables if one.kind == "lines"]:
        item = table.columns["item_id"]
        categories = any(fit("category", name) >= 0.5 for name in table.profile if name != item)
        if table.profile[item].distinct > 0.95 and categories and _is_logged(table, item, tables):
            declare_items(table, (item, table.remarks["item_id"]))  # categories of numbers alone
            continue
        if not any(one.kind == "events" for one in tables) and declare_orders(table):
            _ask_about_users_of_one_order(table)
            continue
        table.kind = "other"
        table.questions = ["it names products and no user; which table says whose they are?"]
    return tables


def _keys(table: Table, name: str) -> set[str]:
    return set(values.whole_ids(table.profile[name].texts).unique().to_list())


def _overlap(left: set[str], right: set[str]) -> float:
    return len(left & right) / max(1, min(len(left), len(right)))


def _joined_lines(lines: Table, tables: Sequence[Table]) -> tuple[Table, Table] | None:
    """Order lines with the columns of their orders, and the table of the orders."""
    best: tuple[float, Table, str, str] | None = None
    for other in tables:
        if other is lines or "join" in other.sample.settings or not _completes(lines, other):
            continue
        for left in _plain_columns(lines):
            for right in _plain_columns(other):
                if right.distinct < 0.95 or right.filled < 0.95 or left.time or right.time or left.filled < 0.9:
                    continue
                shared = _overlap(_keys(lines, left.name), _keys(other, right.name))
                alike = plain_name(left.name) == plain_name(right.name)
                named = alike or fit("request_id", left.name) >= 0.5
                named = named and plain_name(left.name) != "id"
                score = shared + 0.5 * named
                if shared > 0.8 and named and (best is None or score > best[0]):
                    best = (score, other, left.name, right.name)
    if best is None:
        return None
    _, orders, left_name, right_name = best
    return _joined(lines, orders, left_name, right_name), orders


def _take_persons(log: Table, tables: Sequence[Table]) -> None:
    """Joins the table that says which person stands behind the customer of an order, where these are numbered anew."""
    name = log.columns.get("user_id", "")
    if name not in log.profile:
        return
    for other in tables:
        if other is log or other.sample.settings.get("format", "csv") != "csv" or other.kind not in ("users", "other"):
            continue
        people = [c for n, c in other.profile.items() if fit("user_id", n) >= 0.5 and c.filled > 0.95]
        for key in [c for c in people if c.distinct > 0.99 and plain_name(c.name) == plain_name(name)]:
            person = next((c for c in people if c is not key and c.distinct < 0.98), None)
            if person is None or _overlap(_keys(log, name), _keys(other, key.name)) < 0.8:
                continue
            join = {"path": other.sample.path, "on": (name, key.name), "required": False}
            join |= {field: value for field, value in other.sample.settings.items() if field in _JOINABLE}
            log.settings.setdefault("join", []).append(join)
            column = f"{person.name}:joined" if person.name in log.sample.frame.columns else person.name
            log.take("user_id", column, f"likely: the person behind {name}, by {other.sample.path}")
            if other.kind == "users":
                other.take("user_id", person.name, f"likely: {key.name} is another one in every row")
            return


_MANY_ORDERS = 40


def _ask_about_users_of_one_order(table: Table) -> None:
    """Asks about a user id that is another one in every order: some shops number customers anew per order."""
    user, order = (table.profile.get(table.columns.get(role, "")) for role in ("user_id", "request_id"))
    if user is None or order is None or user is order:
        return
    num_users, num_orders = user.texts.n_unique(), order.texts.n_unique()
    if num_users == num_orders >= _MANY_ORDERS:
        table.questions.append(
            f"{user.name} is another one in each of the {num_orders:,} orders: does it name people, or orders? Is "
            "there a column or a table by which customers come again?"
        )


def _plain_columns(table: Table) -> list[Column]:
    """Columns that hold neither lists nor records: those by which tables can be joined."""
    return [column for name, column in table.profile.items() if not table.sample.frame[name].dtype.is_nested()]


def _completes(lines: Table, other: Table) -> bool:
    """True where a table has what lines lack: the user of an order, or the query of a judged pair."""
    if any(fit("user_id", name) >= 0.5 for name in other.profile):
        return True
    graded = any(fit("grade", name) >= 0.5 for name in lines.profile)
    return graded and any(fit("query", name) >= 0.5 for name in other.profile)


def _joined(lines: Table, orders: Table, left: str, right: str) -> Table:
    if orders.sample.settings.get("format", "csv") != "csv":
        lines.questions.append(f"its users stand in {orders.sample.path}; only CSV files can be joined, convert it")
    other = orders.sample.frame
    other = other.rename({name: f"{name}:joined" for name in other.columns if name in lines.sample.frame.columns})
    key = f"{right}:joined" if f"{right}:joined" in other.columns else right
    keys = other.with_columns(values.whole_ids(other[key].cast(pl.String)).alias(":key")).unique(":key", keep="first")
    frame = lines.sample.frame.with_columns(values.whole_ids(lines.sample.frame[left].cast(pl.String)).alias(":key"))
    frame = frame.join(keys, on=":key", how="left").drop(":key")
    join: dict[str, Any] = {"path": orders.sample.path, "on": (left, right)}
    join |= {name: value for name, value in orders.sample.settings.items() if name in _JOINABLE}
    settings = {**lines.sample.settings, "join": [join]}
    remarks = {**lines.sample.remarks, "join": f"likely: {left} of this file and {right} of that have the same values"}
    return classified(Sample(lines.sample.path, settings, remarks, frame, lines.sample.num_bad))


def _take_known_products(tables: Sequence[Table]) -> None:
    """Takes the column whose values the catalogue knows in logs of which no name tells the products (`result_id`)."""
    known: set[str] = set()
    for items in [one for one in tables if one.kind == "items"]:
        known |= _keys(items, items.columns["item_id"])
    for log in [one for one in tables if one.kind == "events" and "item_id" not in one.columns]:
        shares = {
            column.name: _contained(_keys(log, column.name), known)
            for column in _plain_columns(log)
            if column.name not in log.columns.values() and is_id(column) and column.filled > _FEW_PRODUCTS
            and column.texts.n_unique() >= (_MANY_NUMBERS if column.is_number else 2)
        }  # fmt: skip
        name = max(shares, key=lambda one: shares[one], default="")
        if name and shares[name] > _KNOWN:
            log.take("item_id", name, f"likely: the catalogue knows {shares[name]:.0%} of its values")


_KNOWN, _FEW_PRODUCTS, _MANY_NUMBERS = 0.8, 0.1, 12
"""Share of the values that the catalogue knows, of the rows that have one, and different numbers from which on this is
no chance."""


def _match_products(tables: Sequence[Table]) -> None:
    """Chooses the columns of the log and of the catalogue that name products by the same ids."""
    logs = [one for one in tables if one.kind == "events" and "item_id" in one.columns]
    catalogues = [one for one in tables if one.kind == "items"]
    known = {id(log): max((_share_of_products(log, one) for one in catalogues), default=0.0) for log in logs}
    for items in catalogues:
        for log in logs:
            current = (log.columns["item_id"], items.columns["item_id"])
            if known[id(log)] > 0.5 and _share_of_products(log, items) < known[id(log)]:
                continue  # another catalogue knows the products by these ids
            shares = {
                (left, right): _overlap(_keys(log, left), _keys(items, right))
                for left in _id_columns(log, current[0])
                for right in _id_columns(items, current[1])
                if right == current[1] or items.profile[right].distinct > 0.3
            }
            best = max(shares, key=lambda pair: (shares[pair], pair == current))
            if shares[best] > shares[current] + 0.1:
                log.columns["item_id"], items.columns["item_id"] = best
                if "attributes" in items.settings:
                    items.settings["attributes"] = [n for n in items.settings["attributes"] if n != best[1]]
                for table, name in ((log, best[0]), (items, best[1])):
                    table.columns = {r: c for r, c in table.columns.items() if r == "item_id" or c != name}
            share = shares[best]
            if share < 0.2:
                items.questions.append(
                    f"{share:.0%} of the products that both samples could share are found in {log.sample.path}; do "
                    f"{log.columns['item_id']} there and {items.columns['item_id']} here name products alike?"
                )
            else:
                remark = f"sure: {share:.0%} of the products of {log.sample.path} are found by it"
                items.remarks["item_id"] = remark if share > 0.5 else remark.replace("sure", "likely")


def _share_of_products(log: Table, items: Table) -> float:
    return _overlap(_keys(log, log.columns["item_id"]), _keys(items, items.columns["item_id"]))


def _leave_out_other_catalogues(tables: Sequence[Table]) -> None:
    """Tables of other things than products: the log knows none of their ids, and it knows those of another table."""
    logged = {key for one in tables if one.kind == "events" and "item_id" in one.columns
              for key in _keys(one, one.columns["item_id"])}  # fmt: skip
    catalogues = [one for one in tables if one.kind == "items"]
    shares = [_overlap(logged, _keys(one, one.columns["item_id"])) for one in catalogues]
    for table, share in zip(catalogues, shares, strict=True):
        small = len(_keys(table, table.columns["item_id"])) < 0.5 * max(
            len(_keys(one, one.columns["item_id"])) for one in catalogues
        )
        if max(shares) > 0.5 and (share < 0.05 or (small and "title" not in table.columns)):
            table.kind = "other"
            table.questions = ["it is left out: the log knows none of its ids"]


def _is_logged(table: Table, item: str, tables: Sequence[Table]) -> bool:
    """True where the log knows some of a table's ids, or where there is no log."""
    logs = [_keys(one, one.columns["item_id"]) for one in tables if one.kind == "events" and "item_id" in one.columns]
    return not logs or any(_overlap(log, _keys(table, item)) > 0.05 for log in logs)


def _id_columns(table: Table, current: str) -> list[str]:
    """Columns that may name products."""
    used = {name for role, name in table.columns.items() if role in ("user_id", "ts", "session_id", "query", "event")}
    return [
        name
        for name, column in table.profile.items()
        if name == current
        or (name not in used and (fit("item_id", name) >= 0.3 or plain_name(name.rpartition(".")[2]) == "id")
            and not (column.time and not column.is_number) and len(column.texts))
    ]  # fmt: skip


def _with_category_names(items: Table, tables: Sequence[Table]) -> Table | None:
    """Joins the table that names categories or brands to the catalogue; returns that table."""
    if items.sample.settings.get("format", "csv") != "csv" and "join" in items.sample.settings:
        return None
    for other in tables:
        if (
            other is items
            or other.kind not in ("other", "items")
            or other.sample.settings.get("format", "csv") != "csv"
        ):
            continue
        key = next((n for n, c in other.profile.items() if c.distinct > 0.99 and c.filled > 0.99 and not c.time), None)
        name = next((n for n in other.profile if (n != key and fit("title", n) >= 0.35) or
                     (n != key and fit("category", n) >= 0.5 and not other.profile[n].is_number)), None)  # fmt: skip
        if name is None and len(other.profile) <= 3:
            name = next((n for n, c in other.profile.items() if n != key and not c.is_number and not c.time), None)
        if key is None or name is None:
            continue
        for role in ("category", "brand"):
            left = next((n for n in items.profile if n != items.columns["item_id"]
                         and (fit(role, n) >= 0.35 or (role == "category" and plain_name(n) == plain_name(key)))
                         and _contained(_keys(items, n), _keys(other, key)) > 0.9), None)  # fmt: skip
            if left is None:
                continue
            join = {"path": other.sample.path, "on": (left, key), "required": False}
            join |= {field: value for field, value in other.sample.settings.items() if field in _JOINABLE}
            items.settings["join"] = [join]
            joined = f"{name}:joined" if name in items.profile else name
            items.take(role, joined, f"likely: {left} is {key} of {other.sample.path}")
            for wrong in [r for r, c in items.columns.items() if c == left and r != "item_id"]:
                del items.columns[wrong]
            return other
    return None


def _with_family_titles(items: Table) -> None:
    """Joins a catalogue of variants to itself, where only the first row of a product's variants has its title."""
    title, item = items.columns.get("title"), items.columns["item_id"]
    if title is None or items.profile[title].filled > 0.95 or items.sample.settings.get("format", "csv") != "csv":
        return
    frame = items.sample.frame
    for name in items.profile:
        if name in (title, item) or plain_name(name) not in _FAMILIES:
            continue
        firsts = frame.unique(name, keep="first", maintain_order=True).select(name, pl.col(title).alias(":title"))
        share = frame.join(firsts, on=name, how="left")[":title"].is_not_null().mean()
        if not isinstance(share, float) or share <= items.profile[title].filled + 0.05:
            continue
        join = {"path": items.sample.path, "on": (name, name), "required": False}
        items.settings["join"] = [join | {k: v for k, v in items.sample.settings.items() if k in _JOINABLE}]
        items.settings["join"][0] |= {k: v for k, v in items.sample.settings.items() if k == "multiline"}
        for role in ("title", "description", "brand", "category"):
            if role in items.columns:
                items.take(role, f"{items.columns[role]}:joined", f"likely: of the first row with the same {name}")
        return


_FAMILIES = ("handle", "item_group_id", "parent_id", "parent_sku", "parent", "group_id", "product_id", "style_id")
"""Columns whose equal values say that rows are variants of one product."""


def _contained(inner: set[str], outer: set[str]) -> float:
    return len(inner & outer) / max(1, len(inner)) if len(inner) > 1 else 0.0


def _with_properties(table: Table) -> Table:
    """A table of (product or user, property, value) rows: the rows of one property become a column."""
    name = next((n for n in table.profile if plain_name(n) in ("property", "attribute", "property_name", "key")), None)
    value = next((n for n in table.profile if plain_name(n) in ("value", "property_value", "attribute_value")), None)
    item = table.columns.get("item_id") or next((n for n in table.profile if fit("item_id", n) >= 0.5), None)
    user = next((n for n in table.profile if fit("user_id", n) >= 0.5), None)
    if name is None or value is None or table.profile[name].texts.n_unique() < 2 or not (item or user):
        return table
    long: dict[str, Any] = {"property": name, "value": value}
    when = table.columns.get("ts") or next((n for n, c in table.profile.items() if c.time and fit("ts", n) >= 0.3), "")
    long |= {"time": when} if when else {}
    if item is None or fit("user_id", str(user)) > fit("item_id", item):
        return _wide(table, str(user), long, lambda made: users_tables.declare(made, str(user), has_header=True))
    words = [str(word) for word in table.profile[name].texts.unique(maintain_order=True).to_list()]
    roles = {role: max(words, key=lambda word: fit(role, word)) for role in _PROPERTIES}
    if not any(fit(role, word) >= 0.5 for role, word in roles.items()):
        table.kind, table.columns, table.settings = "other", {}, {}
        table.questions = [f"which {name} holds the title, which the category? None was recognised"]
        return table
    return _wide(table, item, long, lambda made: declare_items(made, (item, "sure: by its name")))


def _wide(table: Table, item: str, long: dict[str, Any], declare: Callable[[Table], None]) -> Table:
    """The wide form of a long table: a row per product or user, a column per property with a name."""
    frame = table.sample.frame.sort(long["time"], maintain_order=True) if "time" in long else table.sample.frame
    frame = frame.select(pl.col(item, long["property"], long["value"]).cast(pl.String))
    named = frame.filter(~pl.col(long["property"]).str.contains(r"^\d+$"))
    keep: Literal["first", "last"] = "last" if "time" in long else "first"
    named = named.unique([item, long["property"]], keep=keep, maintain_order=True)
    wide = frame.select(pl.col(item).unique(maintain_order=True))
    for word in named[long["property"]].drop_nulls().unique(maintain_order=True).to_list():
        own = named.filter(pl.col(long["property"]) == word).select(item, pl.col(long["value"]).alias(str(word)))
        if word not in wide.columns:
            wide = wide.join(own, on=item, how="left", maintain_order="left")
    settings = {**table.sample.settings, "long": long}
    remarks = {**table.sample.remarks, "long": "sure: a row is a product or user, a property and its value"}
    form = table.profile[long["time"]].time if "time" in long else None
    if form is not None and form.format != "iso":
        settings["time"] = {"format": form.format}
    sample = Sample(table.sample.path, settings, remarks, wide, table.sample.num_bad)
    made = Table(sample, profile=profile(sample))
    declare(made)
    if "time" in long:
        made.notes.append("the latest value of each property counts; long.until passes over later ones")
    return made
