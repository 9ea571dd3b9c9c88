"""Logs whose records name one product or a list of them: two sources of one file, told apart by their event words."""

import re

from txrec.data.detection.table import Table


def divide(single: Table, listed: Table) -> None:
    """Rules by which each of two sources of one file passes over the events of the other.

    Args:
        single: records that name one product.
        listed: the same records with a row per element of their list.
    """
    name = single.columns.get("event")
    if name is None or listed.columns.get("event") != name or "item_id" not in single.columns:
        return
    people = {role: single.columns[role] for role in ("user_id", "session_id") if role in single.columns}
    if set(people.values()) <= set(listed.profile):
        listed.columns = {role: name for role, name in listed.columns.items() if name not in people.values()} | people
        listed.remarks |= {role: single.remarks[role] for role in people}
    in_single, in_listed = _words(single, name), _words(listed, name)
    every = set(single.profile[name].texts.unique().to_list())
    for table, words in ((single, in_listed - in_single), (listed, every - in_listed)):
        ruled = " ".join(rule["matches"] for rule in table.settings.get("reject", []) if rule["column"] == name)
        others = sorted(word for word in words if re.escape(word) not in ruled)
        if others:
            pattern = "^(" + "|".join(map(re.escape, others)) + ")$"
            table.settings.setdefault("reject", []).append({"column": name, "matches": pattern})
            table.notes.append(f"rows with {name} = {', '.join(others[:8])} are read by the other source of this file")


def _words(table: Table, name: str) -> set[str]:
    """Event words of the rows that name a product."""
    item = table.sample.frame[table.columns["item_id"]]
    return set(table.sample.frame[name].filter(item.is_not_null()).drop_nulls().unique().to_list())
