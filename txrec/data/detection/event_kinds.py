"""Kinds of events: words of a column, a table's name and columns, and rows that tell of no event."""

import re
from collections.abc import Sequence

import polars as pl

from txrec.data.detection.columns import few_words, is_words, share
from txrec.data.detection.event_words import event_kind, kind_of_file, may_be_purchase
from txrec.data.detection.names import fit, plain_name
from txrec.data.detection.table import Table, best, remark
from txrec.text.folding import fold

_MOST_EVENT_WORDS = 60


def take_event(table: Table) -> None:
    """Declares the column of the kind of event with its words, or else one kind for all rows."""
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
    kinds = {name: len(set(map(event_kind, table.profile[name].texts.unique())) - {None, "ignored"}) for name in words}
    name = max(words, key=lambda one: (known[one] > 0, known[one] > 0.5, kinds[one], words[one]), default="")
    if not name or not known[name]:
        name = _column_of_event_words(table)
    if not name and _take_flag_of_clicks(table):
        return
    if not name:
        take_one_kind(table)
        return
    table.take("event", name, remark(words.get(name, 0.0), table.profile[name]))
    counts = table.profile[name].texts.alias("word").value_counts(sort=True)
    _take_event_words(table, name, counts["word"].to_list())


def _column_of_event_words(table: Table) -> str:
    """A column, whatever its name, of nothing but words of several kinds of events; empty where there is none."""
    for name, column in table.profile.items():
        if name in table.columns.values() or not is_words(column) or not few_words(column, _FEW_EVENT_WORDS):
            continue
        kinds = {event_kind(word) for word in column.texts.unique().to_list()}
        if len(kinds - {"ignored"}) > 1 and None not in kinds:
            return name
    return ""


def _take_flag_of_clicks(table: Table) -> bool:
    """Declares a column that says whether what was shown was clicked; false where there is none."""
    for name, column in table.profile.items():
        words = column.texts.unique(maintain_order=True).to_list()
        if plain_name(name.rpartition(".")[2]) in _FLAGS_OF_CLICKS and len(words) == 2:
            kinds = {word: "click" if word.lower() in _YES else "impression" for word in words}
            if set(kinds.values()) == {"click", "impression"}:
                table.take("event", name, "likely: it says whether what was shown was clicked")
                table.settings["values"] = {"event": kinds}
                return True
    return False


_FLAGS_OF_CLICKS = ("click", "clicked", "is_click", "is_clicked", "was_clicked", "click_flag", "clicked_flag", "clk")
_YES = ("1", "1.0", "true", "t", "yes", "y")
_FEW_EVENT_WORDS = 12
_MOST_CODES = 12


def take_one_kind(table: Table) -> None:
    """Declares one kind for all rows of a table without a readable column for it, and asks where it is a guess."""
    kind = _kind_of_all_rows(table)
    table.settings["constants"] = {"event": kind or "click"}
    codes = _column_of_codes(table)
    if kind is None:
        table.remarks["constants"] = "guess"
    if codes:
        table.questions.append(_question_of_codes(table, codes, kind or "click"))
    elif kind is None:
        table.questions.append(
            "what did users do in this table? No column says so; all rows are read as clicks (constants.event; allowed "
            "are search, impression, view, click, cart, purchase, rate)"
        )


def _column_of_codes(table: Table) -> str | None:
    """The column of numbers that stand for kinds of events."""
    return next(
        (name for name, column in table.profile.items() if name not in table.columns.values() and column.is_number
         and fit("event", name) >= 0.5 and 1 < column.texts.n_unique() <= _MOST_CODES),
        None,
    )  # fmt: skip


def _question_of_codes(table: Table, name: str, kind: str) -> str:
    counts = table.profile[name].texts.alias("code").value_counts(sort=True)
    listed = ", ".join(f"{code} ({count:,} rows)" for code, count in counts.iter_rows())
    example = ", ".join(f'"{code}" = "view"' for code in counts["code"].head(2).to_list())
    return (
        f"{name} holds numbers for kinds of events: {listed}. Which are they? All rows are read as {kind}; instead of "
        f"constants.event set columns.event = {name!r} and values.event = {{ {example}, ... }}"
    )


def _is_event_word(word: str) -> bool:
    return event_kind(word) not in (None, "ignored")


def _take_event_words(table: Table, name: str, words: Sequence[str]) -> None:
    kinds = {word: event_kind(word) or _kind_by_product(table, name, word) for word in words}
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
    buying = [word for word in ignored if may_be_purchase(word)]
    if buying and "purchase" not in kinds.values():
        table.questions.append(
            f"{name} = {', '.join(map(repr, buying))}: does it mean that something was bought? No other word does; its "
            f"rows are left out; map it to purchase in values.event and take it out of the rule on {name} to keep them"
        )
    for word in unknown:
        table.questions.append(
            f"{name} = {word!r}: which kind of event is it? Its rows are left out; map it in values.event and take it "
            f"out of the rule on {name} to keep them"
        )


def _kind_by_product(table: Table, name: str, word: str) -> str | None:
    """The kind of a word that says nothing, by a column of products with a name that does (`productViewSku`)."""
    item = table.columns.get("item_id", "")
    if event_kind(item.rpartition(".")[2]) != "view":
        return None
    named = table.sample.frame.filter(pl.col(name).cast(pl.String) == word)[item]
    return "view" if len(named) and named.null_count() < len(named) else None


_TIMES_OF_EVENTS = re.compile(r"(click|clicked|view|viewed|visit|order|purchase|invoice|sale|review|rating)_")
"""Beginnings of names of times that say what happened then (`click_timestamp`)."""
_SALES = ("transaction_", "purchase_", "sales_", "invoice_", "t_dat", "currency", "waehrung", "wahrung", "moneda",
          "devise")  # fmt: skip


def _kind_of_all_rows(table: Table) -> str | None:
    """The kind of all events of a table without a column for it, with a remark on the reason; None = nothing tells."""
    names = [plain_name(name) for name in table.profile]
    kind, reason = _kind_by_columns(table, names) or _kind_by_file(table, names) or (None, "")
    if kind:
        table.remarks["constants"] = reason
    return kind


def _kind_by_columns(table: Table, names: Sequence[str]) -> tuple[str, str] | None:
    """The kind that columns tell of, whatever the file's name, and the reason."""
    rating = best(table, "value", lambda column: column.is_number and few_words(column, 20), 0.6)
    if (rating and fit("grade", rating[0]) > 0) or any(
        name.startswith(("rating", "stars", "overall")) for name in names
    ):
        return "rate", "sure: the table holds ratings"
    by_time = _TIMES_OF_EVENTS.match(plain_name(table.columns.get("ts", "").rpartition(".")[2]))
    if by_time:
        return event_kind(by_time[1]) or "click", f"likely: by the name of {table.columns['ts']}"
    by_item = _kind_by_item(table.columns.get("item_id", ""))
    return (by_item, f"likely: by the name of {table.columns['item_id']}") if by_item else None


def _kind_by_file(table: Table, names: Sequence[str]) -> tuple[str, str] | None:
    """The kind by the file's name, unless columns of orders tell of another one, and the reason."""
    by_file = kind_of_file(table.sample.path)
    if by_file not in (None, "purchase", "rate") and _is_of_orders(names):
        return "purchase", "likely: the table has quantities and order numbers"
    if by_file and (by_file != "search" or best(table, "query", is_words, 0.5)):
        return by_file, "likely: by the file's name"
    if any(fit("quantity", name) >= 0.5 or fit("request_id", name) >= 0.6 or name.startswith(_SALES) for name in names):
        return "purchase", "likely: the table has quantities, order numbers or sales"
    if any("play" in name or "listen" in name or "track" in name or "artist" in name for name in names):
        return "view", "likely: plays"
    return None


def _kind_by_item(name: str) -> str | None:
    """The kind that the name of a product's column tells of (`clicked_product_id`)."""
    parts = plain_name(name.rpartition(".")[2]).split("_")
    return next((kind for word, kind in _DONE.items() if word in (parts[0], parts[-1]) and len(parts) > 1), None)


_DONE = {"clicked": "click", "viewed": "view", "visited": "view", "watched": "view", "purchased": "purchase",
         "bought": "purchase", "ordered": "purchase", "sold": "purchase", "rated": "rate",
         "reviewed": "rate"}  # fmt: skip
"""Words of products' columns = what was done to them."""
_NUMBERS_OF_CARTS = ("cart", "basket", "checkout", "request", "slate")


def _is_of_orders(names: Sequence[str]) -> bool:
    """True where columns hold quantities and numbers of orders, which carts and searches do not have."""
    quantities = any(fit("quantity", name) >= 0.5 for name in names)
    orders = [name for name in names if fit("request_id", name) >= 0.6 and not name.startswith(_NUMBERS_OF_CARTS)]
    return quantities and bool(orders)


_CHANGES = re.compile(r"u|d|t|update|delete|truncate", re.IGNORECASE)
_OPERATIONS = re.compile(r"c|r|i|create|read|insert|snapshot", re.IGNORECASE)


def leave_out_changes(table: Table) -> None:
    """Leaves out updates and deletions in a feed of changes: an event happens once."""
    for name, column in table.profile.items():
        if plain_name(name.rpartition(".")[2]) not in ("op", "operation") or name in table.columns.values():
            continue
        words = [str(word) for word in column.texts.unique(maintain_order=True).to_list()]
        changes = [word for word in words if _CHANGES.fullmatch(word)]
        if changes and all(_CHANGES.fullmatch(word) or _OPERATIONS.fullmatch(word) for word in words):
            rule = {"column": name, "matches": f"^({'|'.join(changes)})$"}
            table.settings.setdefault("reject", []).append(rule)
            table.notes.append(f"rows with {name} = {', '.join(changes)} are left out: changes of earlier rows")


_STATES = frozenset({"status", "order_status", "order_state", "state", "financial_status",
                     "payment_status", "bestellstatus", "statut", "etat", "estado", "stato", "stav",
                     "статус", "statusu", "statusz", "durum", "durumu", "tila", "状态", "状態", "ステータス",
                     "상태"})  # fmt: skip
_CANCELLED = re.compile(
    r"(wc-)?(cancel+ed|cancel|refunded|voided|void|failed|rejected|declined|returned|storniert|storno|retour|annule(e?s?|r)"
    r"|annulé|cancelad[oa]|annullat[oa]|rembourse|remboursé|geannuleerd|geretourneerd|anulowan[aeyo]|zwrot|retourniert"
    r"|zrušen[aáoýé]|annulleret|kansellert|avbruten|makulerad|peruttu|peruutettu|törölve|iptal( edildi)?|iade( edildi)?"
    r"|отмен[её]н[ао]?|возврат|скасовано|取消|已取消|已退款|キャンセル|취소|환불)",
    re.IGNORECASE,
)


def _is_state(plain: str) -> bool:
    """True for a name of a column of states, as a word of it or, without blanks, its end (`订单状态`)."""
    return bool({plain, *plain.split("_")} & _STATES) or plain.endswith(_UNSPACED_STATES)


_UNSPACED_STATES = ("状态", "狀態", "状態", "ステータス", "상태")


def _is_cancelled(word: str) -> bool:
    return bool(_CANCELLED.fullmatch(word) or _CANCELLED.fullmatch(fold(word.lower())))


def leave_out_cancelled(table: Table) -> None:
    """Leaves out orders that were cancelled, refunded or not paid, by a column of their states."""
    for name, column in table.profile.items():
        plain = plain_name(name.rpartition(".")[2].removesuffix(":joined"))
        if not _is_state(plain) or name in table.columns.values() or not few_words(column, 30):
            continue
        lost = [word for word in column.texts.unique(maintain_order=True).to_list() if _is_cancelled(word)]
        if lost:
            pattern = "^(" + "|".join(map(re.escape, lost)) + ")$"
            rule = {"column": name, "matches": pattern, "reason": "cancellation"}
            table.settings.setdefault("reject", []).append(rule)
            table.notes.append(f"rows with {name} = {', '.join(lost)} are left out as cancellations")
