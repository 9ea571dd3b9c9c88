"""Configuration reference: every setting of the tree as Markdown, with type, bounds, default and docstring."""

import inspect
import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from txrec.config import Config


def reference() -> str:
    """Markdown page with one table per section of the tree."""
    parts = [
        "# Configuration",
        "Every setting of a configuration file, by section. In TOML a section is a table (`[train]`), on the command"
        " line a dotted key (`train.max_epochs=5`). An unknown key is an error that names the nearest known one.",
    ]
    described: dict[type[BaseModel], str] = {}
    for heading, path, section in _sections(Config, "", many=False):
        if section in described:
            parts.append(f"{heading}\n\nThe same settings as [`{described[section]}`](#{_anchor(described[section])}).")
            continue
        described[section] = path
        parts += [heading, inspect.getdoc(section) or "", _settings(section, path)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _sections(section: type[BaseModel], path: str, many: bool) -> Iterator[tuple[str, str, type[BaseModel]]]:
    """Heading, dotted path and class of a section and of all below it."""
    name = f"`[[{path}]]`" if many else f"`[{path}]`" if path else "Top level"
    yield f"## {name} {{ #{_anchor(path)} }}", path, section
    for key, field in section.model_fields.items():
        inner, several = section_of(field.annotation)
        if inner is not None:
            yield from _sections(inner, f"{path}.{key}".lstrip("."), several)


def _anchor(path: str) -> str:
    return path.replace(".", "-") or "top-level"


def section_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The section that a field holds, and whether it holds a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for inner in get_args(annotation):
        section, _ = section_of(inner)
        if section is not None:
            return section, get_origin(annotation) is tuple
    return None, False


def _settings(section: type[BaseModel], path: str) -> str:
    rows = []
    for name, field in section.model_fields.items():
        if section_of(field.annotation)[0] is None:
            key = f"{path}.{name}".lstrip(".")
            text = table_cell(" ".join((field.description or "").split()))
            rows.append(f'| <span id="{key}"></span>`{name}` | {_type(field)} | {_default(field)} | {text} |')
    return "\n".join(["| setting | type | default | |", "|---|---|---|---|", *rows]) if rows else ""


def _type(field: FieldInfo) -> str:
    name = _type_name(field.annotation)
    bounds = [_bound(constraint) for constraint in field.metadata]
    return table_cell(", ".join([f"{name}", *filter(None, bounds)]))


def _type_name(annotation: Any) -> str:
    arguments = get_args(annotation)
    if str(get_origin(annotation)) == "typing.Literal":
        return " or ".join(f"`{argument}`" for argument in arguments)
    if get_origin(annotation) is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"list of {_type_name(arguments[0])}"
        return f"list of {len(arguments)} ({', '.join(map(_type_name, arguments))})"
    if get_origin(annotation) is dict:
        return f"table of {_type_name(arguments[1])}"
    if arguments:
        return " or ".join(_type_name(argument) for argument in arguments if argument is not type(None))
    known = {str: "text", bool: "true or false", int: "whole number", float: "number", Any: "any"}
    return known.get(annotation, str(annotation))


def _bound(constraint: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "pattern": "matches", "max_length": "length ≤"}
    return " ".join(
        f"{sign} {f'`{value}`' if name == 'pattern' else value}"
        for name, sign in signs.items()
        if (value := getattr(constraint, name, None)) is not None
    )


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        return "required"
    return table_cell(f"`{json.dumps(default, ensure_ascii=False)}`") if default is not None else "unset"


def table_cell(text: str) -> str:
    """Text as it stands in a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def effective(config: Config) -> dict[str, Any]:
    """The whole tree with its defaults as plain TOML values; settings without a value are left out."""
    return _without_none(config.model_dump(mode="json"))


def _without_none(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value)
        if isinstance(value, dict)
        else [_without_none(one) if isinstance(one, dict) else one for one in value]
        if isinstance(value, list)
        else value
        for key, value in tree.items()
        if value is not None
    }
