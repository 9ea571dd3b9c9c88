"""Documentation: it builds, its links lead somewhere, its commands, settings and request bodies are valid."""

import ast
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main
from pydantic import BaseModel

from pipelines.__main__ import app
from tests.documents import DOCUMENTS, ROOT, Block, all_blocks, http_request, shell_commands
from txrec.config import Config
from txrec.config_loader import load, parse
from txrec.config_reference import reference, section_of
from txrec.errors import ConfigError

SHELL = ("", "sh", "bash", "shell")
GENERATOR = runpy.run_path(str(ROOT / "docs" / "reference_pages.py"))


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return GENERATOR["_openapi"]()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_holds_every_page(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        path = page.relative_to(ROOT / "docs").with_suffix("")
        folder = site / (path.parent if path.name == "index" else path)
        assert (folder / "index.html").is_file(), page


@pytest.mark.slow
def test_every_page_is_in_the_navigation(site: Path) -> None:
    start = (site / "index.html").read_text()
    navigation = start.split('class="md-nav md-nav--primary', 1)[1].split("md-content", 1)[0]
    linked = {link.rstrip("/") for link in re.findall(r'href="([^"#]*)"', navigation)}
    pages = {page.parent.relative_to(site).as_posix() for page in site.rglob("index.html")} - {"."}
    assert pages <= linked | {"assets"}, pages - linked


@pytest.mark.slow
def test_no_page_fetches_anything_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = re.findall(r'<(?:script|img|iframe)[^>]*src="(https?://[^"]*)"', page.read_text())
        fetched += re.findall(r'<link[^>]*href="(https?://[^"]*)"', page.read_text())
        assert fetched == [], page


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_line_is_longer_than_120_characters_except_in_tables(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    long = [number for number, line in enumerate(lines, 1) if len(line) > 120 and not line.lstrip().startswith("|")]
    assert long == []


@pytest.mark.parametrize("file", sorted(ROOT.glob("*.md")), ids=lambda file: file.name)
def test_the_links_of_documents_beside_docs_lead_to_files(file: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (ROOT / link).exists()] == []


@pytest.mark.parametrize(
    "file",
    [file for file in DOCUMENTS if file.parent.name != "experiments" and file.name != "CHANGELOG.md"],
    ids=lambda file: file.relative_to(ROOT).as_posix(),
)
def test_every_file_of_the_code_that_a_document_names_exists(file: Path) -> None:
    pattern = r"`((?:txrec|pipelines|serve|tests|bench|docs|deploy|configs)/[\w./-]+?)(?::\d+)?`"
    named = set(re.findall(pattern, file.read_text(encoding="utf-8"))) - {"configs/shop.toml"}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("folder", ["decisions", "experiments"])
def test_the_index_of_a_folder_links_every_page_of_it(folder: str) -> None:
    index = (ROOT / "docs" / folder / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs" / folder).glob("*.md")} - {"index.md"}
    assert pages == set(re.findall(r"\]\(([\w.-]+\.md)\)", index))


@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "experiments").glob("2*.md")), ids=lambda file: file.stem)
def test_an_experiment_states_question_setting_results_and_conclusion(file: Path) -> None:
    parts = re.split(r"^## ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [part.split("\n", 1)[0] for part in parts[1:]] == ["Question", "Setting", "Results", "Conclusion"]
    assert all(len(part.split("\n", 1)[1].strip()) > 20 for part in parts[1:])


def _settings(section: type[BaseModel], path: str) -> Iterator[str]:
    """Dotted names of all settings and sections."""
    for name, field in section.model_fields.items():
        key = f"{path}.{name}".lstrip(".")
        yield key
        inner, _ = section_of(field.annotation)
        if inner is not None:
            yield from _settings(inner, key)


@pytest.mark.parametrize(
    "file",
    [file for file in DOCUMENTS if "experiments" not in file.parts],
    ids=lambda file: file.relative_to(ROOT).as_posix(),
)
def test_every_setting_that_a_document_names_exists(file: Path) -> None:
    known = set(_settings(Config, ""))
    sections = "|".join(name for name in Config.model_fields if "." not in name)
    named = set(
        re.findall(rf"`((?:{sections})(?:\.[a-z_0-9]+)+)(?:=[^`]*| = [^`]*)?`", file.read_text(encoding="utf-8"))
    )
    files = {name for name in named if name.endswith((".json", ".html", ".toml", ".py", ".app"))}
    assert sorted(named - files - known) == []


def _txrec_commands() -> list[tuple[Block, list[str]]]:
    found = []
    for block in all_blocks():
        if block.language in SHELL and "docs/experiments" not in str(block.file):
            for words in shell_commands(block):
                program = "python -m pipelines" if words[:3] == ["python", "-m", "pipelines"] else words[0]
                if program in ("txrec", "python -m pipelines"):
                    found.append((block, words[len(program.split()) :]))
    return found


@pytest.mark.parametrize(
    ("block", "words"), _txrec_commands(), ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_every_txrec_command_of_the_documents_is_one_that_the_command_line_takes(
    block: Block, words: list[str]
) -> None:
    command: Any = typer.main.get_command(app)
    arguments = list(words)
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        assert name in command.commands, f"{block.where}: no command {name}"
        command = command.commands[name]
    if arguments and arguments[-1] != "--help" and arguments != ["--version"]:
        command.make_context("txrec", list(arguments))
    overrides = [word for word in arguments if re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)*=.*", word, re.S)]
    load(ROOT / "configs" / "demo.toml", overrides)


@pytest.mark.parametrize("block", all_blocks("toml"), ids=lambda block: block.where)
def test_every_toml_block_is_a_valid_configuration(block: Block) -> None:
    tree = tomllib.loads(block.text)
    parse({"name": "shop", **tree}, block.where)


def test_an_unknown_setting_in_a_toml_block_would_be_noticed() -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        parse({"name": "shop", "train": {"max_epoch": 3}}, "block")


def _curl_commands() -> list[tuple[Block, list[str]]]:
    commands = [(block, words) for block in all_blocks() if block.language in SHELL for words in shell_commands(block)]
    return [(block, words) for block, words in commands if words[0] == "curl"]


@pytest.mark.parametrize(
    ("block", "words"), _curl_commands(), ids=lambda value: value[-1] if isinstance(value, list) else ""
)
def test_every_curl_command_calls_an_endpoint_with_a_valid_body(
    block: Block, words: list[str], openapi: dict[str, Any]
) -> None:
    request = http_request(words)
    schema = _body_schema(openapi, request.method, request.path, None)
    if request.body is not None:
        _validate(json.loads(request.body), schema, openapi)


@pytest.mark.parametrize("block", all_blocks("json"), ids=lambda block: block.where)
def test_every_json_block_says_what_it_is_and_bodies_fit_the_api(block: Block, openapi: dict[str, Any]) -> None:
    body = json.loads(block.text)
    assert block.title, f'{block.where}: give the block a title, e.g. title="POST /v1/search" or "200 POST /v1/search"'
    if matched := re.fullmatch(r"(?:(\d{3}) )?(GET|POST|PUT|DELETE) (/\S+)", block.title):
        status, method, path = matched.groups()
        _validate(body, _body_schema(openapi, method, path, status), openapi)


@pytest.mark.parametrize("block", all_blocks("python"), ids=lambda block: block.where)
def test_every_python_block_compiles_and_imports_names_that_exist(block: Block) -> None:
    tree = ast.parse(block.text)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module([*imports], []), block.where, "exec"), {})


def _body_schema(openapi: dict[str, Any], method: str, path: str, status: str | None) -> dict[str, Any] | None:
    """Schema of the request body of an endpoint, or of its answer with a status."""
    plain = path.split("?", maxsplit=1)[0]
    for template, methods in openapi["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]+\}", ".+", template), plain) and method.lower() in methods:
            operation = methods[method.lower()]
            holder = operation["responses"][status] if status else operation.get("requestBody", {})
            return holder.get("content", {}).get("application/json", {}).get("schema")
    unlisted = {"/docs", "/metrics", "/console", "/openapi.json", "/health/live", "/health/ready"}
    assert plain in unlisted, f"no endpoint {method} {path}"
    return None


def _validate(body: Any, schema: dict[str, Any] | None, openapi: dict[str, Any]) -> None:
    assert schema is not None, "the endpoint takes no body"
    jsonschema.validate(body, {**schema, "components": openapi["components"]})


def test_the_configuration_reference_has_every_setting_of_the_tree() -> None:
    page = reference()

    def settings(section: type[BaseModel]) -> Iterator[str]:
        for name, field in section.model_fields.items():
            inner, _ = section_of(field.annotation)
            yield from [f"| `{name}` |"] if inner is None else settings(inner)

    rows = re.sub(r'<span id="[^"]*"></span>', "", page)
    assert [row for row in settings(Config) if row[:-2] not in rows] == []


def test_the_command_line_reference_has_every_command() -> None:
    page = GENERATOR["command_line"]()
    for name in ("prepare", "train", "recommend", "export-events", "serve"):
        assert f"## txrec {name}\n" in page
    assert "--top-k" in page


def test_the_http_reference_has_every_endpoint_and_body(openapi: dict[str, Any]) -> None:
    page = GENERATOR["http"]()
    for path, methods in openapi["paths"].items():
        for method in methods:
            assert f"### `{method.upper()} {path}`" in page
    for name in openapi["components"]["schemas"]:
        assert f"{{ #{name.lower()} }}" in page
