"""Catalogues: the columns that describe products, their stock and the separator of their categories."""

from collections.abc import Callable

from txrec.data.detection.columns import Column, is_id, is_words, mean_length, share
from txrec.data.detection.names import fit, is_personal
from txrec.data.detection.table import Chosen, Table, best
from txrec.data.formats import values


def is_price(column: Column) -> bool:
    """True where (almost) all values are numbers, with or without a currency."""
    if column.is_number:
        return True
    number, bad = values.numbers(column.texts.head(2_000))
    return bool(len(number)) and share(bad) < 0.05 and number.null_count() < len(number)


def _is_nought(column: Column) -> bool:
    """True for a column of nothing but zeros, which shop systems write for prices that are not set."""
    return share(column.texts.str.contains(r"^[0.,]+$")) == 1.0


def is_catalogue(table: Table, item: str) -> bool:
    """True where the columns of a table describe products that its rows name."""
    column = table.profile[item]
    describing = sum(
        best(table, role, is_words, 0.5) is not None for role in ("title", "description", "brand", "category")
    )
    return column.filled > 0.3 and describing > 0 and (column.distinct > 0.5 or describing > 1)


def declare_items(table: Table, item: Chosen) -> None:
    """Declares a catalogue: the columns that describe its products."""
    table.kind = "items"
    table.take("item_id", *item)
    accepted: dict[str, Callable[[Column], bool]] = {
        "title": lambda column: not column.is_number,
        "price": lambda column: is_price(column) and not _is_nought(column),
        "available": _is_availability,
        "brand": is_words,
        "category": lambda column: column.time is None,
        "description": is_words,
    }
    for role, accept in accepted.items():
        chosen = best(table, role, accept, 0.5)
        if chosen and not (role == "title" and fit("category", chosen[0]) > fit("title", chosen[0])):
            table.take(role, *chosen)
    if "title" not in table.columns and "description" in table.columns:
        table.take("title", table.columns.pop("description"), "likely: the only text of a product")
    if "title" not in table.columns:
        _take_any_title(table)
    if "available" not in table.columns:
        _take_pieces(table)
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


def _take_any_title(table: Table) -> None:
    """Takes the most telling text of products that have neither a title nor a description."""
    texts = {
        name: column.texts.n_unique()
        for name, column in table.profile.items()
        if name not in table.columns.values() and is_words(column) and max(fit("description", name), fit("title", name))
        and not is_personal(name) and column.filled > 0.5 and mean_length(column.texts.head(500)) > 3
    }  # fmt: skip
    if texts:
        table.take("title", max(texts, key=lambda name: texts[name]), "guess: the most telling text of a product")


def _take_pieces(table: Table) -> None:
    """Takes the quantity of a catalogue's products for their stock."""
    pieces = best(table, "quantity", lambda column: column.is_number and is_id(column) and column.filled > 0.5, 0.5)
    if pieces:
        table.take("available", pieces[0], "likely: pieces in stock; 0 = not available")


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
