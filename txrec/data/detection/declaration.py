"""Configuration written from detected tables: TOML with comments on observations, guesses and open questions."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import InlineTable, Item

from txrec.config import Config
from txrec.config_loader import parse
from txrec.data.detection.catalogues import is_price
from txrec.data.detection.columns import Column, share
from txrec.data.detection.first_rows import with_first_rows
from txrec.data.detection.links import linked
from txrec.data.detection.mixed import divide
from txrec.data.detection.names import fit, names_a_person, plain_name
from txrec.data.detection.sample import Sample, sample, tables_in
from txrec.data.detection.table import Table
from txrec.data.detection.tables import NAMES_AS_IDS, classified
from txrec.data.preparation import source_check as checks
from txrec.errors import ConfigError, DataError

_ROLES = ("user_id", "session_id", "item_id", "ts", "event", "query", "request_id", "value", "title", "description",
          "category", "brand", "price", "available", "grade", "segments")  # fmt: skip
_FROM_EVENTS = ("title", "category", "brand", "price")
_TEXTS = frozenset({"title", "description", "query"})
_LINE = 110


@dataclass(frozen=True)
class Declaration:
    """Configuration with the tables that it follows from."""

    text: str
    """TOML."""
    config: Config
    tables: Sequence[Table]
    questions: Sequence[str]
    """Open questions to the shop; also comments of the text."""
    check: checks.Check | None
    """The first rows, read by the configuration; none where they cannot be read."""


def declare(paths: Sequence[str], name: str, runs_root: str = "runs") -> Declaration:
    """Looks at a shop's files and writes a configuration for them.

    Args:
        paths: files, folders or globs, local; an archive of several tables is taken apart.
        name: of the configuration.
        runs_root: folder of the runs.

    Raises:
        ConfigError: no path.
        DataError: a file is missing or is no table, or no file holds events or products.
    """
    if not paths:
        raise ConfigError("init: expected at least one file, e.g. txrec init events.csv catalogue.csv")
    root, relative = _common_root(paths)
    samples = [with_first_rows(sample(root, member)) for path in relative for member in tables_in(root, path)]
    tables = linked([table for one in samples for table in _tables_of(one)])
    _only_timed(tables)
    if not any(table.kind in ("events", "items", "judgments") for table in tables):
        listed = "; ".join(f"{table.sample.path} ({', '.join(table.sample.columns[:8])})" for table in tables)
        raise DataError(
            f"no file holds events (a user, a product, a time) or products (an id and a title): {listed}; "
            "see the guide on files and sources to declare them by hand"
        )
    document = _document(tables, name, root, runs_root)
    config = parse(document.unwrap(), "the detected configuration")
    first, problem = None, ""
    try:
        first = checks.check(config)
    except DataError as error:
        problem = f"the files cannot be read as declared: {error}"
    questions = [f"{table.sample.path}: {question}" for table in tables for question in table.questions]
    questions += [problem] if problem else []
    questions += first.warnings() if first is not None else []
    if not any(table.kind == "events" for table in tables):
        questions.append("no file holds events of users; recommendations need a log")
    if config.data.events and not config.data.items and "title" not in config.data.items_from_events:
        questions.append("no file holds titles of products: searches by words need a catalogue")
    return Declaration(_text(document, tables, questions), config, tables, questions, first)


def _tables_of(one: Sample) -> list[Table]:
    table = classified(one)
    if one.listed is None:
        return [table]
    listed = classified(one.listed)
    if table.kind != "events":
        return [listed if listed.kind == "events" else table]
    if listed.kind != "events" or "item_id" not in listed.columns:
        return [table]
    divide(table, listed)
    return [table, listed]


def _common_root(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The folder above all paths, relative to the working directory where it lies below it, and the paths in it."""
    full = [Path(path.partition("::")[0]).expanduser().absolute() for path in paths]
    members = [path.partition("::")[2] for path in paths]
    fixed = [Path(*_before_mark(path)) for path in full]
    folders = [path if path.is_dir() and path in full else path.parent for path in fixed]
    folders = [folder.parent if folder in full else folder for folder in folders]
    top = Path(os.path.commonpath(folders))
    shown = Path(os.path.relpath(top)) if top.is_relative_to(Path.cwd()) else top
    pairs = zip(full, members, strict=True)
    relative = [str(path.relative_to(top)) + (f"::{member}" if member else "") for path, member in pairs]
    return shown.as_posix(), relative


def _before_mark(path: Path) -> list[str]:
    parts = []
    for part in path.parts:
        if any(mark in part for mark in "*?["):
            break
        parts.append(part)
    return parts


def _only_timed(tables: Sequence[Table]) -> None:
    """Either all tables of events have times or none: those without are left out."""
    logs = [table for table in tables if table.kind == "events"]
    if any("ts" in table.columns for table in logs):
        for table in logs:
            if "ts" not in table.columns:
                table.kind = "other"
                table.questions = ["it has no times, and other logs have: it is left out; which column holds them?"]


def _document(tables: Sequence[Table], name: str, root: str, runs_root: str) -> tomlkit.TOMLDocument:
    document = tomlkit.document()
    document["name"] = name
    if runs_root != "runs":
        document["runs_root"] = runs_root
    data = tomlkit.table()
    data["root"] = root
    carried = _items_from_events(tables)
    if carried:
        data["items_from_events"] = _value(carried)
    document["data"] = data
    for kind in ("events", "items", "users", "judgments"):
        sources = tomlkit.aot()
        for table in tables:
            if table.kind == kind:
                sources.append(_source(table))
        if len(sources):
            data[kind] = sources
    prepare = _prepare(tables)
    if prepare is not None:
        document["prepare"] = prepare
    if not _has_texts(tables, carried):
        text = tomlkit.table()
        text.add("encoder", _value("none", "the files hold no texts: no titles, descriptions or queries"))
        document["text"] = text
    return document


def _has_texts(tables: Sequence[Table], carried: Mapping[str, str]) -> bool:
    """True where a text encoder has something to read: texts of products, or queries."""
    used = [table for table in tables if table.kind in ("events", "items", "judgments")]
    return not _TEXTS.isdisjoint(carried) or any(not _TEXTS.isdisjoint(table.columns) for table in used)


def _prepare(tables: Sequence[Table]) -> tomlkit.items.Table | None:
    logs = [table for table in tables if table.kind == "events"]
    made = tomlkit.table()
    if any(table.settings.get("reject") for table in tables):
        made.add("max_rejected_frac", _value(0.99, "the rules above may leave out most rows"))
    if logs and not any("ts" in table.columns for table in logs):
        remark = "without times: everybody's last event is the test part"
        made.add("split", _value({"kind": "leave_one_out"}, remark))
    return made if len(made) else None


def _source(table: Table) -> tomlkit.items.Table:
    made = tomlkit.table()
    remark = f"{table.sample.frame.height:,} rows looked at, {len(table.sample.columns)} columns"
    made.add("path", _value(table.sample.path, remark))
    remarks = {**table.sample.remarks, **table.remarks}
    settings = {**table.sample.settings, **table.settings}
    joins = [*table.sample.settings.get("join", []), *table.settings.get("join", [])]
    rules = settings.pop("reject", [])
    settings.pop("join", None)
    for key, value in settings.items():
        made.add(key, _value(value, remarks.get(key, "")))
    columns = {role: table.columns[role] for role in _ROLES if role in table.columns}
    needed = {role: source for role, source in columns.items() if role != source}
    for role in columns:
        made.add(tomlkit.comment(f"{role} = {columns[role]}: {table.remarks.get(role, '')}"[:_LINE]))
    if needed:
        made["columns"] = _value(needed)
    for note in table.notes:
        made.add(tomlkit.comment(note[:_LINE]))
    for question in table.questions:
        made.add(tomlkit.comment(f"QUESTION: {question}"[:_LINE]))
    for key, rows in (("join", joins), ("reject", rules)):
        if rows:
            tables = tomlkit.aot()
            for row in rows:
                inner = tomlkit.table()
                for field, value in row.items():
                    inner[field] = _value(value)
                tables.append(inner)
            made[key] = tables
    return made


def _value(value: Any, remark: str = "") -> Item:
    if isinstance(value, dict):
        inline: InlineTable = tomlkit.inline_table()
        for key, inner in value.items():
            inline[key] = _value(inner)
        made: Item = inline
    elif isinstance(value, tuple | list):
        made = tomlkit.item([_value(inner) for inner in value])
    else:
        made = tomlkit.item(value)
    return made.comment(remark) if remark else made


def _items_from_events(tables: Sequence[Table]) -> dict[str, str]:
    """Product fields of the log, where no table is a catalogue."""
    logs = [table for table in tables if table.kind in ("events", "judgments")]
    if not logs or any(table.kind == "items" for table in tables):
        return {}
    item = logs[0].columns.get("item_id", "")
    worded = item in logs[0].profile and share(logs[0].profile[item].texts.str.contains(r"\pL{3} \pL{3}")) > 0.3
    named = worded or logs[0].remarks.get("item_id") == NAMES_AS_IDS
    made = {"title": item} if named and all(item in table.profile for table in logs) else {}
    for role in [role for role in _FROM_EVENTS if role not in made]:
        scores = {
            name: _title_fit(name, column, item) if role == "title" else fit(role, name)
            for name, column in logs[0].profile.items()
            if all(name in table.profile for table in logs) and len(column.texts) and column.time is None
            and (role == "price") == is_price(column) and not (role == "brand" and plain_name(name) == "store")
            and not (role == "title" and names_a_person(name))
            and name not in {c for r, c in logs[0].columns.items() if r != "value"} and _is_beside(name, item)
        }  # fmt: skip
        best = max(scores, key=lambda one: scores[one], default="")
        if best and scores[best] >= 0.5 and best not in made.values():
            made[role] = best
    return made


def _title_fit(name: str, column: Column, item: str) -> float:
    """Fit of a log's column to the titles of its products."""
    if names_a_person(name):
        return 0.0
    return (fit("title", name) or 0.5 * _may_be_title(name, column)) + 0.3 * _is_named_as(name, item)


def _may_be_title(name: str, column: Column) -> bool:
    """True for descriptions, and for products named in words next to their ids (`Item` beside `SKU`)."""
    worded = share(column.texts.head(2_000).str.contains(r"\pL{3} \pL{3}")) > 0.3
    return fit("description", name) >= 0.9 or (worded and fit("item_id", name) >= 0.5)


def _is_named_as(name: str, item: str) -> bool:
    """True for the name of what another column numbers (`trackName` beside `trackId`)."""
    thing, _, rest = plain_name(name.rpartition(".")[2]).partition("_")
    return bool(rest) and fit("title", name) >= 0.5 and plain_name(item.rpartition(".")[2]).startswith(f"{thing}_")


def _is_beside(name: str, item: str) -> bool:
    """True for fields of the same object as the product's id, and of objects named after products or categories."""
    parent, _, _ = name.rpartition(".")
    described = any(fit(role, parent) >= 0.5 for role in ("item_id", *_FROM_EVENTS))
    return parent in ("", item.rpartition(".")[0]) or described


def _text(document: tomlkit.TOMLDocument, tables: Sequence[Table], questions: Sequence[str]) -> str:
    head = [
        "# Written by `txrec init` from the first rows of the files. Comments say what was seen and how sure it is:",
        "# sure, likely (by name or by values alone), guess. Check it with `txrec prepare --check`.",
    ]
    unused = [table for table in tables if table.kind == "other"]
    head += [f"# Not used: {table.sample.path} ({', '.join(table.sample.columns[:8])})"[:_LINE] for table in unused]
    for question in questions:
        head.append(f"# QUESTION: {question}")
    return "\n".join(head) + "\n" + tomlkit.dumps(document)
