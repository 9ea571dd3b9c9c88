"""Reference page generator: configuration, command line and HTTP reference as Markdown, made from the code itself.

python docs/reference_pages.py reference/configuration.md       prints one page
"""

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast, get_args, get_origin

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


def configuration() -> str:
    """Configuration reference: one table per section of the tree, with type, bounds, default and docstring."""
    from txrec.config import Config

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
        inner, several = _section_of(field.annotation)
        if inner is not None:
            yield from _sections(inner, f"{path}.{key}".lstrip("."), several)


def _anchor(path: str) -> str:
    return path.replace(".", "-") or "top-level"


def _section_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The section that a field holds, and whether it holds a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for inner in get_args(annotation):
        section, _ = _section_of(inner)
        if section is not None:
            return section, get_origin(annotation) is tuple
    return None, False


def _settings(section: type[BaseModel], path: str) -> str:
    rows = []
    for name, field in section.model_fields.items():
        if _section_of(field.annotation)[0] is None:
            key = f"{path}.{name}".lstrip(".")
            text = _cell(" ".join((field.description or "").split()))
            rows.append(f'| <span id="{key}"></span>`{name}` | {_type(field)} | {_default(field)} | {text} |')
    return "\n".join(["| setting | type | default | |", "|---|---|---|---|", *rows]) if rows else ""


def _type(field: FieldInfo) -> str:
    name = _type_name(field.annotation)
    bounds = [_bound(constraint) for constraint in field.metadata]
    return _cell(", ".join([f"{name}", *filter(None, bounds)]))


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
    return _cell(f"`{json.dumps(default, ensure_ascii=False)}`") if default is not None else "unset"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def command_line() -> str:
    """Command line reference: the help page of every command."""
    from pipelines.__main__ import app

    group = typer.main.get_command(app)
    context = group.make_context("txrec", [], resilient_parsing=True)
    parts = ["# Command line", inspect.cleandoc(group.help or ""), _parameters(group, context)]
    for path, command in _commands(group, ("txrec",)):
        usage = " ".join(command.collect_usage_pieces(command.make_context(path[-1], [], resilient_parsing=True)))
        heading = "## " + " ".join(path)
        parts += [heading, f"```\n{' '.join(path)} {usage}\n```", inspect.cleandoc(command.help or "")]
        parts.append(_parameters(command, context))
    return "\n\n".join(part for part in parts if part) + "\n"


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


def _parameters(command: Any, context: Any) -> str:
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [
        f"| `{name}` | {_cell(' '.join(text.split()))} |"
        for name, text in filter(None, records)
        if "--help" not in name
    ]
    return "\n".join(["| | |", "|---|---|", *rows]) if rows else ""


def http() -> str:
    """HTTP reference: every endpoint and body of the OpenAPI document."""
    document = _openapi()
    parts = ["# HTTP", document["info"]["description"].strip(), "## Endpoints"]
    for path, methods in document["paths"].items():
        parts += [_endpoint(path, method, operation) for method, operation in methods.items()]
    parts.append("## Bodies")
    parts += [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return "\n\n".join(part for part in parts if part) + "\n"


def _openapi() -> dict[str, Any]:
    from serve.ingress import create_app
    from serve.types import Service

    return create_app(cast(Service, None)).openapi()


def _endpoint(path: str, method: str, operation: dict[str, Any]) -> str:
    lines = [f"### `{method.upper()} {path}`", operation.get("description") or operation.get("summary", "")]
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        lines.append(f"Body: {_reference(content['application/json']['schema'])}.")
    parameters = [
        f"| `{parameter['name']}` | {parameter['in']} | {_cell(parameter.get('description', ''))} |"
        for parameter in operation.get("parameters", [])
    ]
    if parameters:
        lines.append("\n".join(["| parameter | in | |", "|---|---|---|", *parameters]))
    answers = [
        f"| {status} | {_cell(answer.get('description', ''))} | {_answer(answer)} |"
        for status, answer in sorted(operation["responses"].items())
    ]
    lines.append("\n".join(["| status | | body |", "|---|---|---|", *answers]))
    return "\n\n".join(line for line in lines if line)


def _answer(answer: dict[str, Any]) -> str:
    return ", ".join(
        _reference(content["schema"]) if content.get("schema") else f"`{kind}`"
        for kind, content in answer.get("content", {}).items()
    )


def _reference(schema: dict[str, Any]) -> str:
    """Type of a JSON schema in a few words, with links to the bodies that it names."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        kinds = [_reference(kind) for kind in schema["anyOf"] if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds)) + (" or null" if {"type": "null"} in schema["anyOf"] else "")
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_reference(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_reference(schema['additionalProperties'])}"
    return str(schema.get("type", "any"))


def _schema(name: str, schema: dict[str, Any]) -> str:
    lines = [f"### {name} {{ #{name.lower()} }}", " ".join(schema.get("description", "").split())]
    required = set(schema.get("required", []))
    rows = [
        f"| `{field}` | {_cell(_reference(value))}{'' if field in required else ', optional'} |"
        f" {_cell(' '.join(value.get('description', '').split()))} |"
        for field, value in schema.get("properties", {}).items()
    ]
    if rows:
        lines.append("\n".join(["| field | type | |", "|---|---|---|", *rows]))
    elif "properties" not in schema:
        lines.append(f"A {_reference(schema)}.")
    lines += [
        f"```json\n{json.dumps(example, indent=2, ensure_ascii=False)}\n```" for example in schema.get("examples", [])
    ]
    return "\n\n".join(line for line in lines if line)


PAGES: dict[str, Callable[[], str]] = {
    "reference/configuration.md": configuration,
    "reference/command-line.md": command_line,
    "reference/http.md": http,
}
"""Path of every generated page below `docs/` and the function that writes it."""


if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
