"""Tables of a shop by kind: events, items, judgments or none, and what their columns stand for."""

import re
from collections.abc import Callable, Sequence

import polars as pl

from txrec.data import values
from txrec.data.detection import users
from txrec.data.detection.columns import Column, is_id, mean_length, profile, share
from txrec.data.detection.judged import judgments
from txrec.data.detection.names import event_kind, fit, kind_of_file, plain_name
from txrec.data.detection.sample import Sample
from txrec.data.detection.table import Chosen, Table, best, remark
from txrec.data.detection.times import is_clock
from txrec.data.detection.unnamed import names_by_values

_MOST_EVENT_WORDS = 60


def classified(sample: Sample) -> Table:
    """Tells the kind of a table and the meaning of its columns."""
    table = Table(sample, profile=profile(sample))
    if sample.settings.get("format") == "sequence_text":
        table.kind, table.columns = "events", {}
        table.settings["constants"] = {"event": _kind_or_question(table)}
        return table
    if sample.remarks.get("encoding", "").startswith("guess"):
        table.questions.append(_encoding_question(sample))
    has_header = sample.settings.get("header", True)
    of_users = users.user_column(sample.path, table.profile, has_header=has_header)
    if of_users is not None:
        users.declare(table, of_users, has_header=has_header)
        return table
    if not has_header:
        _name_columns(table)
    user, item = best(table, "user_id", _is_person), best(table, "item_id", is_id)
    session = best(table, "session_id", _is_person)
    grade = best(table, "grade", lambda column: column.is_number or _few_words(column, 8))
    query = best(table, "query", _is_words)
    when = _time_column(table)
    if item and query and grade and not user and when is None and grade[0] != "value":
        judgments(table, query, item, grade)
        return table
    if (user or session) and (item or query):
        _events(table, user or (None, ""), session, item)
        return table
    if item is None:
        item = _bare_id(table)
    if item and _is_catalogue(table, item[0]):
        _items(table, item)
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


def _is_words(column: Column) -> bool:
    return not column.is_number and column.time is None


def _few_words(column: Column, most: int) -> bool:
    return column.texts.n_unique() <= most


def _bare_id(table: Table) -> Chosen | None:
    """A column named `id`, or the first column, of a table that names its rows by it."""
    names = list(table.profile)
    for name in [*(n for n in names if plain_name(n) in ("id", "key", "code", "number", "nr")), *names[:1]]:
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
        finest = {c.name: by_name[c.name] + 0.1 * (not _is_day(c)) for c in named}
        return max(finest, key=lambda one: finest[one])
    timed = [c for c in timed if max(fit("item_id", c.name), fit("user_id", c.name), fit("price", c.name)) < 0.3]
    texts = [column for column in timed if column.time and column.time.format not in ("s", "ms", "us", "ns")]
    chosen = texts or [column for column in timed if column.time and column.time.format in ("s", "ms")]
    return chosen[0].name if len(chosen) == 1 else None


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
    if user[0]:
        _ask_for_nobody(table, user[0])
    _take_time(table)
    _take_event(table)
    query = best(table, "query", _is_words, 0.5)
    if query:
        table.take("query", *query)
    _take_rest(table)


def _ask_for_nobody(table: Table, name: str) -> None:
    """Asks whether a user id with a large part of the rows stands for everybody who is not known."""
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


def _take_event(table: Table) -> None:
    words = {
        name: fit("event", name)
        for name, column in table.profile.items()
        if name not in table.columns.values() and not column.is_number and fit("event", name) >= 0.3
        and len(column.texts) and column.texts.n_unique() <= _MOST_EVENT_WORDS
    }  # fmt: skip
    known = {
        name: share(table.profile[name].texts.unique().map_elements(_is_event_word, return_dtype=pl.Boolean))
        for name in words
    }
    name = max(words, key=lambda one: (known[one] > 0, known[one] > 0.5, words[one]), default="")
    if not name or not known[name]:
        table.settings["constants"] = {"event": _kind_or_question(table)}
        return
    table.take("event", name, remark(words[name], table.profile[name]))
    counts = table.profile[name].texts.alias("word").value_counts(sort=True)
    _take_event_words(table, name, counts["word"].to_list())


def _is_event_word(word: str) -> bool:
    return event_kind(word) not in (None, "ignored")


def _take_event_words(table: Table, name: str, words: Sequence[str]) -> None:
    kinds = {word: event_kind(word) for word in words}
    ignored = [word for word, kind in kinds.items() if kind == "ignored"]
    unknown = [word for word, kind in kinds.items() if kind is None]
    mapped = {word: kind for word, kind in kinds.items() if kind not in (None, "ignored", word.lower())}
    if mapped:
        table.settings["values"] = {"event": mapped}
        table.remarks["values"] = "likely: by the words themselves"
    left_out = [*ignored, *unknown]
    if left_out:
        pattern = "^(" + "|".join(re.escape(word) for word in left_out) + ")$"
        table.settings.setdefault("reject", []).append({"column": name, "matches": pattern})
        table.notes.append(f"rows with {name} = {', '.join(left_out[:8])} are left out: no engagement with a product")
    for word in unknown:
        table.questions.append(
            f"{name} = {word!r}: which kind of event is it? Its rows are left out; map it in values.event and take it "
            f"out of the rule on {name} to keep them"
        )


_SALES = ("transaction_", "purchase_", "sales_", "invoice_", "t_dat")


def _kind_or_question(table: Table) -> str:
    """The kind of all events of a table without a column for it."""
    names = [plain_name(name) for name in table.profile]
    rating = best(table, "value", lambda column: column.is_number and _few_words(column, 20), 0.6)
    if (rating and fit("grade", rating[0]) > 0) or any(
        name.startswith(("rating", "stars", "overall")) for name in names
    ):
        table.remarks["constants"] = "sure: the table holds ratings"
        return "rate"
    by_file = kind_of_file(table.sample.path)
    if by_file:
        table.remarks["constants"] = "likely: by the file's name"
        return by_file
    if any(fit("quantity", name) >= 0.5 or fit("request_id", name) >= 0.6 or name.startswith(_SALES) for name in names):
        table.remarks["constants"] = "likely: the table has quantities, order numbers or sales"
        return "purchase"
    if any("play" in name or "listen" in name or "track" in name or "artist" in name for name in names):
        table.remarks["constants"] = "likely: plays"
        return "view"
    table.remarks["constants"] = "guess"
    table.questions.append(
        "what did users do in this table? No column says so; all rows are read as clicks (constants.event; allowed "
        "are search, impression, view, click, cart, purchase, rate)"
    )
    return "click"


def _take_rest(table: Table) -> None:
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
        odd = texts.filter(texts.str.contains(r"^[Cc]\d"))
        if 0 < len(odd) < 0.3 * len(texts) and share(texts.str.contains(r"^\d")) > 0.6:
            rule = {"column": request[0], "matches": "^[Cc]", "reason": "cancellation"}
            table.settings.setdefault("reject", []).insert(0, rule)
            table.notes.append(f"rows with {request[0]} like {odd[0]!r} are left out as cancellations")


def is_price(column: Column) -> bool:
    """True where (almost) all values are numbers, with or without a currency."""
    if column.is_number:
        return True
    number, bad = values.numbers(column.texts.head(2_000))
    return bool(len(number)) and share(bad) < 0.05 and number.null_count() < len(number)


def _is_catalogue(table: Table, item: str) -> bool:
    column = table.profile[item]
    describing = sum(
        best(table, role, _is_words, 0.5) is not None for role in ("title", "description", "brand", "category")
    )
    return column.filled > 0.3 and describing > 0 and (column.distinct > 0.5 or describing > 1)


def _items(table: Table, item: Chosen) -> None:
    table.kind = "items"
    table.take("item_id", *item)
    accepted: dict[str, Callable[[Column], bool]] = {
        "title": lambda column: not column.is_number,
        "price": is_price,
        "available": _is_availability,
        "brand": _is_words,
        "category": lambda column: column.time is None,
        "description": _is_words,
    }
    for role, accept in accepted.items():
        chosen = best(table, role, accept, 0.5)
        if chosen and not (role == "title" and fit("category", chosen[0]) > fit("title", chosen[0])):
            table.take(role, *chosen)
    if "title" not in table.columns and "description" in table.columns:
        table.take("title", table.columns.pop("description"), "likely: the only text of a product")
    if "category" in table.columns:
        _take_separator(table)
    if "available" in table.columns:
        _, unknown = values.availability(table.profile[table.columns["available"]].texts)
        words = table.profile[table.columns["available"]].texts.filter(unknown).unique().to_list()
        for word in words[:10]:
            table.questions.append(
                f"{table.columns['available']} = {word!r}: can such a product be ordered? See values"
            )
    taken = set(table.columns.values())
    extra = [
        name for name, column in table.profile.items()
        if name not in taken and 0 < column.texts.n_unique() <= 60 and column.filled > 0.3 and column.time is None
        and mean_length(column.texts.head(500)) < 30 and not name.startswith("column_")
        and column.texts.n_unique() > 1
    ]  # fmt: skip
    if extra:
        table.settings["attributes"] = extra[:12]
        table.remarks["attributes"] = "likely: columns with few values, for filters"


def _is_availability(column: Column) -> bool:
    _, unknown = values.availability(column.texts.unique().head(200))
    return share(unknown) < 0.5


def _take_separator(table: Table) -> None:
    texts = table.profile[table.columns["category"]].texts.head(2_000)
    for separator in (" > ", " >> ", "|", " / ", "///", ">", "/", ";", "."):
        if share(texts.str.contains(separator, literal=True)) > 0.3:
            if separator == "." and share(texts.str.contains(r"^[a-z_]+(\.[a-z_]+)+$")) < 0.3:
                continue
            table.settings["category_separator"] = separator
            table.remarks["category_separator"] = (
                f"likely: {texts.filter(texts.str.contains(separator, literal=True))[0]!r}"
            )
            return


def _name_columns(table: Table) -> None:
    """Renames the columns of a file without a header by their values."""
    names = names_by_values(table.sample.path, list(table.profile.values()))
    renamed = [names.get(name, name) for name in table.profile]
    listed = ", ".join(f"{place} = {name}" for place, name in enumerate(renamed, 1))
    table.questions.append(f"the file has no header; its columns were named by their values: {listed}")
    table.rename(names)
