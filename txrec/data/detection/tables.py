"""Tables of a shop by kind: events, items, judgments or none, and what their columns stand for."""

import re
from zoneinfo import available_timezones

import polars as pl

from txrec.data.detection import users_tables
from txrec.data.detection.catalogues import declare_items, is_catalogue, is_price
from txrec.data.detection.columns import Column, few_words, is_id, is_words, mean_length, profile, share
from txrec.data.detection.event_kinds import leave_out_cancelled, leave_out_changes, take_event, take_one_kind
from txrec.data.detection.judged_pairs import judgments
from txrec.data.detection.names import fit, is_count_of_products, names_a_person, plain_name
from txrec.data.detection.sample import Sample
from txrec.data.detection.table import SURE, Chosen, Table, best
from txrec.data.detection.time_formats import is_clock
from txrec.data.detection.unnamed import names_by_values
from txrec.data.formats import values

_MANY_ROWS = 20
"""Rows from which on numbers that never come again name no products of orders."""
_LONGEST_NAME = 80
"""Mean length of names of products; longer texts are lists or descriptions."""
NAMES_AS_IDS = "likely: names of products, in place of ids"
"""Remark on the products of a log that names them by their titles alone."""
_OF_PRODUCTS = ("item_", "product_", "article_")
_MOST_KNOWN = 0.95
"""Share of the rows with a user from which on the others are lost without harm."""


def classified(sample: Sample) -> Table:
    """Tells the kind of a table and the meaning of its columns."""
    table = Table(sample, profile=profile(sample))
    if sample.settings.get("format") == "sequence_text":
        table.kind, table.columns = "events", {}
        take_one_kind(table)
        return table
    if sample.remarks.get("encoding", "").startswith("guess"):
        table.questions.append(_encoding_question(sample))
    has_header = sample.settings.get("header", True)
    of_users = users_tables.user_column(sample.path, table.profile, has_header=has_header)
    if of_users is not None:
        users_tables.declare(table, of_users, has_header=has_header)
        return table
    if not has_header:
        _name_columns(table)
    user, item = _user(table), _product(table)
    session = best(table, "session_id", _is_person)
    grade = best(table, "grade", lambda column: column.is_number or few_words(column, 8))
    query = best(table, "query", is_words)
    when = _time_column(table)
    if item and query and grade and not user and when is None and grade[0] != "value":
        judgments(table, query, item, grade)
        return table
    if (user or session) and (item or query):
        _events(table, user or (None, ""), session, item)
        return table
    if item is None:
        item = _bare_id(table)
    if item and is_catalogue(table, item[0]) and not _is_order_lines(table):
        declare_items(table, item)
    elif item and not user:
        table.kind = "lines"  # order lines, whose user and time stand in another table
        table.take("item_id", *item)
    return table


def _encoding_question(sample: Sample) -> str:
    texts = (text for name in sample.columns for text in sample.texts(name).head(500).to_list())
    shown = next((text for text in texts if not text.isascii()), "")
    return f"encoding = {sample.settings['encoding']!r} is a guess: is {shown[:40]!r} spelled right?"


def _is_person(column: Column) -> bool:
    """True where the values may name users or sessions; some analytics number them `1234567.7654321`."""
    return is_id(column, whole=False)


def _user(table: Table) -> Chosen | None:
    """The column that names users; one with the same value in many rows is none, unless its name is a usual one."""
    varied = best(table, "user_id", lambda column: _is_person(column) and column.texts.n_unique() > 1)
    return varied or best(table, "user_id", _is_person, SURE)


def _product(table: Table) -> Chosen | None:
    """The column that names products: ids, the `id` of a list's elements, or the names of products that come again."""
    item = best(table, "item_id", lambda column: is_id(column) and not _is_count(column) and not _is_worded(column))
    item = item or best(table, "item_id", lambda column: is_id(column) and not _is_count(column)) or _id_of_rows(table)
    if item is None:
        return _product_name(table)
    column = table.profile[item[0]]
    if column.is_number and column.distinct > _MOST_KNOWN and len(column.texts) >= _MANY_ROWS and _orders(table):
        repeated = [n for n, c in table.profile.items() if fit("item_id", n) >= 0.5 and is_id(c) and c.distinct < 0.9]
        if repeated:  # the other one numbers the lines of orders
            name = max(repeated, key=lambda one: fit("item_id", one))
            return name, f"likely: by its name; {item[0]} numbers the rows"
    return item


def _is_worded(column: Column) -> bool:
    """True for names of products rather than ids: many hold blanks."""
    return share(column.texts.head(2_000).str.contains(r"\pL \pL")) > 0.3


def _is_count(column: Column) -> bool:
    """True for numbers of products, as `items` of an order."""
    return column.is_number and is_count_of_products(column.name)


def _product_name(table: Table) -> Chosen | None:
    """A column of names of products in a log that has no ids."""
    for name, column in table.profile.items():
        is_described = max(fit("title", name), fit("description", name) - 0.3) >= 0.5
        named = (is_described or plain_name(name).startswith(_OF_PRODUCTS)) and not names_a_person(name)
        worded = (
            is_words(column) and fit("category", name) < 0.5 and mean_length(column.texts.head(500)) <= _LONGEST_NAME
        )
        if named and worded and column.distinct < 0.5 and column.filled > 0.9 and not few_words(column, 3):
            return name, NAMES_AS_IDS
    return None


def _orders(table: Table) -> str | None:
    """The column of the number of the order, ticket or basket that a row belongs to."""
    ids = [n for n, c in table.profile.items() if is_id(c) and c.filled > 0.9]
    named = max(ids, key=lambda name: fit("request_id", name), default=None)
    if named is not None and fit("request_id", named) >= 0.5:
        return named
    return next((n for n in ids if share(table.profile[n].texts.str.contains(r"^#\w*\d$")) == 1.0), None)


def _is_order_lines(table: Table) -> bool:
    """True where rows have a number of an order and a quantity: those of a catalogue have not both."""
    return _orders(table) is not None and any(fit("quantity", name) >= 0.5 for name in table.profile)


def declare_orders(table: Table) -> bool:
    """Takes orders as users, where nothing says whose the orders are; false where the table has no orders or times."""
    orders, item = _orders(table), (table.columns["item_id"], table.remarks["item_id"])
    if orders is None or orders == item[0] or _time_column(table) is None:
        return False
    table.columns = {}
    _events(table, (orders, "guess: no column names users, so that every order is one"), None, item)
    if "event" not in table.columns:
        table.settings["constants"] = {"event": "purchase"}
    table.questions.append(
        f"no column names users: every {orders} is a user of its own, which tells what goes together and nothing about "
        "people; which column or file says whose an order is?"
    )
    return True


def _id_of_rows(table: Table) -> Chosen | None:
    """The `id` of a list of products whose elements are the rows."""
    for name in table.sample.settings.get("rows", ()):
        single = name.rpartition(".")[2].removesuffix("s")
        kept = any(fit(role, single) >= 0.5 for role in ("request_id", "session_id"))
        if f"{name}.id" in table.profile and not kept:
            return f"{name}.id", "likely: the id of the list's elements"
    return None


_BARE_IDS = ("id", "key", "code", "number", "nr", "no", "codigo", "codice", "kod", "код", "编号", "コード")


def _bare_id(table: Table) -> Chosen | None:
    """A column named `id`, or the first column, of a table that names its rows by it."""
    names = list(table.profile)
    for name in [*(n for n in names if plain_name(n) in _BARE_IDS), *names[:1]]:
        column = table.profile[name]
        if is_id(column) and column.filled > 0.9 and column.distinct > 0.9:
            return name, "likely: its values name the rows"
    return None


def _time_column(table: Table) -> str | None:
    """The column that says when a row happened."""
    timed = [column for column in table.profile.values() if column.time and column.filled > 0.5]
    by_name = {column.name: fit("ts", column.name) for column in timed}
    named = [column for column in timed if by_name[column.name] >= 0.3]
    if named:
        inner = tuple(f"{name}." for name in table.sample.settings.get("embedded", ()))
        finest = {
            c.name: by_name[c.name]
            - 0.5 * _is_later(c.name)
            + 0.1 * (not _is_day(c))
            + (bool(inner) and c.name.startswith(inner))
            for c in named
        }
        return max(finest, key=lambda one: finest[one])
    timed = [c for c in timed if max(fit("item_id", c.name), fit("user_id", c.name), fit("price", c.name)) < 0.3]
    texts = [column for column in timed if column.time and column.time.format not in ("s", "ms", "us", "ns")]
    chosen = texts or [column for column in timed if column.time and column.time.format in ("s", "ms")]
    return chosen[0].name if len(chosen) == 1 else None


_LATER = frozenset({
    "received", "sent", "processed", "upload", "uploaded", "ingested", "loaded", "updated", "modified", "shipped",
    "delivered", "delivery", "estimated", "due", "required", "approved", "expires",
})  # fmt: skip
"""Words of times at which something else happened than the event itself."""


def _is_later(name: str) -> bool:
    return bool(_LATER & set(plain_name(name).split("_")))


def _is_day(column: Column) -> bool:
    form = column.time.format if column.time else ""
    day_only = form == "iso" and not bool(column.texts.head(100).str.contains(":").any())
    return day_only or (form.startswith("%") and "%H" not in form and "%I" not in form)


def _events(table: Table, user: tuple[str | None, str], session: Chosen | None, item: Chosen | None) -> None:
    table.kind = "events"
    if user[0]:
        table.take("user_id", user[0], user[1])
    if session and session[0] != user[0]:
        table.take("session_id" if user[0] else "user_id", session[0], session[1])
    if item:
        table.take("item_id", *item)
        _ask_for_ids_of_rows(table, item[0])
    if user[0]:
        _take_visitor(table, user[0])
    if user[0]:
        _ask_about_unknown_users(table, user[0])
    _take_time(table)
    take_event(table)
    if "event" not in table.columns and any(plain_name(name) in ("tag", "tags", "tag_id") for name in table.profile):
        table.kind, table.questions = "other", ["it holds tags that users gave to products and is left out"]
    query = best(table, "query", is_words, 0.5)
    if query:
        table.take("query", *query)
    _take_rest(table)


def _ask_for_ids_of_rows(table: Table, name: str) -> None:
    """Asks whether a column whose every value is another one names products or rows."""
    column = table.profile[name]
    if plain_name(name) == "id" and column.distinct > _MOST_KNOWN:
        table.questions.append(f"{name} is another one in every row: does it name products, or the rows themselves?")


def _take_visitor(table: Table, user: str) -> None:
    """Takes a fuller column of visitors as the session: where no user is known, the session is the user."""
    filled = table.profile[user].filled
    visitor = best(table, "user_id", _is_person, 0.5)
    session = table.profile.get(table.columns.get("session_id", ""))
    longer = visitor and (session is None or table.profile[visitor[0]].texts.n_unique() < session.texts.n_unique())
    if filled < _MOST_KNOWN and visitor and longer and table.profile[visitor[0]].filled > filled:
        table.take("session_id", visitor[0], f"likely: names users where {user} is empty")


def _ask_about_unknown_users(table: Table, name: str) -> None:
    """Question about a user id with a large part of the rows: one user, or the word for unknown users."""
    texts = values.without(table.profile[name].texts, values.NOBODY).drop_nulls().alias("word")
    counts = texts.value_counts(sort=True).head(2)
    if counts.height < 2:
        return
    word, most, second = counts["word"][0], counts["count"][0], counts["count"][1]
    if most > 0.05 * len(texts) and (most > 10 * second or (most > 2 * second and _NOBODY.fullmatch(word.lower()))):
        table.questions.append(
            f"{name} = {word!r} has {most / len(texts):.0%} of the rows: one user, or all who are not known? Then set "
            f"missing = {{ user_id = [{word!r}] }}"
        )


_NOBODY = re.compile(r"[0-]+|unknown|unbekannt|not logged in|no_?user|default|empty|visitor|user|gast|invite|invitado")


def _take_time(table: Table) -> None:
    name = _time_column(table)
    if name is None:
        table.questions.append(
            "no column with times was recognised; without times everybody's last event is the test part"
        )
        return
    column = table.profile[name]
    if column.time is None:
        return
    table.take("ts", name, column.time.remark)
    if column.time.format != "iso":
        table.settings["time"] = {"format": column.time.format}
    if column.time.question:
        table.questions.append(f"{name}: {column.time.question}; change time.format if that is wrong")
    if _is_day(column):
        _take_clock(table, name)
    _take_zone(table)


def _take_zone(table: Table) -> None:
    """Takes the zone that a column names for all times, or asks for it."""
    for name, column in table.profile.items():
        if plain_name(name) not in _ZONES or not is_words(column) or not len(column.texts):
            continue
        zones = column.texts.unique(maintain_order=True).to_list()
        if len(zones) == 1 and zones[0] in available_timezones():
            table.settings["time"] = {**table.settings.get("time", {}), "zone": zones[0]}
            table.remarks["time"] = f"sure: {name} says so"
        else:
            listed = ", ".join(map(repr, zones[:3]))
            table.questions.append(
                f"{name} = {listed}: times are read as UTC unless they carry an offset; set time.zone to a name such "
                "as America/New_York"
            )
        return


_ZONES = ("time_zone", "timezone", "tz", "zeitzone", "zona_horaria", "fuseau_horaire")


def _take_clock(table: Table, day: str) -> None:
    for name, column in table.profile.items():
        if name == day or name in table.columns.values() or not len(column.texts) or fit("clock", name) < 0.3:
            continue
        milliseconds = column.is_number and plain_name(name) in ("timeframe", "time_ms", "ms")
        if is_clock(column.texts) or milliseconds:
            unit = {"clock_unit": "ms"} if milliseconds else {}
            table.settings["time"] = {**table.settings.get("time", {}), "clock": name, **unit}
            table.remarks["time"] = f"sure: {name} is the time of day of {day}"
            return


def _take_rest(table: Table) -> None:
    leave_out_changes(table)
    leave_out_cancelled(table)
    request = best(table, "request_id", is_id, 0.5)
    if request:
        table.take("request_id", *request)
    value = best(table, "value", is_price, 0.5)
    if value:
        table.take("value", *value)
    quantity = next((n for n, c in table.profile.items() if fit("quantity", n) >= 0.5 and c.is_number), None)
    if quantity and (table.profile[quantity].texts.cast(pl.Float64, strict=False) < 1).any():
        rule = {"column": quantity, "below": 1, "reason": "negative_quantity"}
        table.settings.setdefault("reject", []).append(rule)
        table.notes.append(f"rows with {quantity} below 1 are left out")
    if request:
        texts = table.profile[request[0]].texts
        odd = texts.filter(texts.str.contains(r"^[Cc]\d+$"))
        if 0 < len(odd) < 0.3 * len(texts) and share(texts.str.contains(r"^\d+$")) > 0.6:
            rule = {"column": request[0], "matches": "^[Cc]", "reason": "cancellation"}
            table.settings.setdefault("reject", []).insert(0, rule)
            table.notes.append(f"rows with {request[0]} like {odd[0]!r} are left out as cancellations")


def _name_columns(table: Table) -> None:
    """Renames the columns of a file without a header by their values."""
    names = names_by_values(table.sample.path, list(table.profile.values()))
    renamed = [names.get(name, name) for name in table.profile]
    listed = ", ".join(f"{place} = {name}" for place, name in enumerate(renamed, 1))
    table.questions.append(f"the file has no header; its columns were named by their values: {listed}")
    table.rename(names)
