"""Catalogues: the columns that describe products, their stock and the separator of their categories."""

from collections.abc import Callable

from txrec.data.detection.columns import Column, is_id, is_words, mean_length, share
from txrec.data.detection.names import fit, is_personal, plain_name, spelled_out
from txrec.data.detection.table import Chosen, Table, best
from txrec.data.formats import values


def is_price(column: Column) -> bool:
    """True where (almost) all values are numbers, with or without a currency."""
    if column.is_number:
        return True
    number, bad = values.numbers(column.texts.head(2_000))
    return bool(len(number)) and share(bad) < 0.05 and number.null_count() < len(number)


def _is_nought(column: Column) -> bool:
    """True for nothing but zeros, which shop systems write for prices that are not set, and for marks of 0 and 1."""
    return share(column.texts.str.contains(r"^(0[0.,]*|1)$")) == 1.0


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
        "brand": lambda column: is_words(column) and not (_is_store(column) and _is_of_people(table)),
        "category": lambda column: column.time is None,
        "description": is_words,
    }
    for role, accept in accepted.items():
        chosen = best(table, role, accept, 0.5)
        if chosen and not (role == "title" and fit("category", chosen[0]) > fit("title", chosen[0])):
            table.take(role, *chosen)
    if "title" not in table.columns and "description" in table.columns:
        table.take("title", table.columns.pop("description"), "likely: the only text of a product")
        _ask_for_title(table)
    if "title" not in table.columns and not _take_any_title(table):
        _ask_for_any_title(table)
    if "available" not in table.columns:
        _take_pieces(table)
    if "category" in table.columns:
        _take_separator(table)
        _take_separator_of_paths(table)
    costs = [] if "price" in table.columns else _ask_for_price(table)
    if "available" in table.columns:
        _, unknown = values.availability(table.profile[table.columns["available"]].texts)
        words = table.profile[table.columns["available"]].texts.filter(unknown).unique().to_list()
        for word in words[:10]:
            table.questions.append(
                f"{table.columns['available']} = {word!r}: can such a product be ordered? See values"
            )
    taken = {*table.columns.values(), *costs}
    extra = [
        name for name, column in table.profile.items()
        if name not in taken and 0 < column.texts.n_unique() <= 60 and column.filled > 0.3 and column.time is None
        and mean_length(column.texts.head(500)) < 30 and not name.startswith("column_")
        and column.texts.n_unique() > 1
    ]  # fmt: skip
    if extra:
        table.settings["attributes"] = extra[:12]
        table.remarks["attributes"] = "likely: columns with few values, for filters"


def _is_store(column: Column) -> bool:
    """True for a column of stores: marketplaces name the maker so, others where something was sold."""
    return plain_name(column.name.rpartition(".")[2]) in ("store", "shop")


def _is_of_people(table: Table) -> bool:
    """True where rows have users or numbers of orders."""
    return any(fit(role, name) >= 0.5 for name in table.profile for role in ("user_id", "session_id", "request_id"))


def _take_any_title(table: Table) -> bool:
    """Takes the most telling text of products that have neither a title nor a description."""
    texts = {
        name: column.texts.n_unique()
        for name, column in table.profile.items()
        if name not in table.columns.values() and is_words(column) and max(fit("description", name), fit("title", name))
        and not is_personal(name) and column.filled > 0.5 and mean_length(column.texts.head(500)) > 3
    }  # fmt: skip
    if texts:
        table.take("title", max(texts, key=lambda name: texts[name]), "guess: the most telling text of a product")
    return bool(texts)


def _ask_for_any_title(table: Table) -> None:
    """Asks which text of a catalogue without a recognised title is that."""
    texts = [
        name for name, column in table.profile.items()
        if name not in table.columns.values() and is_words(column) and not is_personal(name) and column.distinct > 0.5
        and mean_length(column.texts.head(500)) > 3 and not share(column.texts.str.contains("://")) > 0.5
    ]  # fmt: skip
    if texts:
        listed = ", ".join(texts[:4])
        table.questions.append(f"no column is named like a title; is it one of {listed}? Then set columns.title")


def _ask_for_title(table: Table) -> None:
    """Asks whether another text is the title where a description was taken for it."""
    taken = table.profile[table.columns["title"]]
    for name, column in table.profile.items():
        long = mean_length(column.texts.head(500))
        free = name not in table.columns.values() and is_words(column) and not is_personal(name)
        if free and column.distinct > 0.5 and 5 < long < 0.6 * mean_length(taken.texts.head(500)) and not is_id(column):
            table.questions.append(f"no column is named like a title, {taken.name} was taken: is it {name}?")
            return


def _take_pieces(table: Table) -> None:
    """Takes the quantity of a catalogue's products for their stock."""
    pieces = best(table, "quantity", lambda column: column.is_number and is_id(column) and column.filled > 0.5, 0.5)
    if pieces:
        table.take("available", pieces[0], "likely: pieces in stock; 0 = not available")


def _ask_for_price(table: Table) -> list[str]:
    """Asks whether one of the columns of numbers holds the prices; these columns."""
    numbers = [
        name for name, column in table.profile.items()
        if name not in table.columns.values() and is_price(column) and not _is_nought(column)
        and column.filled > 0.5
        and not column.time and (_is_of_money(name) or share(column.texts.str.contains(r"[.,]\d\d?$|[$€£¥₽]")) > 0.5)
        and max(fit(role, name) for role in ("value", "quantity", "grade")) < 0.7
    ]  # fmt: skip
    if numbers:
        listed = ", ".join(f"{name} ({table.profile[name].texts[0]})" for name in numbers[:4])
        table.questions.append(f"no column is named like a price; is it one of {listed}? Then set columns.price")
    return numbers


def _is_of_money(name: str) -> bool:
    return bool(_MONEY & set(spelled_out(plain_name(name)).split("_")))


_MONEY = frozenset({"amount", "cost", "costs", "price", "value", "betrag", "bedrag", "importe", "montant", "kwota",
                    "prijs", "preis", "prix", "cena", "pris"})  # fmt: skip


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


def _take_separator_of_paths(table: Table) -> None:
    """Takes the separator of several category paths in one field; asks where commas may also be parts of names."""
    texts = table.profile[table.columns["category"]].texts.head(2_000)
    inner = table.settings.get("category_separator", "")
    for between in ("|", ";", ","):
        several = texts.filter(texts.str.contains(between, literal=True))
        if between == inner.strip() or len(several) < max(2, _FEW_PATHS * len(texts)):
            continue
        firsts = {_first_part(text.partition(between)[0], inner) for text in texts.to_list()}
        heads: dict[str, set[str]] = {}
        for text in several.to_list():
            head, *tails = text.split(between)
            for tail in tails:
                heads.setdefault(tail.strip(), set()).add(head.strip())
        apart = [len(of_tail) > 1 or _first_part(tail, inner) in firsts for tail, of_tail in heads.items() if tail]
        if apart and sum(apart) >= _MOST_APART * len(apart):
            table.settings["categories_separator"] = between
            table.remarks["categories_separator"] = f"likely: several paths in one field; {several[0]!r}"
            return
        if any(apart):
            table.questions.append(
                f"{table.columns['category']} = {several[0]!r}: one category, or several? Then set "
                f"categories_separator = {between!r}"
            )
            return


_FEW_PATHS, _MOST_APART = 0.02, 0.8
"""Share of the texts with several paths that is looked at; of their parts that are paths rather than parts of names."""


def _first_part(text: str, separator: str) -> str:
    return (text.partition(separator)[0] if separator else text).strip()
