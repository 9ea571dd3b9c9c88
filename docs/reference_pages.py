"""Reference page generator: configuration, command line and HTTP reference as Markdown, made from the code itself.

python docs/reference_pages.py reference/configuration.md       prints one page
"""

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import typer.main

from txrec.config_reference import reference, table_cell


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
        f"| `{name}` | {table_cell(' '.join(text.split()))} |"
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
        f"| `{parameter['name']}` | {parameter['in']} | {table_cell(parameter.get('description', ''))} |"
        for parameter in operation.get("parameters", [])
    ]
    if parameters:
        lines.append("\n".join(["| parameter | in | |", "|---|---|---|", *parameters]))
    answers = [
        f"| {status} | {table_cell(answer.get('description', ''))} | {_answer(answer)} |"
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
        f"| `{field}` | {table_cell(_reference(value))}{'' if field in required else ', optional'} |"
        f" {table_cell(' '.join(value.get('description', '').split()))} |"
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
    "reference/configuration.md": reference,
    "reference/command-line.md": command_line,
    "reference/http.md": http,
}
"""Path of every generated page below `docs/` and the function that writes it."""


if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
